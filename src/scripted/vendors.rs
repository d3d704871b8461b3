//! The vendors' APIs that a scripted upstream speaks. To add one, write a file that implements [`Dialect`] and add a line
//! here.

use super::{
    Recorded, anthropic::Anthropic, cohere::Cohere, dialect::Dialect, gemini::Gemini, openai::OpenAi,
    responses::Responses,
};

/// Every dialect. The first that recognises a request answers it. The last takes what is left.
static DIALECTS: &[&dyn Dialect] = &[&Anthropic, &Cohere, &Gemini, &Responses, &OpenAi];

/// The dialect of that request.
pub(super) fn of(request: &Recorded) -> &'static dyn Dialect {
    DIALECTS.iter().copied().find(|dialect| dialect.serves(request)).unwrap_or(&OpenAi)
}
