//! Content that does not stand where it does at OpenAI.

use base64::{Engine, prelude::BASE64_STANDARD};
use rota::{
    api::pb::{Media, Part, ProviderSwitches, media::Source, part::Kind as PartKind},
    scripted::{Raw, Script},
};
use serde_json::{Value, json};

use super::{Outcome, RPCS, Rig, Rpc, answered, chunk, chunks, completion, end, whole};
use crate::support::kinds::{ANTHROPIC, COHERE, GEMINI, OPENAI_COMPATIBLE};

/// The answer of OpenAI's wire that is this message, or this delta.
async fn says(rpc: Rpc, message: Value) -> Outcome {
    let script = match rpc {
        Rpc::Whole => whole(&completion(message)),
        Rpc::Stream => chunks(&[chunk(message), end("stop")]),
    };
    answered(&OPENAI_COMPATIBLE, rpc, script).await
}

// DeepSeek (<https://api-docs.deepseek.com/guides/reasoning_model>), vLLM and OpenRouter
// (<https://openrouter.ai/docs/guides/best-practices/reasoning-tokens>), Ollama
// (<https://docs.ollama.com/capabilities/thinking>), Mistral (<https://docs.mistral.ai/capabilities/reasoning>,
// <https://github.com/BerriAI/litellm/issues/16272>).
#[tokio::test(flavor = "multi_thread")]
async fn reasoning_is_found_wherever_it_stands() {
    let text = |text: &str| json!({"type": "text", "text": text});
    for message in [
        json!({"content": "4", "reasoning_content": "hm"}),
        json!({"content": "4", "reasoning": "hm"}),
        json!({"content": "4", "reasoning": "hm", "reasoning_content": ""}),
        json!({"content": "4", "reasoning_content": "hm", "reasoning": null}),
        json!({"content": "4", "thinking": "hm"}),
        json!({"content": "4", "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}),
        json!({"content": "4", "reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]}),
        json!({"content": [{"type": "thinking", "thinking": [text("h"), text("m")]}, text("4")]}),
        json!({"content": [{"type": "thinking", "thinking": "hm"}, text("4")]}),
    ] {
        for rpc in RPCS {
            let outcome = says(rpc, message.clone()).await;
            assert_eq!(outcome.text(), "4", "{message} {rpc:?}");
            assert_eq!(outcome.message().reasoning_content, "hm", "{message} {rpc:?}");
            let pieces = outcome.message().reasoning;
            let told: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
            assert_eq!(
                (told.as_str(), pieces[0].kind.as_str()),
                ("hm", "openai_compatible"),
                "{message} {rpc:?}"
            );
        }
    }
}

// <https://docs.vllm.ai/en/latest/features/reasoning_outputs.html>: without the provider's switch the tags are words.
#[tokio::test(flavor = "multi_thread")]
async fn think_tags_are_words_unless_the_provider_says_otherwise() {
    for rpc in RPCS {
        let outcome = says(rpc, json!({"content": "<think>hm</think>4"})).await;
        assert_eq!(
            (outcome.text(), outcome.message().reasoning_content),
            ("<think>hm</think>4".into(), String::new())
        );
    }
    let pieces = ["<th", "ink>h", "m</thi", "nk>\n\n", "4"].map(|text| chunk(json!({ "content": text })));
    let events: Vec<Value> = pieces.into_iter().chain([end("stop")]).collect();
    let whole_answer = whole(&completion(json!({"content": "<think>hm</think>\n\n4"})));
    for (rpc, script) in [(Rpc::Whole, whole_answer), (Rpc::Stream, chunks(&events))] {
        let rig = Rig::both(&OPENAI_COMPATIBLE, script).await;
        rig.switch(ProviderSwitches { think_tags: true, ..ProviderSwitches::default() }).await;
        let outcome = rig.call(rpc).await;
        assert_eq!(
            (outcome.text().as_str(), outcome.message().reasoning_content.as_str()),
            ("4", "hm"),
            "{rpc:?}"
        );
    }
}

// <https://platform.openai.com/docs/api-reference/chat/object>: parts, the older `function_call`, a refusal.
#[tokio::test(flavor = "multi_thread")]
async fn parts_functions_and_refusals_are_read() {
    for rpc in RPCS {
        let parts = json!({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]});
        assert_eq!(says(rpc, parts).await.text(), "ab", "{rpc:?}");
        let called =
            says(rpc, json!({"content": null, "function_call": {"name": "f", "arguments": "{\"x\":1}"}}))
                .await;
        assert_eq!(called.calls(), [("f".into(), "{\"x\":1}".into())], "{rpc:?}");
        let refused = says(rpc, json!({"content": null, "refusal": "I cannot."})).await;
        assert_eq!(
            (refused.text().as_str(), refused.message().refusal.as_str()),
            ("", "I cannot."),
            "{rpc:?}"
        );
    }
}

fn media(part: &Part) -> (&'static str, Media) {
    match part.kind.clone() {
        Some(PartKind::Image(media)) => ("image", media),
        Some(PartKind::Audio(media)) => ("audio", media),
        Some(PartKind::Document(media)) => ("document", media),
        Some(PartKind::Video(media)) => ("video", media),
        other => panic!("no media: {other:?}"),
    }
}

// OpenRouter (<https://openrouter.ai/docs/guides/overview/multimodal/image-generation>), OpenAI
// (<https://platform.openai.com/docs/guides/audio>), Gemini (<https://ai.google.dev/gemini-api/docs/image-generation>).
#[tokio::test(flavor = "multi_thread")]
async fn images_and_audio_are_parts_of_an_answer() {
    let data = BASE64_STANDARD.encode("bytes");
    let image = json!({"content": "look", "images": [
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}}]});
    let audio = json!({"content": null, "audio": {"id": "audio_1", "data": data, "transcript": "hi", "expires_at": 1}});
    let is_bytes = |media: &Media| media.source == Some(Source::Data(b"bytes".to_vec()));
    for rpc in RPCS {
        let outcome = says(rpc, image.clone()).await;
        assert_eq!(outcome.text(), "look", "{rpc:?}");
        let (sort, own) = media(outcome.message().parts.last().unwrap());
        assert_eq!((sort, own.mime_type.as_str(), is_bytes(&own)), ("image", "image/png", true), "{rpc:?}");
    }
    let outcome = says(Rpc::Whole, audio).await;
    outcome.text();
    let part = outcome.message().parts[0].clone();
    let (sort, own) = media(&part);
    let extra: Value = serde_json::from_str(&part.extra_json).unwrap();
    assert_eq!((sort, is_bytes(&own), &extra["transcript"]), ("audio", true, &json!("hi")));
    let gemini = |mime_type: &str| {
        json!({"candidates": [{"content": {"parts": [{"text": "look"}, {"inlineData": {"mimeType": mime_type, "data": data}}]},
            "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1}})
    };
    for (mime_type, expected) in [("image/png", "image"), ("audio/wav", "audio"), ("video/mp4", "video")] {
        for rpc in RPCS {
            let body = gemini(mime_type);
            let raw = if rpc == Rpc::Whole { Raw::json(&body) } else { Raw::events([&body]) };
            let outcome = answered(&GEMINI, rpc, Script::Raw(raw)).await;
            assert_eq!(outcome.text(), "look", "{mime_type} {rpc:?}");
            let (sort, own) = media(outcome.message().parts.last().unwrap());
            assert_eq!(
                (sort, own.mime_type.as_str(), is_bytes(&own)),
                (expected, mime_type, true),
                "{rpc:?}"
            );
        }
    }
}

// <https://docs.cohere.com/docs/reasoning>.
#[tokio::test(flavor = "multi_thread")]
async fn coheres_thinking_is_reasoning() {
    for rpc in RPCS {
        let rig = Rig::start(&COHERE).await;
        let mut request = rig.scene.request();
        request.parameters_json = r#"{"thinking":{"type":"enabled"}}"#.into();
        let outcome = rig.send(rpc, request).await;
        assert_eq!(outcome.text(), format!("served by {}", rig.scene.keys[0]), "{rpc:?}");
        assert_eq!(outcome.message().reasoning_content, "Round 1: let me think.", "{rpc:?}");
    }
}

// What no field of the contract names is handed on: Anthropic's own tools
// (<https://docs.claude.com/en/docs/agents-and-tools/tool-use/web-search-tool>), and it goes back to that kind as it
// came.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_a_vendors_own_tools_come_and_go_as_they_are() {
    let used =
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "https://example.com", "title": "t", "encrypted_content": "e", "page_age": null}]});
    let text = json!({"type": "text", "text": "found", "citations": [{"type": "web_search_result_location",
        "url": "https://example.com", "title": "t", "encrypted_index": "i", "cited_text": "c"}]});
    let body = json!({"id": "m", "content": [used, found, text], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
    let rig = Rig::both(&ANTHROPIC, whole(&body)).await;
    let outcome = rig.call(Rpc::Whole).await;
    let message = outcome.message();
    assert_eq!(message.content, "found");
    let cited = &message.annotations[0];
    assert_eq!(
        (cited.url.as_str(), cited.title.as_str(), cited.text.as_str()),
        ("https://example.com", "t", "c")
    );
    let opaque: Vec<Value> =
        message.parts[..2].iter().map(|part| serde_json::from_str(&part.extra_json).unwrap()).collect();
    assert_eq!(opaque, [used.clone(), found.clone()]);
    assert_eq!(message.parts[0].extra_json_kinds, ["anthropic"]);
    let mut request = rig.scene.request();
    request.messages = [request.messages.clone(), vec![message.clone()], request.messages].concat();
    rig.send(Rpc::Whole, request.clone()).await.text();
    let sent = rig.sent()["messages"][1]["content"].clone();
    assert_eq!((&sent[0], &sent[1], &sent[2]["text"]), (&used, &found, &json!("found")));
    // Another kind does not know them.
    let other = Rig::start(&OPENAI_COMPATIBLE).await;
    request.key = Some(other.scene.key.clone());
    other.send(Rpc::Whole, request).await.text();
    let sent = other.sent()["messages"][1].to_string();
    assert!(sent.contains("found") && !sent.contains("srvtoolu_1"), "{sent}");
}

// <https://platform.openai.com/docs/api-reference/chat/object>: what stands beside the message.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_the_message_is_handed_on() {
    let body = json!({
        "id": "chatcmpl-1", "model": "m-1", "system_fingerprint": "fp", "service_tier": "flex", "provider": "p",
        "choices": [
            {"index": 0, "message": {"content": "a", "annotations": [{"type": "url_citation", "url_citation": {
                "url": "https://example.com", "title": "t", "start_index": 0, "end_index": 1}}]},
                "finish_reason": "stop", "logprobs": {"content": [{"token": "a", "logprob": -0.25}]}},
            {"index": 1, "message": {"content": "b"}, "finish_reason": "length"},
        ],
    });
    let raw = Raw::json(&body).header("x-request-id", "req_1");
    let reply = answered(&OPENAI_COMPATIBLE, Rpc::Whole, Script::Raw(raw)).await.reply;
    assert_eq!(
        (reply.id.as_str(), reply.model.as_str(), reply.request_id.as_str()),
        ("chatcmpl-1", "m-1", "req_1")
    );
    assert_eq!((reply.system_fingerprint.as_str(), reply.service_tier.as_str()), ("fp", "flex"));
    assert_eq!(reply.logprobs_json, r#"{"content":[{"token":"a","logprob":-0.25}]}"#);
    assert_eq!(reply.extra_json, r#"{"provider":"p"}"#);
    assert_eq!(reply.message.unwrap().annotations[0].url, "https://example.com");
    let [second] = reply.choices.as_slice() else { panic!("{:?}", reply.choices) };
    let text = &second.message.as_ref().unwrap().content;
    assert_eq!((second.index, text.as_str(), second.finish_reason.as_str()), (1, "b", "length"));

    let head = json!({"id": "chatcmpl-1", "model": "m-1", "system_fingerprint": "fp", "choices": [{"index": 0, "delta": {"content": "a"}}]});
    let raw = Raw::events([&head, &end("stop")]).header("x-request-id", "req_1");
    let outcome = answered(&OPENAI_COMPATIBLE, Rpc::Stream, Script::Raw(raw)).await;
    let first = &outcome.messages[0];
    assert_eq!((first.id.as_str(), first.model.as_str()), ("chatcmpl-1", "m-1"));
    assert_eq!((first.system_fingerprint.as_str(), first.request_id.as_str()), ("fp", "req_1"));
}

// <https://docs.claude.com/en/api/messages>; vLLM's `stop_reason`.
#[tokio::test(flavor = "multi_thread")]
async fn the_stop_sequence_is_told() {
    let anthropic = json!({"content": [{"type": "text", "text": "a"}], "stop_reason": "stop_sequence", "stop_sequence": "END"});
    let vllm =
        json!({"choices": [{"message": {"content": "a"}, "finish_reason": "stop", "stop_reason": "END"}]});
    for (kind, body) in [(&ANTHROPIC, anthropic), (&OPENAI_COMPATIBLE, vllm)] {
        let outcome = answered(kind, Rpc::Whole, whole(&body)).await;
        assert_eq!(
            (outcome.said().1.as_str(), outcome.reply.stop_sequence.as_str()),
            ("stop", "END"),
            "{}",
            kind.name
        );
    }
}
