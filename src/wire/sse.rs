//! Server-sent events, as [WHATWG HTML](https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation)
//! interprets them, from bytes cut anywhere. By hand: the crates there are rescan a long unfinished line with every
//! chunk, or stumble over a byte order mark.
//!
//! Pure, linear in the bytes, and bounded in memory. `id` and `retry` are for clients that reconnect, which none here
//! does: they are read over.

use super::{Decoder, Frame, ReadError, ReadFrames, StreamReader};
use std::collections::VecDeque;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How many bytes of an event are held until it ends: an event may hold an image.
const MAX_EVENT: usize = 32 << 20;

/// Takes the bytes of an event stream, gives its events: a frame's name is the event's type, and its data are the event's
/// lines of data with line feeds between them.
///
/// Beyond the standard: a comment, and an event without data, is an empty frame, since it shows that the stream is alive.
/// The field `error` is an event of that type (llama.cpp writes errors so). JSON that stands between the events, on one line
/// or on several, is a [stray](Frame::stray) frame.
#[derive(Debug)]
pub struct EventStream {
    limit: usize,
    /// The line that has not ended yet.
    line: Vec<u8>,
    /// The last line ended with a carriage return: a line feed that follows is part of that end.
    after_return: bool,
    /// No line has ended yet: a byte order mark may stand before the first.
    at_start: bool,
    /// The event that has not ended yet; its data with a line feed behind every line.
    open: Frame,
    /// JSON outside of events that has not ended yet.
    stray: Stray,
    ready: VecDeque<Frame>,
}

impl EventStream {
    /// For events of so many bytes at most.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            after_return: false,
            at_start: true,
            open: Frame::default(),
            stray: Stray::default(),
            ready: VecDeque::new(),
        }
    }

    /// How many bytes of an event that has not ended are held.
    pub fn held(&self) -> usize {
        self.line.len() + self.open.name.len() + self.open.data.len() + self.stray.text.len()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if std::mem::take(&mut self.at_start) {
            text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
        }
        self.take_line(text);
        // Its room serves the next line.
        self.line = line;
        self.line.clear();
    }

    fn take_line(&mut self, line: &[u8]) {
        if line.is_empty() {
            return self.end_event();
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.open.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => {
                self.open.data.extend_from_slice(value);
                self.open.data.push(b'\n');
            }
            b"error" => {
                "error".clone_into(&mut self.open.name);
                self.open.data.extend_from_slice(value);
                self.open.data.push(b'\n');
            }
            // Every comment is a sign of life; so many of them need no room.
            b"" => self.live(),
            b"id" | b"retry" => {}
            _ => {
                if let Some(data) = self.stray.line(line) {
                    self.ready.push_back(Frame { stray: true, data, ..Frame::default() });
                }
                return;
            }
        }
        // What an event follows was no JSON.
        self.stray = Stray::default();
    }

    fn end_event(&mut self) {
        let mut event = std::mem::take(&mut self.open);
        // The line feed behind the last line. Without any data there is no event, whatever its name.
        if event.data.pop().is_some() {
            self.ready.push_back(event);
        } else if !event.name.is_empty() {
            self.live();
        }
    }

    /// One empty frame, where the last is none.
    fn live(&mut self) {
        if self.ready.back().is_none_or(|last| *last != Frame::default()) {
            self.ready.push_back(Frame::default());
        }
    }
}

/// JSON in lines of its own, read until its brackets are closed.
#[derive(Debug, Default)]
struct Stray {
    text: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Stray {
    /// Takes a line; gives the text where it is whole.
    fn line(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        if self.text.is_empty()
            && !line.trim_ascii_start().starts_with(b"{")
            && !line.trim_ascii_start().starts_with(b"[")
        {
            return None;
        }
        for byte in line {
            match byte {
                _ if std::mem::take(&mut self.escaped) => {}
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'{' | b'[' if !self.in_string => self.depth += 1,
                b'}' | b']' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        // Between two tokens the end of a line says nothing, and it is none of the bytes that were counted.
        self.text.extend_from_slice(line);
        (self.depth == 0).then(|| std::mem::take(self).text)
    }
}

impl<F: ReadFrames> StreamReader<EventStream, F> {
    /// Reads an event stream whose events are this vendor's frames.
    pub fn of_events(frames: F) -> Self {
        Self::new(EventStream::new(MAX_EVENT), frames)
    }
}

impl Decoder for EventStream {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), ReadError> {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_return) && *first == b'\n' {
                bytes = bytes.get(1..).unwrap_or_default();
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.held() + line.len() > self.limit {
                return Err(ReadError::TooLarge);
            }
            self.line.extend_from_slice(line);
            let Some((ending, rest)) = rest.split_first() else { return Ok(()) };
            self.after_return = *ending == b'\r';
            self.end_line();
            bytes = rest;
        }
        Ok(())
    }

    fn end(&mut self) {
        self.end_line();
        self.end_event();
        if !self.stray.text.is_empty() {
            let data = std::mem::take(&mut self.stray).text;
            self.ready.push_back(Frame { stray: true, data, ..Frame::default() });
        }
    }
}

/// Gives the events that are whole, in order; `None` until more have come.
impl Iterator for EventStream {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Result<Vec<(String, String)>, ReadError> {
        match outcome(chunks, 1 << 20) {
            (events, None) => {
                let text = |data: Vec<u8>| String::from_utf8_lossy(&data).into_owned();
                Ok(events.into_iter().map(|event| (event.name, text(event.data))).collect())
            }
            (_, Some(error)) => Err(error),
        }
    }

    fn events(text: &str) -> Vec<(String, String)> {
        parse(&[text.as_bytes()]).unwrap()
    }

    fn messages(data: &[&str]) -> Vec<(String, String)> {
        data.iter().map(|data| (String::new(), (*data).to_owned())).collect()
    }

    /// The first are the examples of the specification.
    const TABLE: &[(&str, &[&str])] = &[
        ("data: YHOO\ndata: +2\ndata: 10\n\n", &["YHOO\n+2\n10"]),
        (
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            &["first event", "second event", " third event"],
        ),
        ("data\n\ndata\ndata\n\ndata:", &["\n"]),
        ("data:test\n\ndata: test\n\n", &["test", "test"]),
        ("\u{feff}data: marked\n\n", &["marked"]),
        ("\u{feff}\ndata: marked\n\n", &["marked"]),
        ("data: a\u{feff}\n\n", &["a\u{feff}"]),
        ("data: a\r\ndata: b\r\n\r\ndata: c\r\rdata: d\n\r", &["a\nb", "c", "d"]),
        ("retry: 10\nunknown: x\nDATA: no\ndata : no\n\n", &[]),
        ("data: not ended", &[]),
        ("data: not ended\n", &[]),
        ("\n\n\n", &[]),
        ("", &[]),
    ];

    #[test]
    fn streams_mean_what_the_specification_says() {
        for (text, expected) in TABLE {
            assert_eq!(events(text), messages(expected), "{text:?}");
        }
        let named = events("event: add\ndata: 1\n\nevent: lost\n\ndata: 2\n\n");
        assert_eq!(named, [("add".into(), "1".into()), (String::new(), "2".into())]);
    }

    #[test]
    fn a_stream_means_the_same_wherever_it_is_cut() {
        for (text, expected) in TABLE {
            let bytes = text.as_bytes();
            for first in 0..=bytes.len() {
                for second in first..=bytes.len() {
                    let chunks = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                    assert_eq!(
                        parse(&chunks).unwrap(),
                        messages(expected),
                        "{text:?} cut at {first}, {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_too_large_is_told() {
        let mut parser = EventStream::new(100);
        let line = format!("data: {}\n", "x".repeat(40));
        parser.push(line.as_bytes()).unwrap();
        parser.push(line.as_bytes()).unwrap();
        assert_eq!(parser.push(line.as_bytes()), Err(ReadError::TooLarge));
        assert_eq!(EventStream::new(100).push(&[b'x'; 101]), Err(ReadError::TooLarge));
        // Comments are not kept.
        let mut parser = EventStream::new(100);
        for _ in 0..100 {
            parser.push(b": ping\n").unwrap();
        }
    }

    /// What streams are made of, so that most of what is drawn has events in it.
    const TOKENS: &[&[u8]] = &[
        b"data",
        b"event",
        b"id",
        b":",
        b" ",
        b"x",
        "\u{e9}".as_bytes(),
        BYTE_ORDER_MARK,
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"data: y\n\n",
        b"\xff",
    ];

    /// Everything up to an error, and the error.
    fn outcome(chunks: &[&[u8]], limit: usize) -> (Vec<Frame>, Option<ReadError>) {
        let mut parser = EventStream::new(limit);
        let mut events = Vec::new();
        for chunk in chunks {
            let pushed = parser.push(chunk);
            // Signs of life say nothing, and depend on where the bytes are cut.
            events.extend(std::iter::from_fn(|| parser.next()).filter(|frame| *frame != Frame::default()));
            if let Err(error) = pushed {
                return (events, Some(error));
            }
        }
        (events, None)
    }

    proptest! {
        #[test]
        fn any_stream_means_the_same_in_any_pieces(
            drawn in proptest::collection::vec((0..TOKENS.len(), any::<bool>()), 0..60), limit in 8usize..64,
        ) {
            let (mut whole, mut cuts) = (Vec::new(), vec![0]);
            for (token, cut) in drawn {
                whole.extend_from_slice(TOKENS[token]);
                if cut {
                    // Within the token as well.
                    cuts.push(whole.len() - TOKENS[token].len() / 2);
                }
            }
            cuts.push(whole.len());
            let pieces: Vec<_> = cuts.windows(2).map(|ends| &whole[ends[0]..ends[1]]).collect();
            prop_assert_eq!(outcome(&pieces, limit), outcome(&[&whole], limit));
        }
    }
}
