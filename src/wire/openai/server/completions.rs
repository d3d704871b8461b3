//! `POST /v1/completions`, which came before chats (<https://platform.openai.com/docs/api-reference/completions/create>). The
//! prompt is a user's message.

use super::{
    chat::{parameters, usage_wanted},
    fields::Fields,
    frames,
    head::{self, Head, Kind},
};
use crate::wire::{
    Asked, ChatEvent, ChatReply, Content, ErrorReport, FieldError, Input, Message, Output, Stamp, TokenUsage,
    WriteAnswer,
};
use serde_json::{Value, json};

const COMPLETION: Kind = Kind { object: "text_completion", prefix: "cmpl-" };

/// Fields that change the answer, and for which a chat has no word.
const REFUSED: &[(&str, &str)] = &[
    ("suffix", "chats insert nothing before a text"),
    ("logprobs", "chats tell log probabilities in another form"),
];

/// Reads a request for translation.
///
/// # Errors
/// What cannot be read, or said to another kind of provider.
pub fn read(body: &[u8]) -> Result<Asked, FieldError> {
    let mut fields = Fields::body(body)?;
    let prompt = prompt(&mut fields)?;
    if fields.flag("echo")? {
        return Err(fields.wrong("echo", "chats do not repeat the prompt"));
    }
    if fields.count("best_of")?.is_some_and(|best_of| best_of > 1) {
        return Err(fields.wrong("best_of", "chats do not choose among answers"));
    }
    for (name, why) in REFUSED {
        fields.refuse(name, why)?;
    }
    let writer = Writer { usage_wanted: usage_wanted(&mut fields)?, ..Writer::default() };
    let mut request = parameters(fields)?;
    request.messages =
        vec![Message { role: "user".to_owned(), content: Content::Text(prompt), ..Message::default() }];
    Ok(Asked { input: Input::Chat(Box::new(request)), writer: Box::new(writer) })
}

fn prompt(fields: &mut Fields<'_>) -> Result<String, FieldError> {
    let wrong = |fields: &Fields<'_>, why: &str| Err(fields.wrong("prompt", why));
    match fields.take("prompt") {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        None | Some(Value::String(_)) => wrong(fields, "is required and must not be empty"),
        Some(Value::Array(mut items)) => match (items.pop(), items.is_empty()) {
            (Some(Value::String(text)), true) if !text.is_empty() => Ok(text),
            (Some(Value::String(_)), _) => wrong(fields, "must be one text: chats answer one at a time"),
            _ => wrong(fields, "must be a text: chats take no tokens"),
        },
        Some(_) => wrong(fields, "is not a string"),
    }
}

/// Writes the answer to one prompt (API reference, "The completion object").
#[derive(Default)]
struct Writer {
    head: Head,
    usage_wanted: bool,
    usage: Option<TokenUsage>,
}

fn choice(index: i32, text: &str, finish_reason: Option<&str>) -> Value {
    // Calls of tools have no place here.
    let finish_reason = finish_reason.map(|reason| match head::finish_reason(reason) {
        "tool_calls" | "function_call" => "stop",
        other => other,
    });
    json!({"index": index, "text": text, "logprobs": null, "finish_reason": finish_reason})
}

impl WriteAnswer for Writer {
    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8> {
        let Output::Chat(reply) = output else { return Vec::new() };
        let ChatReply { head, choice: first, more_choices, usage, .. } = *reply;
        self.head.learn(&head);
        let all = std::iter::once(&first).chain(&more_choices);
        let choices =
            all.map(|each| choice(each.index, &each.message.content.text(), Some(&each.finish_reason)));
        let mut answer = self.head.piece(stamp, COMPLETION, choices.collect());
        if let Some(usage) = usage {
            answer.insert("usage".to_owned(), head::usage(&usage));
        }
        frames::write(&answer)
    }

    fn event(&mut self, stamp: &Stamp, event: ChatEvent, out: &mut Vec<u8>) {
        if let Some(usage) = event.usage {
            self.usage.get_or_insert_default().update(usage);
        }
        if let Some(rare) = &event.rare {
            self.head.learn(&rare.head);
        }
        let reason = Some(event.finish_reason.as_str()).filter(|reason| !reason.is_empty());
        if event.content.is_empty() && reason.is_none() {
            return;
        }
        let choice = choice(event.index, &event.content, reason);
        let mut chunk = self.head.piece(stamp, COMPLETION, vec![choice]);
        if self.usage_wanted {
            chunk.insert("usage".to_owned(), Value::Null);
        }
        frames::event(&frames::write(&chunk), out);
    }

    fn heard(&mut self, event: &ChatEvent) {
        if let Some(rare) = &event.rare {
            self.head.learn(&rare.head);
        }
    }

    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<u8>) {
        frames::frame(data, out);
    }

    fn end(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        let told = self.usage.take().filter(|_| self.usage_wanted);
        self.head.end(stamp, COMPLETION, told, out);
    }

    fn error(&mut self, _stamp: &Stamp, error: &ErrorReport, out: &mut Vec<u8>) {
        head::failure(error, out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        frames::KEEP_ALIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Choice;

    fn asked(body: &Value) -> Result<Asked, FieldError> {
        read(body.to_string().as_bytes())
    }

    fn stamp() -> Stamp {
        Stamp { id: "1".into(), created: 7, model: "m".into() }
    }

    #[test]
    fn a_prompt_is_a_message() {
        for prompt in [json!("hi"), json!(["hi"])] {
            let body = json!({"model": "m", "prompt": prompt, "max_tokens": 5, "echo": false, "best_of": 1, "suffix": null, "stop": "x"});
            let Input::Chat(request) = asked(&body).unwrap().input else { panic!("a chat") };
            assert_eq!(
                (&*request.messages[0].role, request.messages[0].content.text()),
                ("user", "hi".into())
            );
            assert_eq!(
                (Value::from(request.parameters), request.stop),
                (json!({"max_tokens": 5}), vec!["x".into()])
            );
        }
    }

    #[test]
    fn what_a_chat_has_no_word_for_is_named() {
        let table = [
            (json!({}), "prompt"),
            (json!({"prompt": ""}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": ["a", "b"]}), "prompt"),
            (json!({"prompt": [1, 2]}), "prompt"),
            (json!({"prompt": [[1]]}), "prompt"),
            (json!({"prompt": "a", "echo": true}), "echo"),
            (json!({"prompt": "a", "best_of": 2}), "best_of"),
            (json!({"prompt": "a", "suffix": "b"}), "suffix"),
            (json!({"prompt": "a", "logprobs": 0}), "logprobs"),
        ];
        for (body, field) in table {
            assert_eq!(asked(&body).err().unwrap().field, field, "{body}");
        }
    }

    #[test]
    fn an_answer_is_a_completion() {
        let message = Message { content: Content::Text("ho".into()), ..Message::default() };
        let choice = Choice { message, finish_reason: "tool_calls".into(), ..Choice::default() };
        let reply = ChatReply { choice, usage: Some(TokenUsage::default()), ..ChatReply::default() };
        let mut writer = asked(&json!({"prompt": "a"})).unwrap().writer;
        let whole: Value =
            serde_json::from_slice(&writer.whole(&stamp(), Output::Chat(Box::new(reply)))).unwrap();
        let choices = json!([{"index": 0, "text": "ho", "logprobs": null, "finish_reason": "stop"}]);
        assert_eq!(
            (&whole["object"], &whole["id"], &whole["choices"]),
            (&json!("text_completion"), &json!("cmpl-1"), &choices)
        );
    }

    #[test]
    fn a_stream_is_pieces_of_text() {
        let body = json!({"prompt": "a", "stream": true, "stream_options": {"include_usage": true}});
        let (mut writer, mut out) = (asked(&body).unwrap().writer, Vec::new());
        writer.event(
            &stamp(),
            ChatEvent { reasoning_content: "hm".into(), ..ChatEvent::default() },
            &mut out,
        );
        writer.event(&stamp(), ChatEvent { content: "h".into(), ..ChatEvent::default() }, &mut out);
        let usage = Some(TokenUsage { prompt: 2, ..TokenUsage::default() });
        writer.event(
            &stamp(),
            ChatEvent { finish_reason: "length".into(), usage, ..ChatEvent::default() },
            &mut out,
        );
        writer.end(&stamp(), &mut out);
        let text = String::from_utf8(out).unwrap();
        let chunks: Vec<_> =
            text.split_terminator("\n\n").map(|block| block.strip_prefix("data: ").unwrap()).collect();
        assert_eq!(chunks.len(), 4);
        assert!(chunks[0].contains(r#""text":"h","logprobs":null,"finish_reason":null"#), "{text}");
        assert!(
            chunks[1].contains(r#""finish_reason":"length""#) && chunks[2].contains(r#""prompt_tokens":2"#)
        );
        assert_eq!(chunks[3], "[DONE]");
    }
}
