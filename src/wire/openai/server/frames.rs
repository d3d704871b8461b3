//! The events of OpenAI's streams, and the JSON in them.

use serde::Serialize;

/// What ends a stream (<https://platform.openai.com/docs/api-reference/chat-streaming>).
pub(super) const DONE: &[u8] = b"[DONE]";

/// A comment (<https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream>): clients skip it.
pub(super) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Writes JSON.
pub(super) fn write(value: &impl Serialize) -> Vec<u8> {
    // No key of ours is anything but text, which is all that could fail.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Appends one event of a stream: a line `data:` and nothing else, as clients that cut at empty lines need it
/// (<https://github.com/langgenius/dify/issues/15120>).
pub(super) fn event(data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    // Between the tokens of JSON a line's end is no more than a space. Within them there is none.
    out.extend(data.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
}

/// Appends a frame as the provider sent it. What ends the stream comes at its end.
pub(super) fn frame(data: &[u8], out: &mut Vec<u8>) {
    if data.trim_ascii() != DONE {
        event(data, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut out = Vec::new();
        frame(b"{\"a\":\r\n1}", &mut out);
        frame(b" [DONE]", &mut out);
        event(DONE, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "data: {\"a\":  1}\n\ndata: [DONE]\n\n");
    }
}
