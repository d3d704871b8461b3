//! Text to speech: OpenAI's voices, and what asks for one (API reference, "Create speech":
//! <https://platform.openai.com/docs/api-reference/audio/createSpeech>).

use crate::wire::{Recipient, SpokenRequest, Voice};
use serde_json::Value;

/// OpenAI's voices (API reference, "Create speech"), which servers with the same API take as well. Each speaks every
/// language.
pub(crate) const VOICES: &[Voice] = &[
    voice("alloy", "Alloy"),
    voice("ash", "Ash"),
    voice("ballad", "Ballad"),
    voice("coral", "Coral"),
    voice("echo", "Echo"),
    voice("fable", "Fable"),
    voice("nova", "Nova"),
    voice("onyx", "Onyx"),
    voice("sage", "Sage"),
    voice("shimmer", "Shimmer"),
    voice("verse", "Verse"),
];

const fn voice(id: &'static str, name: &'static str) -> Voice {
    Voice { id, name, languages: &[] }
}

/// The body of `POST /audio/speech`. A voice is required there.
pub fn body(to: Recipient<'_>, request: &SpokenRequest) -> Value {
    let first = VOICES.first().map_or("", |voice| voice.id);
    let voice = if request.voice.is_empty() { first } else { &request.voice };
    let mut body = request.parameters.clone();
    for (name, text) in [
        ("model", to.model),
        ("input", &request.text),
        ("voice", voice),
        ("response_format", &request.format),
    ] {
        if !text.is_empty() {
            body.insert(name.to_owned(), text.into());
        }
    }
    request.extra.add_to(&mut body, to.kind);
    Value::Object(body)
}
