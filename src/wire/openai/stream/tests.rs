//! What chunks mean, however they come.

use super::*;
use crate::wire::{
    StreamReader, TokenUsage, assemble,
    fixtures::{call, end_of, fails, reported, same_wherever_cut, thought, words},
};
use serde_json::{Value, json};

#[test]
fn choices_of_one_chunk_are_events_of_their_own() {
    let data = json!({
        "choices": [
            {"index": 0, "delta": {"content": "a"}, "finish_reason": ""},
            {"index": 1, "delta": {"refusal": "b"}, "finish_reason": "stop"},
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    let events = Chunks::default().chunk(data.to_string().as_bytes()).unwrap();
    let usage = TokenUsage { prompt: 1, completion: 1, total: 2, ..TokenUsage::default() };
    let expected = [
        ChatEvent { content: "a".into(), ..ChatEvent::default() },
        ChatEvent {
            index: 1,
            refusal: "b".into(),
            finish_reason: "stop".into(),
            usage: Some(usage),
            ..ChatEvent::default()
        },
    ];
    assert_eq!(events, expected);
    let empty = Chunks::default().chunk(b"{\"choices\":[],\"prompt_filter_results\":[]}").unwrap();
    assert_eq!(empty, [ChatEvent::default()]);
    assert!(!empty[0].is_content());
}

#[test]
fn an_error_beside_choices_counts() {
    let data = json!({
        "error": {"message": "m", "code": 429},
        "choices": [{"delta": {"content": ""}, "finish_reason": "error"}],
    });
    assert_eq!(reported(Chunks::default().chunk(data.to_string().as_bytes())), ("429".into(), "m".into()));
}

/// Comments, CR LF and CR line ends, several lines of data, text of several bytes a character, and both ends.
const FIXTURE: &str = concat!(
    ": ping\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\r\n\r\n",
    "event: message\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"Grüße 🌍\"}}],\"usage\":null}\n\n",
    ": ping\r\r",
    "data: {\"choices\":[{\"delta\":\ndata: {\"reasoning_content\":\"hm\"}}]}\n\n",
    "id: 7\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"c\",\"type\":\"function\",",
    "\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7}}\n\n",
    "data: [DONE]\n\n",
);

fn read(chunks: &[&[u8]]) -> Vec<Result<ChatEvent, ReadError>> {
    words(Chunks::default(), chunks)
}

fn read_text(text: &str) -> Vec<Result<ChatEvent, ReadError>> {
    read(&[text.as_bytes()])
}

fn expected() -> Vec<Result<ChatEvent, ReadError>> {
    let usage = TokenUsage { prompt: 3, completion: 4, total: 7, ..TokenUsage::default() };
    vec![
        Ok(ChatEvent { content: "Grüße 🌍".into(), ..ChatEvent::default() }),
        Ok(thought("hm")),
        Ok(call(0, "c", "f", "{")),
        Ok(ChatEvent { finish_reason: "stop".into(), usage: Some(usage), ..ChatEvent::default() }),
    ]
}

#[test]
fn a_stream_means_the_same_wherever_it_is_cut() {
    same_wherever_cut(FIXTURE, read, &expected());
}

#[test]
fn nothing_after_done_is_read() {
    let text = format!("{FIXTURE}data: {{\"error\":\"late\"}}\n\n");
    assert_eq!(read_text(&text), expected());
}

#[test]
fn ends_are_told_apart() {
    let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\n";
    let content = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let end = |text: &str| end_of(Chunks::default(), text);

    assert_eq!(end(finish), None);
    assert_eq!(end(&format!("{content}data: [DONE]\n\n")), None);
    assert_eq!(end(content), Some(ReadError::EndedEarly));
    assert_eq!(end(""), Some(ReadError::EndedEarly));
    assert_eq!(end("not an event stream\n\n"), Some(ReadError::EndedEarly));
    assert_eq!(end("data: {\"choices\":\n\n"), Some(ReadError::MALFORMED));
    assert_eq!(read(&[b"data: \xff\n\n"]), [Err(ReadError::EndedEarly)]);
}

#[test]
fn an_error_frame_ends_the_stream() {
    let table = [
        "data: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\ndata: {\"choices\":[]}\n\n",
        "event: error\ndata: {\"message\":\"slow down\",\"code\":429}\n\n",
    ];
    for text in table {
        let mut items = read_text(text);
        let error = reported(items.pop().unwrap());
        assert_eq!((items.len(), error), (0, ("429".into(), "slow down".into())));
    }
    let mut items = read_text("event: error\ndata: it broke\n\n");
    assert_eq!(reported(items.pop().unwrap()).1, "it broke");
}

fn said(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn an_error_outside_of_the_protocol_is_one() {
    let pretty = "{\n  \"error\": {\n    \"code\": 429,\n    \"message\": \"a } b\"\n  }\n}\n";
    let table = [
        (format!("error: {{\"code\":400,\"message\":\"too long\"}}\n\n{DONE}"), 0, "400"),
        (format!("{}error: {{\"code\":500,\"message\":\"m\"}}\n\n{DONE}", said("half")), 1, "500"),
        (format!("{}{pretty}{DONE}", said("half")), 1, "429"),
        (pretty.to_owned(), 0, "429"),
        ("{\"error\":{\"code\":503,\"message\":\"m\"}}".to_owned(), 0, "503"),
        (
            format!(
                "{}data: {{\"object\":\"error\",\"message\":\"m\",\"code\":40001}}\n\n{DONE}",
                said("half")
            ),
            1,
            "40001",
        ),
        (
            format!("data: {{\"base_resp\":{{\"status_code\":1008,\"status_msg\":\"m\"}}}}\n\n{DONE}"),
            0,
            "1008",
        ),
    ];
    for (text, before, code) in table {
        let mut items = read_text(&text);
        assert_eq!(reported(items.pop().unwrap()).0, code, "{text}");
        assert_eq!(items.len(), before, "{text}");
    }
    // What an answer says is never read as an error.
    let quoted = said("{\\\"error\\\":{\\\"message\\\":\\\"m\\\"}}");
    assert!(read_text(&format!("{quoted}{STOP}\n\n")).iter().all(Result::is_ok));
}

#[test]
fn an_untidy_end_is_an_end() {
    for end in ["\n", "", "\r\n\r\n"] {
        let items = read_text(&format!("{}{STOP}{end}", said("served")));
        assert_eq!(items.len(), 2, "{end:?}");
        assert_eq!(items[1].as_ref().unwrap().finish_reason, "stop");
    }
    let half = &STOP[..STOP.len() - 9];
    assert_eq!(end_of(Chunks::default(), &format!("{}{half}", said("served"))), Some(ReadError::EndedEarly));
    assert_eq!(end_of(Chunks::default(), &format!("{}data: [DONE]\n", said("served"))), None);
}

#[test]
fn the_end_comes_once_and_behind_everything() {
    let usage = |n: u32| {
        format!("data: {{\"choices\":[],\"usage\":{{\"prompt_tokens\":{n},\"completion_tokens\":{n}}}}}\n\n")
    };
    let text =
        format!("{}{}{STOP}\n\n{}{STOP}\n\n{}{}{DONE}", said("a"), usage(1), said("b"), usage(3), usage(0));
    let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
    let contents: Vec<_> = items.iter().map(|event| event.content.as_str()).collect();
    assert_eq!(contents, ["a", "b", ""]);
    assert_eq!(items[2].finish_reason, "stop");
    assert_eq!(items[2].usage.unwrap().total, 6);
    assert!(items[..2].iter().all(|event| event.usage.is_none() && event.finish_reason.is_empty()));
}

#[test]
fn an_answer_as_a_whole_is_read_where_a_stream_was_asked_for() {
    let body = json!({"id": "x", "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}});
    for text in [body.to_string(), serde_json::to_string_pretty(&body).unwrap()] {
        let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
        assert_eq!((items[0].content.as_str(), items.last().unwrap().finish_reason.as_str()), ("hi", "stop"));
        assert_eq!(items.last().unwrap().usage.unwrap().prompt, 1);
    }
}

/// OpenRouter counts texts and encrypted data apart (a stream of Gemini's,
/// <https://openrouter.ai/docs/guides/best-practices/reasoning-tokens>).
#[test]
fn pieces_of_reasoning_with_one_number_stay_apart() {
    let chunk = |details: Value| {
        let delta = json!({"content": "", "reasoning": details["text"], "reasoning_details": [details]});
        format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}))
    };
    let text = |text: &str| json!({"type": "reasoning.text", "text": text, "format": "f", "index": 0});
    let data =
        |id: &str| json!({"type": "reasoning.encrypted", "data": "x", "id": id, "format": "f", "index": 0});
    let text =
        [chunk(text("h")), chunk(text("m")), chunk(data("c1")), chunk(data("c2"))].concat() + STOP + "\n\n";
    let reply = assemble(read_text(&text).into_iter().map(Result::unwrap)).unwrap();
    let pieces = &reply.choice.message.reasoning;
    let told: Vec<_> =
        pieces.iter().map(|piece| (piece.index, &*piece.text, &*piece.data, &*piece.id)).collect();
    assert_eq!(told, [(0, "hm", "", ""), (1, "", "x", "c1"), (2, "", "x", "c2")]);
    assert_eq!((&pieces[0].extra["type"], pieces[0].extra.get("index")), (&json!("reasoning.text"), None));
    assert_eq!(
        (&pieces[1].extra["type"], &pieces[1].extra["index"]),
        (&json!("reasoning.encrypted"), &json!(0))
    );
    assert_eq!(reply.choice.message.reasoning_content, "hm");
}

/// Mistral's thinking (<https://docs.mistral.ai/capabilities/reasoning>) and Groq's
/// (<https://console.groq.com/docs/reasoning>).
#[test]
fn reasoning_knows_where_it_stood() {
    let chunk = |delta: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let thinking = |text: &str| json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}], "closed": true}]});
    let table = [
        (chunk(thinking("h")) + &chunk(thinking("m")), json!({"type": "thinking", "closed": true})),
        (chunk(json!({"reasoning": "h"})) + &chunk(json!({"reasoning": "m"})), json!({"field": "reasoning"})),
        (chunk(json!({"reasoning_content": "hm"})), json!({})),
    ];
    for (text, extra) in table {
        let items: Vec<_> = read_text(&(text + STOP + "\n\n")).into_iter().map(Result::unwrap).collect();
        assert!(items[1].reasoning.iter().all(|piece| piece.extra.is_empty()), "told once");
        let reply = assemble(items).unwrap();
        let [piece] = reply.choice.message.reasoning.as_slice() else { panic!("{reply:?}") };
        assert_eq!((piece.text.as_str(), Value::from(piece.extra.clone())), ("hm", extra));
    }
}

/// Databricks (<https://docs.databricks.com/aws/en/machine-learning/model-serving/query-reason-models>).
#[test]
fn reasoning_in_a_summary_is_reasoning() {
    let chunk = |delta: Value| format!("data: {}\n\n", json!({"choices": [{"index": 0, "delta": delta}]}));
    let summary = |text: Value| chunk(json!({"content": [{"type": "reasoning", "summary": [text]}]}));
    let text = summary(json!({"type": "summary_text", "text": "h", "signature": ""}))
        + &summary(json!({"type": "summary_text", "text": "m"}))
        + &summary(json!({"type": "summary_text", "text": "", "signature": "s"}))
        + &said("yes")
        + STOP
        + "\n\n";
    let reply = assemble(read_text(&text).into_iter().map(Result::unwrap)).unwrap();
    let message = &reply.choice.message;
    assert_eq!((&*message.content.text(), &*message.reasoning_content), ("yes", "hm"));
    let [piece] = message.reasoning.as_slice() else { panic!("{message:?}") };
    assert_eq!((&*piece.text, &*piece.signature, &piece.extra["type"]), ("hm", "s", &json!("reasoning")));
}

#[test]
fn what_each_chunk_says_again_is_told_once() {
    let chunk = |text: &str, sources: Value| {
        let choices = json!([{"index": 0, "delta": {"content": text}}]);
        format!("data: {}\n\n", json!({"provider": "p", "citations": sources, "choices": choices}))
    };
    let text = chunk("a", json!(["http://a"])) + &chunk("b", json!(["http://a", "http://b"])) + STOP + "\n\n";
    let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
    let (first, second) = (items[0].rare.as_ref().unwrap(), items[1].rare.as_ref().unwrap());
    let urls =
        |rare: &RareEvent| rare.annotations.iter().map(|source| source.url.clone()).collect::<Vec<_>>();
    assert_eq!((urls(first), urls(second)), (vec!["http://a".to_owned()], vec!["http://b".to_owned()]));
    assert!(first.extra.contains_key("provider") && second.extra.is_empty());
}

#[test]
fn counts_without_a_field_come_once_with_the_usage() {
    let usage = |cost: f64| json!({"prompt_tokens": 3, "cost": cost, "is_byok": false, "prompt_tokens_details": {"video_tokens": 0}});
    let chunk = |text: &str, cost: f64| {
        let choice = json!({"index": 0, "delta": {"content": text}});
        format!("data: {}\n\n", json!({"choices": [choice], "usage": usage(cost)}))
    };
    let text = format!("{}{}{STOP}\n\n{DONE}", chunk("a", 0.25), chunk("b", 0.5));
    let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
    assert!(items[..2].iter().all(|event| event.rare.is_none()));
    assert_eq!(Value::from(items[2].rare.as_ref().unwrap().extra.clone()), json!({"usage": {"cost": 0.5}}));
}

#[test]
fn what_the_answer_says_about_itself_comes_with_its_first_content() {
    let text = concat!(
        "data: {\"id\":\"x\",\"model\":\"m\",\"prompt_filter_results\":[1],\"choices\":[]}\n\n",
        "data: {\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n",
        "data: {\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\n",
    );
    let items: Vec<_> = read_text(text).into_iter().map(Result::unwrap).collect();
    let rare = items[0].rare.as_ref().unwrap();
    assert_eq!((rare.head.id.as_str(), rare.head.model.as_str()), ("x", "m"));
    assert_eq!(rare.extra["prompt_filter_results"], json!([1]));
    assert!(items[1].rare.is_none());
}

#[test]
fn words_and_half_characters_do_no_harm() {
    let text =
        format!("{}data: keep going\n\n{}{}{STOP}\n\n", said("hi \\ud83d"), said("\\ude00!"), said("x"));
    let items: Vec<_> = read_text(&text).into_iter().map(Result::unwrap).collect();
    let content: String = items.iter().map(|event| event.content.as_str()).collect();
    assert_eq!(content, "hi \u{1f600}!x");
    let broken = format!("{}data: {{\"choices\": oops\n\n{STOP}\n\n", said("a"));
    assert_eq!(read_text(&broken).pop(), Some(Err(ReadError::MALFORMED)));
}

#[test]
fn an_endless_event_is_refused() {
    let chunk = vec![b'x'; 1 << 20];
    let mut reader = StreamReader::of_events(Chunks::default());
    reader.push(b"data: ");
    let error = (0..1000).find_map(|_| {
        reader.push(&chunk);
        reader.next()
    });
    assert_eq!((error, reader.next(), reader.is_closed()), (Some(Err(ReadError::TooLarge)), None, true));
}

#[test]
fn many_events_in_one_stream_are_no_endless_event() {
    let frame =
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(1 << 20));
    let mut chunks = vec![frame.as_bytes(); 10];
    chunks.push(b"data: [DONE]\n\n");
    assert_eq!(read(&chunks).len(), 10);
}

#[test]
fn a_byte_order_mark_does_no_harm() {
    let mut bytes = b"\xef\xbb\xbf\n".to_vec();
    bytes.extend_from_slice(FIXTURE.as_bytes());
    assert_eq!(read(&[&bytes]), expected());
}

proptest::proptest! {
    #[test]
    fn no_bytes_break_it(chunks: Vec<Vec<u8>>) {
        proptest::prop_assert!(fails(Chunks::default(), &chunks));
    }
}

#[test]
fn a_stream_of_endless_calls_or_choices_ends() {
    let chunk = |index: usize, calls: Value| {
        let choice = json!({"index": index, "delta": {"content": "a", "tool_calls": calls}});
        format!("data: {}\n\n", json!({ "choices": [choice] }))
    };
    let calls =
        (0..5000).map(|index| json!({"index": index, "id": index.to_string(), "function": {"name": "f"}}));
    for text in [chunk(0, calls.collect()), (0..5000).map(|index| chunk(index, json!([]))).collect()] {
        assert_eq!(words(Chunks::default(), &[text.as_bytes()]).last(), Some(&Err(ReadError::TooLarge)));
    }
}

/// A gateway that answers from its cache sends the whole message as the only chunk
/// (<https://docs.litellm.ai/docs/proxy/caching>); Perplexity sends what was said so far beside each delta
/// (<https://docs.perplexity.ai/api-reference/chat-completions-post>).
#[test]
fn a_whole_message_counts_where_no_delta_says_it() {
    let chunk = |choice: Value| format!("data: {}\n\n", json!({"choices": [choice]}));
    let contents = |text: &str| -> Vec<String> {
        read_text(text)
            .into_iter()
            .map(|item| item.unwrap().content)
            .filter(|text| !text.is_empty())
            .collect()
    };
    let whole =
        |text: &str| chunk(json!({"index": 0, "message": {"content": text}, "finish_reason": "stop"}));
    assert_eq!(contents(&(whole("hi") + DONE)), ["hi"]);
    assert_eq!(contents(&(said("h") + &said("i") + &whole("hi") + DONE)), ["h", "i"]);
    let beside = chunk(json!({"index": 0, "message": {"content": "hi"}, "delta": {"content": "i"}}));
    assert_eq!(contents(&(said("h") + &beside + STOP + "\n\n")), ["h", "i"]);
}

#[test]
fn a_generation_that_broke_off_is_an_error() {
    let end = |reason: &str, delta: Value| {
        format!(
            "data: {}\n\n{DONE}",
            json!({"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})
        )
    };
    for reason in ["network_error", "insufficient_system_resource"] {
        let mut items = read_text(&(said("half") + &end(reason, json!({}))));
        assert_eq!((reported(items.pop().unwrap()).0, items.len()), (reason.to_owned(), 1));
    }
    let unusable = "function_call_filter: MALFORMED_FUNCTION_CALL";
    let mut items = read_text(&end(unusable, json!({"role": "assistant"})));
    assert_eq!(reported(items.pop().unwrap()).0, "MALFORMED_FUNCTION_CALL");
    let items = read_text(&(said("call:f{}") + &end(unusable, json!({}))));
    assert_eq!(items.last().unwrap().as_ref().unwrap().finish_reason, unusable);
}

/// <https://learn.microsoft.com/azure/ai-services/openai/concepts/content-streaming>.
#[test]
fn a_filter_that_leaves_nothing_is_an_error() {
    let table =
        [json!({"content_filter_results": {}}), json!({"delta": {}}), json!({"delta": {"content": ""}})];
    for mut choice in table {
        choice["finish_reason"] = "content_filter".into();
        let chunk = format!("data: {}\n\n{DONE}", json!({"choices": [choice]}));
        assert_eq!(reported(read_text(&chunk).pop().unwrap()).0, "content_filter");
        let items = read_text(&(said("half") + &chunk));
        assert_eq!(items.last().unwrap().as_ref().unwrap().finish_reason, "content_filter");
    }
}

#[test]
fn a_plain_chunk_is_read_as_any_other() {
    let head =
        r#""id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp""#;
    let deltas = [
        r#"{"content":"a"}"#,
        r#"{"role":"assistant","content":"b \"\u00fc","refusal":null}"#,
        r#"{"content":""}"#,
        r#"{"content":null}"#,
        r#"{"content":"c","more":1}"#,
        r#"{"content":"d","content":"e"}"#,
    ];
    let read = |pad: &str| {
        let chunks = deltas.map(|delta| {
            format!(r#"data: {{{head},"choices":[{{"index":0,"delta":{delta},"finish_reason":null{pad}}}],"usage":null}}"#)
        });
        let text =
            format!("{}\n\ndata: {{\"choices\":[{{\"finish_reason\":\"stop\"}}]}}\n\n", chunks.join("\n\n"));
        words(Chunks::default(), &[text.as_bytes()])
    };
    // With a field that no plain chunk has, and that says nothing.
    assert_eq!(read(""), read(r#","error":null"#));
    assert_eq!(read("").len(), 5);
}
