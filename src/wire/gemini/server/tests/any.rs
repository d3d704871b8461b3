//! What any bytes, any JSON and any events do.

use super::*;
use proptest::prelude::*;

/// Any JSON, with keys that the protocol knows.
fn json_like() -> impl Strategy<Value = Value> {
    const KEYS: &str = "contents|role|parts|text|thought|thoughtSignature|functionCall|functionResponse|name|args|id|\
        response|inlineData|fileData|mimeType|data|fileUri|generationConfig|thinkingConfig|thinkingBudget|tools|\
        functionDeclarations|parameters|type|properties|nullable|anyOf|enum|items|toolConfig|functionCallingConfig|mode|\
        allowedFunctionNames|systemInstruction|responseSchema|requests|content|taskType|[a-z]{1,3}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "user|model|function|ANY|STRING|OBJECT|cm90YTox[A-Za-z0-9]{0,8}|\\PC{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((KEYS, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_event() -> impl Strategy<Value = ChatEvent> {
    let call = (0..3_i32, "[a-z]{0,2}", "[a-z]{0,2}", "[{}\"a:1, ]{0,6}");
    let piece = ("|gemini|anthropic", "\\PC{0,4}", "[a-z]{0,3}", 0..4_i32);
    (0..2_i32, "\\PC{0,6}", prop::option::of(call), prop::option::of(piece), "||||stop|length|tool_calls")
        .prop_map(|(index, content, call, piece, reason)| {
            let mut event = ChatEvent { index, content, finish_reason: reason, ..ChatEvent::default() };
            if let Some((index, id, name, arguments)) = call {
                event.tool_calls = calls(index, &id, &name, &arguments).tool_calls;
            }
            if let Some((kind, text, signature, index)) = piece {
                event.reasoning = thinks(&kind, &text, &signature).reasoning;
                event.reasoning[0].index = index;
                event.reasoning_content = text;
            }
            event
        })
}

/// The texts of a stream, by candidate.
fn texts(chunks: &[Value]) -> [String; 2] {
    let mut texts = [String::new(), String::new()];
    for candidate in chunks.iter().flat_map(|chunk| chunk["candidates"].as_array().unwrap()) {
        let parts = candidate["content"]["parts"].as_array().unwrap();
        assert!(!parts.is_empty(), "no content is without parts");
        for part in parts.iter().filter(|part| part.get("thought").is_none()) {
            let place = usize::try_from(candidate["index"].as_u64().unwrap()).unwrap();
            texts[place].push_str(part["text"].as_str().unwrap_or_default());
        }
    }
    texts
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes: Vec<u8>) {
        let _ = read(&bytes, Framing::Events);
        let _ = read_count(&bytes);
        let _ = read_embed(&bytes);
        let _ = read_batch_embed(&bytes);
    }

    #[test]
    fn no_json_breaks_it(parts in prop::collection::vec(json_like(), 0..4), body in json_like()) {
        for body in [body, json!({"contents": [{"role": "model", "parts": parts}, {"parts": parts}]})] {
            let bytes = body.to_string();
            let _ = read(bytes.as_bytes(), Framing::Array);
            let _ = read_count(bytes.as_bytes());
            let _ = read_embed(bytes.as_bytes());
            let _ = read_batch_embed(bytes.as_bytes());
        }
    }

    #[test]
    fn any_events_are_whole_frames(events in prop::collection::vec(any_event(), 0..12), thoughts: bool) {
        let stream = streamed(&mut *writer_for(Framing::Events, thoughts), events.clone());
        let frames: Vec<Value> = stream
            .split_terminator("\n\n")
            .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").unwrap()).unwrap())
            .collect();
        let array = streamed(&mut *writer_for(Framing::Array, thoughts), events.clone());
        prop_assert_eq!(&serde_json::from_str::<Vec<Value>>(&array).unwrap(), &frames);
        let mut said = [String::new(), String::new()];
        for event in &events {
            said[usize::try_from(event.index).unwrap()].push_str(&event.content);
        }
        prop_assert_eq!(texts(&frames), said);
    }

    #[test]
    fn a_conversation_says_the_same_to_gemini(turns in prop::collection::vec(("[a-z]{1,5}", "[a-z]{1,5}", any::<bool>()), 1..5)) {
        let mut contents = Vec::new();
        for (place, (asked, said, calls)) in turns.iter().enumerate() {
            contents.push(json!({"role": "user", "parts": [{"text": asked}]}));
            let mut parts = vec![json!({"text": said})];
            if *calls {
                parts.push(json!({"functionCall": {"id": format!("t{place}"), "name": said, "args": {"a": asked}}}));
            }
            contents.push(json!({"role": "model", "parts": parts}));
            if *calls {
                let result = json!({"id": format!("t{place}"), "name": said, "response": {"output": asked}});
                contents.push(json!({"role": "user", "parts": [{"functionResponse": result}]}));
            }
        }
        let body = json!({ "contents": contents });
        let asked = read(body.to_string().as_bytes(), Framing::Events).unwrap();
        let Input::Chat(request) = asked.input else { panic!() };
        let to = Recipient { kind: KIND, model: "gemini-2.5-pro", switches: Switches::NONE };
        prop_assert_eq!(crate::wire::gemini::request::chat(to, &request).unwrap(), body);
    }
}
