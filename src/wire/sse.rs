//! Server-sent events, as [WHATWG HTML](https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation)
//! interprets them, from bytes cut anywhere. By hand: the crates there are rescan a long unfinished line with every
//! chunk, or stumble over a byte order mark.
//!
//! Pure, linear in the bytes, and bounded in memory. `id` and `retry` are for clients that reconnect, which none here
//! does: they are read over.

use super::{Decoder, Frame, ReadError, ReadFrames, StreamReader};
use std::collections::VecDeque;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How many bytes of an event are held until it ends.
const MAX_EVENT: usize = 8 << 20;

/// Takes the bytes of an event stream, gives its events: a frame's name is the event's type, and its data are the event's
/// lines of data with line feeds between them.
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
            ready: VecDeque::new(),
        }
    }

    /// How many bytes of an event that has not ended are held.
    #[cfg(any(test, fuzzing))]
    pub fn held(&self) -> usize {
        self.line.len() + self.open.name.len() + self.open.data.len()
    }

    fn end_line(&mut self) -> Result<(), ReadError> {
        let mut line = self.line.as_slice();
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        let line = std::str::from_utf8(line).map_err(|_| ReadError::MALFORMED)?;
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.open);
            // The line feed behind the last line. Without any data there is no event, whatever its name.
            if event.data.pop().is_some() {
                self.ready.push_back(event);
            }
        } else {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut self.open.name),
                "data" => {
                    self.open.data.extend_from_slice(value.as_bytes());
                    self.open.data.push(b'\n');
                }
                // A comment has an empty field; what is unknown is ignored.
                _ => {}
            }
        }
        self.line.clear();
        Ok(())
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
            if self.line.len() + line.len() + self.open.data.len() + self.open.name.len() > self.limit {
                return Err(ReadError::TooLarge);
            }
            self.line.extend_from_slice(line);
            let Some((ending, rest)) = rest.split_first() else { return Ok(()) };
            self.after_return = *ending == b'\r';
            self.end_line()?;
            bytes = rest;
        }
        Ok(())
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
                let text = |data| String::from_utf8(data).unwrap();
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
        ("data\n\ndata\ndata\n\ndata:", &["", "\n"]),
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
    fn what_is_too_large_or_no_text_is_told() {
        assert_eq!(parse(&[b"data: \xff\n\n"]), Err(ReadError::MALFORMED));
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
            events.extend(std::iter::from_fn(|| parser.next()));
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
