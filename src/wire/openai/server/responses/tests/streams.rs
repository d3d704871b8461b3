//! What is written of an answer, in its order.

use super::*;
use crate::wire::{
    Annotation, AnswerHead, ChatReply, Choice, Content, ErrorReport, Message, Output, Part, PartKind,
    Reasoning, TokenUsage,
    fixtures::{call, thought},
};
use serde_json::json;

fn text(text: &str) -> ChatEvent {
    ChatEvent { content: text.into(), ..ChatEvent::default() }
}

fn ends(reason: &str) -> ChatEvent {
    let usage =
        TokenUsage { prompt: 9, completion: 5, total: 14, cached: 4, reasoning: 2, ..TokenUsage::default() };
    ChatEvent { finish_reason: reason.into(), usage: Some(usage), ..ChatEvent::default() }
}

fn written(events: impl IntoIterator<Item = ChatEvent>) -> String {
    shown(&streamed(&mut *passing(), events))
}

/// The names of a stream's events.
fn names(stream: &str) -> Vec<String> {
    frames(stream).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_text() {
    let expected = "\
created {response:[in_progress,[]]}
in_progress {response:[in_progress,[]]}
output_item.added {output_index:0,item:{id:msg_1_0,type:message,status:in_progress,role:assistant,content:[]}}
content_part.added {item_id:msg_1_0,output_index:0,content_index:0,part:{type:output_text,text:,annotations:[],logprobs:[]}}
output_text.delta {item_id:msg_1_0,output_index:0,content_index:0,delta:Hel,logprobs:[]}
output_text.delta {item_id:msg_1_0,output_index:0,content_index:0,delta:lo,logprobs:[]}
output_text.done {item_id:msg_1_0,output_index:0,content_index:0,text:Hello,logprobs:[]}
content_part.done {item_id:msg_1_0,output_index:0,content_index:0,part:{type:output_text,text:Hello,annotations:[],logprobs:[]}}
output_item.done {output_index:0,item:{id:msg_1_0,type:message,status:completed,role:assistant,content:[{type:output_text,text:Hello,annotations:[],logprobs:[]}]}}
completed {response:[completed,[{id:msg_1_0,type:message,status:completed,role:assistant,content:[{type:output_text,text:Hello,annotations:[],logprobs:[]}]}]]}
";
    assert_eq!(written([text("Hel"), text("lo"), ends("stop")]), expected);
}

#[test]
fn reasoning_and_two_calls_at_once() {
    let sign = Reasoning { signature: "s".into(), kind: "anthropic".into(), ..Reasoning::default() };
    let mut first = thought("hm");
    first.reasoning[0].kind = "anthropic".into();
    let whole = Reasoning { text: "hm".into(), ..sign.clone() };
    let events = [
        first,
        ChatEvent { reasoning: vec![sign], ..ChatEvent::default() },
        call(0, "c1", "f", ""),
        call(1, "c2", "g", "{"),
        call(0, "", "", "{\"a\":"),
        call(1, "", "", "}"),
        call(0, "", "", "1}"),
        text("so"),
        ends("tool_calls"),
    ];
    let expected = "\
created {response:[in_progress,[]]}
in_progress {response:[in_progress,[]]}
output_item.added {output_index:0,item:{id:rs_1_0,type:reasoning,summary:[],encrypted_content:null,status:in_progress}}
reasoning_summary_part.added {item_id:rs_1_0,output_index:0,summary_index:0,part:{type:summary_text,text:}}
reasoning_summary_text.delta {item_id:rs_1_0,output_index:0,summary_index:0,delta:hm}
reasoning_summary_text.done {item_id:rs_1_0,output_index:0,summary_index:0,text:hm}
reasoning_summary_part.done {item_id:rs_1_0,output_index:0,summary_index:0,part:{type:summary_text,text:hm}}
output_item.done {output_index:0,item:REASONING}
output_item.added {output_index:1,item:{id:fc_1_1,type:function_call,status:in_progress,call_id:c1,name:f,arguments:}}
function_call_arguments.delta {item_id:fc_1_1,output_index:1,delta:{\\a\\:}
function_call_arguments.delta {item_id:fc_1_1,output_index:1,delta:1}}
function_call_arguments.done {item_id:fc_1_1,output_index:1,name:f,arguments:{\\a\\:1}}
output_item.done {output_index:1,item:CALL}
output_item.added {output_index:2,item:{id:fc_1_2,type:function_call,status:in_progress,call_id:c2,name:g,arguments:}}
function_call_arguments.delta {item_id:fc_1_2,output_index:2,delta:{}}
function_call_arguments.done {item_id:fc_1_2,output_index:2,name:g,arguments:{}}
output_item.done {output_index:2,item:{id:fc_1_2,type:function_call,status:completed,call_id:c2,name:g,arguments:{}}}
output_item.added {output_index:3,item:{id:msg_1_3,type:message,status:in_progress,role:assistant,content:[]}}
content_part.added {item_id:msg_1_3,output_index:3,content_index:0,part:{type:output_text,text:,annotations:[],logprobs:[]}}
output_text.delta {item_id:msg_1_3,output_index:3,content_index:0,delta:so,logprobs:[]}
output_text.done {item_id:msg_1_3,output_index:3,content_index:0,text:so,logprobs:[]}
content_part.done {item_id:msg_1_3,output_index:3,content_index:0,part:{type:output_text,text:so,annotations:[],logprobs:[]}}
output_item.done {output_index:3,item:MESSAGE}
completed {response:[completed,[REASONING,CALL,{id:fc_1_2,type:function_call,status:completed,call_id:c2,name:g,arguments:{}},MESSAGE]]}
";
    let sealed = sealed::seal(&[whole]).unwrap();
    let expected = expected
        .replace(
            "REASONING",
            &format!("{{id:rs_1_0,type:reasoning,summary:[{{type:summary_text,text:hm}}],encrypted_content:{sealed},status:completed}}"),
        )
        .replace("CALL", "{id:fc_1_1,type:function_call,status:completed,call_id:c1,name:f,arguments:{\\a\\:1}}")
        .replace("MESSAGE", "{id:msg_1_3,type:message,status:completed,role:assistant,content:[{type:output_text,text:so,annotations:[],logprobs:[]}]}");
    assert_eq!(written(events), expected);
}

#[test]
fn a_refusal_behind_a_text_that_was_cut() {
    let refusal = ChatEvent { refusal: "no".into(), ..ChatEvent::default() };
    let expected = "\
created {response:[in_progress,[]]}
in_progress {response:[in_progress,[]]}
output_item.added {output_index:0,item:{id:msg_1_0,type:message,status:in_progress,role:assistant,content:[]}}
content_part.added {item_id:msg_1_0,output_index:0,content_index:0,part:{type:output_text,text:,annotations:[],logprobs:[]}}
output_text.delta {item_id:msg_1_0,output_index:0,content_index:0,delta:a,logprobs:[]}
output_text.done {item_id:msg_1_0,output_index:0,content_index:0,text:a,logprobs:[]}
content_part.done {item_id:msg_1_0,output_index:0,content_index:0,part:{type:output_text,text:a,annotations:[],logprobs:[]}}
content_part.added {item_id:msg_1_0,output_index:0,content_index:1,part:{type:refusal,refusal:}}
refusal.delta {item_id:msg_1_0,output_index:0,content_index:1,delta:no}
refusal.done {item_id:msg_1_0,output_index:0,content_index:1,refusal:no}
content_part.done {item_id:msg_1_0,output_index:0,content_index:1,part:{type:refusal,refusal:no}}
output_item.done {output_index:0,item:ITEM}
incomplete {response:[incomplete,[ITEM]]}
";
    let item = "{id:msg_1_0,type:message,status:incomplete,role:assistant,content:[{type:output_text,text:a,annotations:[],logprobs:[]},{type:refusal,refusal:no}]}";
    assert_eq!(written([text("a"), refusal, ends("length")]), expected.replace("ITEM", item));
}

#[test]
fn a_custom_call_has_events_of_its_own() {
    let mut custom = call(0, "c1", "f", "");
    custom.tool_calls[0].kind = "custom".into();
    let expected = "\
output_item.added {output_index:0,item:{id:ctc_1_0,type:custom_tool_call,status:in_progress,call_id:c1,name:f,input:}}
custom_tool_call_input.delta {item_id:ctc_1_0,output_index:0,delta:ls}
custom_tool_call_input.done {item_id:ctc_1_0,output_index:0,input:ls}
output_item.done {output_index:0,item:{id:ctc_1_0,type:custom_tool_call,status:completed,call_id:c1,name:f,input:ls}}
";
    let written = written([custom, call(0, "", "", "ls"), ends("tool_calls")]);
    assert!(written.contains(expected), "{written}");
}

#[test]
fn references_stand_at_the_text() {
    let mut sources = text("");
    sources.rare().annotations = vec![
        Annotation { url: "https://h".into(), ..Annotation::default() },
        Annotation { kind: "file".into(), ..Annotation::default() },
    ];
    let written = written([sources, text("a"), ends("stop")]);
    let citation = "{type:url_citation,url:https://h,title:https://h,start_index:0,end_index:0}";
    let event = format!(
        "output_text.annotation.added {{item_id:msg_1_0,output_index:0,content_index:0,annotation_index:0,annotation:{citation}}}\n"
    );
    assert!(written.contains(&event), "{written}");
    assert!(written.contains(&format!("annotations:[{citation}]")), "{written}");
}

#[test]
fn probabilities_stand_at_the_text() {
    let mut said = text("a");
    let gemini = json!({"chosenCandidates": [{"token": "a", "logProbability": -0.5}]});
    said.rare().logprobs = Some(Box::new(gemini));
    let written = written([said, text("b"), ends("stop")]);
    let token = "logprobs:[{token:a,logprob:-0.5,bytes:[97],top_logprobs:[]}]";
    assert!(written.contains(&format!("delta:a,{token}")), "{written}");
    assert!(written.contains(&format!("text:ab,{token}")), "{written}");
}

#[test]
fn a_signature_does_not_cut_a_message_in_two() {
    let sign =
        Reasoning { signature: "s".into(), kind: "gemini".into(), id: "c1".into(), ..Reasoning::default() };
    let signed = ChatEvent { reasoning: vec![sign.clone()], ..call(0, "c1", "f", "{}") };
    let late = ChatEvent { reasoning: vec![sign.clone()], ..text("b") };
    let items = |events: Vec<ChatEvent>| {
        let stream = streamed(&mut *passing(), events);
        let (_, mut last) = frames(&stream).pop().unwrap();
        last["response"]["output"].take()
    };
    let kinds = |items: &Value| -> Vec<String> {
        items.as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap().to_owned()).collect()
    };
    let output = items(vec![text("a"), signed, ends("tool_calls")]);
    assert_eq!(kinds(&output), ["message", "reasoning", "function_call"]);
    assert_eq!(output[1]["encrypted_content"], json!(sealed::seal(&[sign])));
    let output = items(vec![text("a"), late, ends("stop")]);
    assert_eq!(kinds(&output), ["message", "reasoning"]);
    assert_eq!(output[0]["content"][0]["text"], "ab");
    // What comes back is the message that went out.
    let input = json!({"input": [{"role": "user", "content": "x"}, output[0], output[1]]});
    let messages = read_chat(&input).unwrap().messages;
    assert_eq!((messages.len(), messages[1].reasoning[0].signature.as_str()), (2, "s"));
}

#[test]
fn an_image_is_an_item() {
    let mut image = ChatEvent::default();
    let media = crate::wire::Media {
        source: crate::wire::MediaSource::Data(b"abc".to_vec()),
        mime_type: "image/png".into(),
        ..crate::wire::Media::default()
    };
    image.rare().parts = vec![Part::from(PartKind::Image(media))];
    let written = written([text("a"), image, ends("stop")]);
    let item = "item:{id:ig_1_1,type:image_generation_call,status:completed,output_format:png,result:YWJj}";
    assert!(written.contains(item), "{written}");
}

#[test]
fn an_endless_answer_is_cut() {
    let (mut writer, mut out, mut told) = (passing(), Vec::new(), 0);
    for _ in 0..20_000 {
        out.clear();
        writer.event(&stamp(), text("a"), &mut out);
        writer.event(&stamp(), thought("b"), &mut out);
        told += usize::from(!out.is_empty());
    }
    assert!(out.is_empty() && told > 10_000, "small items count too: {told}");
    writer.end(&stamp(), &mut out);
    let mut lines = out.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: "));
    let last: Value = serde_json::from_slice(lines.next_back().unwrap()).unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(last["response"]["incomplete_details"]["reason"], "max_output_tokens");
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let body = json!({
        "model": "m", "input": "hi", "instructions": "brief", "temperature": 0.5, "metadata": {"a": "b"}, "store": true,
        "tools": [{"type": "function", "name": "f"}], "text": {"verbosity": "low"}, "max_output_tokens": 5, "truncation": "auto",
    });
    let read = || read(body.to_string().as_bytes()).unwrap().writer;
    let events = || {
        let mut first = thought("hm");
        first.rare().head =
            AnswerHead { model: "m-1".into(), service_tier: "flex".into(), ..AnswerHead::default() };
        [first, text("a"), call(0, "c", "f", "{}"), ends("length")]
    };
    let stream = streamed(&mut *read(), events());
    let (name, mut last) = frames(&stream).pop().unwrap();
    assert_eq!(name, "response.incomplete");
    let streamed = last["response"].take();
    let mut message =
        Message { role: "assistant".into(), content: Content::Text("a".into()), ..Message::default() };
    let [first, _, call, end] = events();
    message.reasoning_content = "hm".into();
    message.reasoning = first.reasoning;
    message.tool_calls = call.tool_calls;
    let reply = ChatReply {
        head: first.rare.unwrap().head,
        choice: Choice { message, finish_reason: "length".into(), ..Choice::default() },
        usage: end.usage,
        ..ChatReply::default()
    };
    let whole = read().whole(&stamp(), Output::Chat(Box::new(reply)));
    let whole: Value = serde_json::from_slice(&whole).unwrap();
    assert_eq!(whole, streamed);
    let expected = json!({
        "id": "resp_1", "object": "response", "created_at": 7, "status": "incomplete", "background": false, "error": null,
        "incomplete_details": {"reason": "max_output_tokens"}, "model": "m-1", "output": whole["output"],
        "previous_response_id": null, "service_tier": "flex", "store": false, "truncation": "disabled",
        "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
            "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14},
        "instructions": "brief", "max_output_tokens": 5, "max_tool_calls": null, "metadata": {"a": "b"},
        "parallel_tool_calls": true, "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null},
        "safety_identifier": null, "temperature": 0.5, "text": {"verbosity": "low", "format": {"type": "text"}},
        "tool_choice": "auto", "top_logprobs": 0, "top_p": 1.0,
        "tools": [{"type": "function", "name": "f", "parameters": null, "strict": false}], "user": null,
    });
    assert_eq!(whole, expected);
}

#[test]
fn an_error_ends_the_stream() {
    let report = ErrorReport {
        status: 429,
        reason: "UPSTREAM_RATE_LIMITED".into(),
        message: "slow down".into(),
        field: "parameters.reasoning_effort".into(),
        ..ErrorReport::default()
    };
    for begun in [true, false] {
        let (mut writer, mut out) = (passing(), Vec::new());
        if begun {
            writer.event(&stamp(), text("a"), &mut out);
        }
        out.extend_from_slice(writer.keep_alive());
        writer.error(&stamp(), &report, &mut out);
        writer.end(&stamp(), &mut out);
        let frames = frames(std::str::from_utf8(&out).unwrap());
        let [.., (error, body), (failed, response)] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!((error.as_str(), failed.as_str()), ("error", "response.failed"));
        assert_eq!((&body["code"], &body["error"]["code"]), (&json!("rate_limit_exceeded"), &body["code"]));
        assert_eq!((&body["message"], &body["param"]), (&json!("slow down"), &json!("reasoning.effort")));
        assert_eq!(
            response["response"]["error"],
            json!({"code": "rate_limit_exceeded", "message": "slow down"})
        );
        assert_eq!(response["response"]["id"], "resp_1");
    }
}

/// What a provider with this API sends, frame by frame.
fn passed(writer: &mut dyn WriteAnswer, frames: &[(Value, ChatEvent)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (data, event) in frames {
        writer.frame(data["type"].as_str().unwrap(), data.to_string().as_bytes(), &mut out);
        writer.heard(event);
    }
    out
}

#[test]
fn frames_pass_as_they_came() {
    let (mut writer, mut out) = (passing(), Vec::new());
    writer.frame("response.created", b"{\"type\":\"response.created\",\"x\":1.50}", &mut out);
    writer.frame("", b"{\"type\":\"response.completed\"}", &mut out);
    writer.end(&stamp(), &mut out);
    let expected = "event: response.created\ndata: {\"type\":\"response.created\",\"x\":1.50}\n\n\
                    event: response.completed\ndata: {\"type\":\"response.completed\"}\n\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn another_provider_goes_on_where_frames_ended() {
    let created = json!({"type": "response.created", "sequence_number": 0, "response": {"id": "resp_x", "created_at": 3}});
    let progress =
        json!({"type": "response.in_progress", "sequence_number": 1, "response": {"id": "resp_x"}});
    let added = json!({"type": "response.output_item.added", "sequence_number": 2, "output_index": 0,
        "item": {"type": "message", "id": "msg_x", "content": []}});
    let part = json!({"type": "response.content_part.added", "sequence_number": 3, "item_id": "msg_x", "output_index": 0,
        "content_index": 0, "part": {"type": "output_text", "text": ""}});
    let delta = json!({"type": "response.output_text.delta", "sequence_number": 4, "item_id": "msg_x", "output_index": 0,
        "content_index": 0, "delta": "a"});
    let mut writer = passing();
    let silent = ChatEvent::default;
    let mut out = passed(
        &mut *writer,
        &[(created, silent()), (progress, silent()), (added, silent()), (part, silent()), (delta, text("a"))],
    );
    out.extend(streamed(&mut *writer, [text("b"), ends("stop")]).into_bytes());
    let stream = String::from_utf8(out).unwrap();
    let (_, last) = frames(&stream).pop().unwrap();
    let response = &last["response"];
    assert_eq!((&response["id"], &response["created_at"]), (&json!("resp_x"), &json!(3)));
    assert_eq!(
        (&response["output"][0]["id"], &response["output"][0]["content"][0]["text"]),
        (&json!("msg_x"), &json!("ab"))
    );
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(names(&stream), expected);
}

mod any {
    use super::*;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = ChatEvent> {
        let piece = prop_oneof![
            ".{0,3}".prop_map(|said| text(&said)),
            ".{0,3}".prop_map(|said| thought(&said)),
            ".{0,3}".prop_map(|refusal| ChatEvent { refusal, ..ChatEvent::default() }),
            (0..4, "[a-c]?", "[{}a]{0,3}")
                .prop_map(|(index, id, arguments)| call(index, &id, "f", &arguments)),
        ];
        (piece, prop_oneof![9 => Just(""), 1 => Just("stop"), 1 => Just("length")]).prop_map(
            |(mut event, end)| {
                event.finish_reason = end.into();
                event
            },
        )
    }

    proptest! {
        /// Items are added and done one after the other, no delta stands outside of its item, and what is done says all.
        #[test]
        fn items_are_never_interleaved(events in prop::collection::vec(event(), 0..12)) {
            let said: String = events.iter().map(|event| event.content.as_str()).collect();
            let stream = streamed(&mut *passing(), events);
            let (mut open, mut done) = (None, Vec::new());
            let mut told = String::new();
            for (name, mut data) in frames(&stream) {
                match name.as_str() {
                    "response.output_item.added" => {
                        prop_assert_eq!(open, None);
                        prop_assert_eq!(&data["output_index"], &json!(done.len()));
                        open = Some(data["item"]["id"].clone());
                    }
                    "response.output_item.done" => {
                        prop_assert_eq!(open.take(), Some(data["item"]["id"].clone()));
                        done.push(data["item"].take());
                    }
                    "response.completed" | "response.incomplete" => {
                        prop_assert_eq!(&data["response"]["output"], &json!(done));
                    }
                    _ if data.get("item_id").is_some() => prop_assert_eq!(open.as_ref(), data.get("item_id")),
                    _ => {}
                }
                if name == "response.output_text.delta" {
                    told.push_str(data["delta"].as_str().unwrap());
                }
            }
            prop_assert_eq!(open, None);
            prop_assert_eq!(told, said);
        }
    }
}
