//! What holds for whatever a provider sends: the fuzz targets of this room. A new driver adds a line to
//! [`stream`] for its frames, one to [`answers`] for each answer that it reads, and one to [`bodies`].

#![expect(clippy::missing_panics_doc, reason = "that is what they are for")]

use super::{Target, classify::Classifier, kind, kinds, stamp::Stamp, stream::chat_events};
use crate::{
    balance::{ErrorClass, Failure},
    wire::{
        self, Asked, ChatEvent, ChatReply, ChatRequest, Choice, Decoder, Edit, EmbeddingReply, Endpoint,
        FieldError, Frame, Input, Passed, Protocol, ProviderError, ReadError, ReadFrames, ReadStream,
        Recipient, RerankReply, RerankRequest, StreamReader, Switches, TopLevel, anthropic, cohere, gemini,
        glance, openai, retry_after, sse::EventStream,
    },
};
use bytes::Bytes;
use futures::{StreamExt, future::ready, stream as streams};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::runtime::Runtime;

/// The credential of every target here. One is part of the other.
const SECRETS: [&str; 2] = ["hunter2hunter2", "org-hunter2hunter2/7"];

/// In an input this byte, which text never has, stands for the first secret, and the one behind it for the second.
const SECRET_MARK: u8 = 0xfe;

/// As many characters as a text of a provider may have when it goes out.
const LONGEST_MESSAGE: usize = 512;

thread_local! {
    #[expect(clippy::expect_used, reason = "without a runtime there is nothing to test")]
    static RUNTIME: Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
}

/// Server-sent events: wherever the bytes are cut, the same events, and never more memory than the bound.
pub fn sse(data: &[u8]) {
    let Some((limit, data)) = data.split_first() else { return };
    let limit = usize::from(*limit);
    let (pieces, bytes) = cut(data);
    let whole = events(&[bytes], limit);
    assert_eq!(events(&pieces, limit), whole, "in pieces");
    assert_eq!(events(&bytes.chunks(1).collect::<Vec<_>>(), limit), whole, "byte by byte");
}

/// Streamed answers: wherever they are cut, the same events; nothing after a failure; no good end before the provider
/// has said that it is done.
pub fn stream(data: &[u8]) {
    let (pieces, bytes) = cut(data);
    streamed(&pieces, bytes, openai::stream::Chunks::default, |data| data == b"[DONE]");
    streamed(&pieces, bytes, anthropic::stream::Events::default, |data| typed(data, "message_stop"));
    // These say so by a finish reason alone.
    streamed(&pieces, bytes, gemini::stream::Chunks::default, |_| false);
    streamed(&pieces, bytes, cohere::stream::Events::default, |_| false);
}

/// Streams that are handed on: wherever they are cut, the same frames, and nothing behind a failure. Whole answers of the same
/// bytes: what is no JSON is none.
pub fn passing(data: &[u8]) {
    let (pieces, bytes) = cut(data);
    for endpoint in ENDPOINTS {
        let read = |pieces: &[&[u8]]| {
            let (mut reader, mut found) = (wire::passing(endpoint, true), Vec::new());
            let is_life = |read: &Result<Passed, ReadError>| match read {
                Ok(Passed::Frame { frame, .. }) => frame.data.is_empty(),
                _ => false,
            };
            for piece in pieces {
                reader.push(piece);
                found.extend(reader.by_ref().filter(|read| !is_life(read)));
            }
            reader.end();
            found.extend(reader.by_ref().filter(|read| !is_life(read)));
            assert!(reader.is_closed(), "is not over");
            found
        };
        let whole = read(&[bytes]);
        assert_eq!(read(&pieces), whole, "in pieces");
        let failed = whole.iter().position(Result::is_err);
        assert!(failed.is_none_or(|at| at + 1 == whole.len()), "goes on after its first failure");
        if glance(endpoint, bytes).is_ok() {
            let first = bytes.trim_ascii_start().first();
            assert!(matches!(first, Some(b'{' | b'[')), "an answer that is no JSON");
        }
    }
}

/// What a request says of where it goes: the same as its readers find in it, and changed without harm to the rest.
pub fn top_level(data: &[u8]) {
    let Some((which, body)) = data.split_first() else { return };
    let protocol = if which % 2 == 0 { Protocol::OpenAi } else { Protocol::Gemini };
    let Ok(read) = TopLevel::json(body, protocol) else { return };
    let edit = Edit { model: "new \"name\"", include_usage: true };
    let changed = read.edited(&Bytes::copy_from_slice(body), edit).concat();
    // Halves of surrogate pairs are no value to serde_json, and pass here.
    let (Ok(before), Ok(after)) =
        (serde_json::from_slice::<Value>(body), serde_json::from_slice::<Value>(&changed))
    else {
        assert!(TopLevel::json(&changed, protocol).is_ok(), "broken by a change");
        return;
    };
    assert!(before.is_object());
    assert_eq!(read.model(), before["model"].as_str());
    assert_eq!(read.stream(), before["stream"] == true);
    if read.model().is_some() {
        assert_eq!(after["model"], edit.model);
    }
    if read.leaves_usage_open() {
        assert_eq!(after["stream_options"]["include_usage"], true);
    }
}

/// The same of a form.
pub fn form(body: &[u8]) {
    const TYPE: &str = "multipart/form-data; boundary=x";
    let Ok(read) = TopLevel::form(body, TYPE) else { return };
    let edit = Edit { model: "new name", include_usage: true };
    let changed = read.edited(&Bytes::copy_from_slice(body), edit).concat();
    let again = TopLevel::form(&changed, TYPE);
    let expected = read.model().map(|_| edit.model);
    assert_eq!(again.as_ref().map(|read| (read.model(), read.stream())), Ok((expected, read.stream())));
}

const ENDPOINTS: [Endpoint; 6] = [
    Endpoint::ChatCompletions,
    Endpoint::Responses,
    Endpoint::Messages,
    Endpoint::StreamGenerateContent,
    Endpoint::Images,
    Endpoint::Embeddings,
];

/// Answers without success: some class, and a text that is short and holds no secret.
pub fn error_body(data: &[u8]) {
    let data = with_secrets(data);
    let Some((status, headers, body)) = answer(&data) else { return };
    for classifier in classifiers() {
        let failure = classifier.answer(status, &headers, body, SystemTime::UNIX_EPOCH);
        assert_eq!(failure.http_status, Some(status.as_u16()));
        check_hint(failure.retry_after);
        check_text(&failure);
        check_text(&classifier.unread(ReadError::Reported(Box::new(ProviderError::read(body)))));
    }
}

/// Headers that say how long to stay away: none, or a time within the bounds.
pub fn reset_headers(data: &[u8]) {
    let Some((status, headers, _)) = answer(data) else { return };
    for status in [status.as_u16(), StatusCode::TOO_MANY_REQUESTS.as_u16()] {
        check_hint(retry_after::retry_after(status, &headers, SystemTime::UNIX_EPOCH));
    }
}

/// Whole answers: what is not the protocol is a failure, never an empty success.
pub fn answers(data: &[u8]) {
    let data = with_secrets(data);
    let Some((count, body)) = data.split_first() else { return };
    let count = usize::from(*count);
    let at = |value: &Value, path: &str| value.pointer(path).cloned().unwrap_or_default();

    let says = |_: &Value, reply: &ChatReply| reply.choice != Choice::default();
    whole(body, openai::answer::completion(body), says);
    whole(body, anthropic::answer::message(body), says);
    whole(body, gemini::answer::message(body), says);
    whole(body, cohere::answer::message(body), says);
    let usable = |_: &Value, reply: &EmbeddingReply| {
        reply.vectors.len() == count
            && reply.vectors.iter().all(|vector| !vector.is_empty() && vector.iter().all(|x| x.is_finite()))
    };
    for encoding in ["", "int8", "binary"] {
        whole(body, openai::embeddings::embeddings(body, count, encoding), usable);
        whole(body, cohere::answer::embeddings(body, count, encoding), usable);
    }
    whole(body, gemini::answer::embeddings(body, count), usable);
    whole(body, openai::judge::moderation(body), |_, reply| !reply.results.is_empty());
    let request = RerankRequest {
        documents: vec![String::new(); count],
        top_n: (count / 2) as u32,
        ..RerankRequest::default()
    };
    let ordered = |_: &Value, reply: &RerankReply| {
        let ranked = &reply.results;
        (request.top_n == 0 || ranked.len() <= request.top_n as usize)
            && ranked.iter().all(|one| one.index < count && one.score.is_finite())
            && ranked.is_sorted_by(|a, b| a.score >= b.score && a.index != b.index)
    };
    whole(body, openai::judge::rerank(body, &request), ordered);
    whole(body, cohere::answer::rerank(body, &request), ordered);
    whole(body, openai::answer::models(body), |value, ()| at(value, "/data").is_array());
    whole(body, openai::answer::transcription(body), |value, _| at(value, "/text").is_string());
    whole(body, gemini::answer::count(body), |value, _| !at(value, "/totalTokens").is_null());
    whole(body, anthropic::answer::count(body), |value, _| !at(value, "/input_tokens").is_null());
}

/// The body that each driver makes of a conversation: one, or a refusal that is the request's.
pub fn bodies(request: &ChatRequest) {
    let gemini = |to: Recipient<'_>, request: &ChatRequest, _| gemini::request::chat(to, request);
    let openai = |to: Recipient<'_>, request: &ChatRequest, stream| {
        let body = openai::request::chat(to, request, stream)?;
        Ok(serde_json::to_value(body).unwrap_or_default())
    };
    for make in [openai, anthropic::request::chat, cohere::request::chat, gemini] {
        match make(Recipient { kind: "k", model: "m", switches: Switches::NONE }, request, true) {
            Ok(body) => assert!(body.is_object(), "{body}"),
            Err(error) => {
                assert!(!error.why.is_empty() && !error.field.is_empty(), "a refusal without a reason");
            }
        }
    }
}

type ReadRequest = fn(&[u8]) -> Result<Asked, FieldError>;

/// What reads the requests of clients that speak a vendor's protocol, from their bodies.
const DOORS: &[ReadRequest] = &[
    openai::server::chat::read,
    openai::server::completions::read,
    openai::server::embeddings::read,
    openai::server::rerank::read,
    openai::server::moderations::read,
    openai::server::audio::speech,
    openai::server::responses::read,
    anthropic::server::read,
    anthropic::server::read_count,
    |body| gemini::server::read(body, gemini::server::Framing::Events),
    gemini::server::read_count,
    gemini::server::read_embed,
    gemini::server::read_batch_embed,
];

/// Requests in the words of a vendor's protocol: read, or refused with a reason. A conversation that is read becomes a body
/// of each vendor.
pub fn doors(data: &[u8]) {
    let Some((number, body)) = data.split_first() else { return };
    let Some(read) = DOORS.get(usize::from(*number) % DOORS.len()) else { return };
    match read(body).map(|asked| asked.input) {
        Ok(Input::Chat(request) | Input::CountTokens(request)) => bodies(&request),
        Ok(_) => {}
        Err(error) => assert!(!error.why.is_empty(), "a refusal without a reason"),
    }
}

/// Takes the cuts off: a number, and as many lengths of pieces. The pieces, and what they are pieces of.
fn cut(data: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let (count, data) = data.split_first().map_or((0, data), |(count, data)| (usize::from(count % 16), data));
    let (lengths, bytes) = data.split_at(count.min(data.len()));
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for length in lengths {
        let (piece, tail) = rest.split_at(usize::from(*length).min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces.push(rest);
    (pieces, bytes)
}

/// Everything up to an error, and the error.
fn events(pieces: &[&[u8]], limit: usize) -> (Vec<Frame>, Option<ReadError>) {
    let (mut parser, mut found) = (EventStream::new(limit), Vec::new());
    for piece in pieces {
        let pushed = parser.push(piece);
        let before = found.len();
        // Signs of life say nothing, and depend on where the bytes are cut.
        found.extend(parser.by_ref().filter(|frame| *frame != Frame::default()));
        // What is whole was in these bytes, or is one event that was held.
        let size: usize = found.iter().skip(before).map(|event| event.name.len() + event.data.len()).sum();
        assert!(size <= limit + piece.len(), "{size} bytes of events from {} and {limit}", piece.len());
        assert!(found.iter().all(|event| event.name.len() + event.data.len() <= limit));
        assert!(parser.held() <= limit, "holds {} bytes", parser.held());
        if let Err(error) = pushed {
            return (found, Some(error));
        }
    }
    (found, None)
}

/// One vendor's stream. `ends` knows the data of its last frame.
fn streamed<F: ReadFrames>(
    pieces: &[&[u8]],
    bytes: &[u8],
    frames: impl Fn() -> F,
    ends: impl Fn(&[u8]) -> bool,
) {
    let read = |pieces: &[&[u8]], last: Option<Failure>| -> Vec<Result<ChatEvent, Failure>> {
        let chunks: Vec<_> = pieces.iter().map(|piece| Ok(piece.to_vec())).chain(last.map(Err)).collect();
        let stamp = Stamp::new("openai", &HeaderMap::new());
        let reader = StreamReader::of_events(frames());
        let events = chat_events(streams::iter(chunks), reader, classifier("openai"), stamp);
        let speaks = |event: &Result<ChatEvent, Failure>| !event.as_ref().is_ok_and(ChatEvent::is_empty);
        RUNTIME.with(|runtime| runtime.block_on(events.filter(|event| ready(speaks(event))).collect()))
    };
    let whole = read(&[bytes], None);
    assert_eq!(read(pieces, None), whole, "in pieces");

    let failed = whole.iter().position(Result::is_err);
    assert!(failed.is_none_or(|at| at + 1 == whole.len()), "goes on after its first failure");
    let (frames, _) = events(&[bytes], usize::MAX / 2);
    let done = frames.iter().any(|frame| frame.name != "error" && ends(frame.data.trim_ascii()));
    let finished = whole.iter().flatten().any(|event| !event.finish_reason.is_empty());
    // A whole answer in place of a stream needs no end.
    let finished =
        finished || bytes.trim_ascii_start().first().is_some_and(|first| b"{[\xef".contains(first));
    assert!(failed.is_some() || finished || done, "ends well, and nobody has said so");
    for failure in whole.iter().filter_map(|item| item.as_ref().err()) {
        check_text(failure);
    }

    let broken = read(pieces, Some(Failure::new(ErrorClass::Connection, "broken")));
    assert!(
        done || finished || broken.last().is_some_and(Result::is_err),
        "ends well where the body breaks off"
    );
}

/// Whether this is a JSON object of that type.
fn typed(data: &[u8], kind: &str) -> bool {
    serde_json::from_slice::<Value>(data).is_ok_and(|value| value["type"] == kind)
}

/// The target's credential, in place of its marks.
fn with_secrets(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    for byte in data {
        match byte.checked_sub(SECRET_MARK).and_then(|which| SECRETS.get(usize::from(which))) {
            Some(secret) => out.extend_from_slice(secret.as_bytes()),
            None => out.push(*byte),
        }
    }
    out
}

/// An answer written like HTTP: a line of the status, lines of headers, an empty line, the body.
fn answer(data: &[u8]) -> Option<(StatusCode, HeaderMap, &[u8])> {
    let (status, mut rest) = data.split_at_checked(3)?;
    let status = StatusCode::from_bytes(status).ok()?;
    let mut headers = HeaderMap::new();
    rest = rest.strip_prefix(b"\n").unwrap_or(rest);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (line, tail) = rest.split_at(end);
        rest = tail.strip_prefix(b"\n").unwrap_or_default();
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    Some((status, headers, rest))
}

/// What holds for each whole answer: one that was read is a JSON object without an error in it, and `is_one`.
fn whole<T>(body: &[u8], read: Result<T, ReadError>, is_one: impl Fn(&Value, &T) -> bool) {
    let reply = match read {
        Ok(reply) => reply,
        Err(error) => return check_text(&classifier("openai").unread(error)),
    };
    // What a reader mends need not be a value to others: 1e999, a half of a surrogate pair.
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        assert!(value.is_object() || value.is_array(), "a success from {value}");
        assert_eq!(ProviderError::in_place_of_answer(&value), None, "a success with an error in it: {value}");
        assert!(is_one(&value, &reply), "an empty success from {value}");
    }
}

fn check_text(failure: &Failure) {
    let text = &failure.message;
    assert!(text.chars().count() <= LONGEST_MESSAGE, "a text of {} bytes", text.len());
    assert!(!SECRETS.iter().any(|secret| text.contains(secret)), "a secret in {text:?}");
}

fn check_hint(hint: Option<Duration>) {
    assert!(hint.is_none_or(|hint| !hint.is_zero() && hint <= retry_after::LONGEST), "{hint:?}");
}

fn classifier(name: &str) -> Classifier {
    let fields = [("api_key".to_owned(), SECRETS[0].into()), ("organization".to_owned(), SECRETS[1].into())];
    let base_url = url::Url::parse("http://a/");
    #[expect(clippy::expect_used, reason = "it is a URL")]
    let target = Target {
        tenant: uuid::Uuid::nil(),
        base_url: base_url.expect("a URL"),
        model: String::new(),
        fields: fields.into(),
        switches: crate::wire::Switches::NONE,
        connect_timeout: None,
    };
    #[expect(clippy::expect_used, reason = "it is a kind")]
    Classifier::new(kind(name).expect("a kind"), &target)
}

fn classifiers() -> impl Iterator<Item = Classifier> {
    kinds().map(|kind| classifier(kind.name))
}
