//! The tools that a client of OpenAI's API offers, and which of them shall be called (API reference, "Create chat
//! completion", `tools`, `tool_choice`, and what came before them: `functions`, `function_call`).

use super::{
    content::cache,
    fields::{Fields, Path},
};
use crate::wire::{FieldError, Tool};
use serde_json::{Value, json};

/// What is asked for.
pub(super) struct Tools {
    /// The functions.
    pub(super) tools: Vec<Tool>,
    /// Which of them shall be called, as `tool_choice` says it.
    pub(super) choice: Option<Value>,
    /// Whether they were given as `functions`: then the answer has a `function_call`.
    pub(super) are_functions: bool,
}

/// Takes the tools out of a request.
pub(super) fn tools(fields: &mut Fields<'_>, at: &Path<'_>) -> Result<Tools, FieldError> {
    let mut tools = Vec::new();
    let here = at.key("tools");
    for (place, item) in fields.list("tools")?.into_iter().enumerate() {
        let here = here.item(place);
        tools.push(tool(Fields::of(item, &here)?, &here)?);
    }
    let here = at.key("functions");
    let functions = fields.list("functions")?;
    let are_functions = tools.is_empty() && !functions.is_empty();
    for (place, item) in functions.into_iter().enumerate() {
        let here = here.item(place);
        tools.push(function(Fields::of(item, &here)?)?);
    }
    let choice = fields.take("tool_choice");
    let old = match fields.take("function_call") {
        Some(Value::Object(named)) => Some(json!({"type": "function", "function": named})),
        other => other,
    };
    Ok(Tools { tools, choice: choice.or(old), are_functions })
}

fn tool(mut fields: Fields<'_>, at: &Path<'_>) -> Result<Tool, FieldError> {
    // A custom tool takes any text, and what OpenAI runs itself others do not have.
    if fields.required("type")? != "function" {
        return Err(
            fields.wrong("type", "is of no sort that other protocols know: only functions can be told")
        );
    }
    let here = at.key("function");
    let tool = fields.take("function").ok_or_else(|| here.wrong("is required"))?;
    let mut tool = function(Fields::of(tool, &here)?)?;
    let mark = cache(&mut fields);
    if !mark.fields.is_empty() {
        tool.extra = mark;
    }
    Ok(tool)
}

/// `strict` is left out, as Anthropic's own translation does
/// (<https://platform.claude.com/docs/en/cli-sdks-libraries/libraries/openai-sdk>): models that do not know it refuse it.
fn function(mut fields: Fields<'_>) -> Result<Tool, FieldError> {
    let parameters = match fields.take("parameters") {
        None => None,
        Some(Value::Object(schema)) => Some(schema),
        Some(_) => return Err(fields.wrong("parameters", "is not an object")),
    };
    Ok(Tool {
        name: fields.required("name")?,
        description: fields.text("description")?.unwrap_or_default(),
        parameters,
        extra: cache(&mut fields),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Value) -> Result<Tools, FieldError> {
        let root = Path::Root;
        tools(&mut Fields::of(body.clone(), &root)?, &root)
    }

    #[test]
    fn functions_are_read_however_they_are_given() {
        let function = json!({"name": "f", "description": "d", "parameters": {"type": "object", "z": 1}, "strict": true});
        let expected = Tool {
            name: "f".into(),
            description: "d".into(),
            parameters: json!({"type": "object", "z": 1}).as_object().cloned(),
            ..Tool::default()
        };
        let new =
            read(&json!({"tools": [{"type": "function", "function": function}], "tool_choice": "required"}));
        let new = new.unwrap();
        assert_eq!((new.tools.as_slice(), new.choice), (&[expected.clone()][..], Some(json!("required"))));
        assert!(!new.are_functions);
        let old = read(&json!({"functions": [function], "function_call": {"name": "f"}})).unwrap();
        let choice = json!({"type": "function", "function": {"name": "f"}});
        assert_eq!((old.tools.as_slice(), old.choice), (&[expected][..], Some(choice)));
        assert!(old.are_functions);
        assert_eq!(read(&json!({"function_call": "none"})).unwrap().choice, Some(json!("none")));
    }

    #[test]
    fn what_others_cannot_be_told_is_named() {
        let table = [
            (json!({"tools": 1}), "tools"),
            (json!({"tools": [1]}), "tools[0]"),
            (json!({"tools": [{"type": "custom", "custom": {"name": "c"}}]}), "tools[0].type"),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
            (json!({"tools": [{"type": "function", "function": {}}]}), "tools[0].function.name"),
            (
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
                "tools[0].function.parameters",
            ),
            (json!({"functions": [{}]}), "functions[0].name"),
        ];
        for (body, field) in table {
            assert_eq!(read(&body).err().unwrap().field, field, "{body}");
        }
    }
}
