//! Answers that are no streams.

use super::{frames, head};
use crate::wire::{ChatEvent, ErrorReport, Output, Stamp, WriteAnswer};

/// Writes one answer as a whole, by a function of it.
pub(super) struct Once<F> {
    content_type: &'static str,
    write: F,
}

impl<F: FnMut(&Stamp, Output) -> Vec<u8> + Send + Sync> Once<F> {
    /// JSON.
    pub(super) fn json(write: F) -> Self {
        Self::new("application/json", write)
    }

    /// Of another type.
    pub(super) fn new(content_type: &'static str, write: F) -> Self {
        Self { content_type, write }
    }
}

impl<F: FnMut(&Stamp, Output) -> Vec<u8> + Send + Sync> WriteAnswer for Once<F> {
    fn content_type(&self) -> &'static str {
        self.content_type
    }

    fn whole(&mut self, stamp: &Stamp, output: Output) -> Vec<u8> {
        (self.write)(stamp, output)
    }

    fn event(&mut self, _stamp: &Stamp, _event: ChatEvent, _out: &mut Vec<u8>) {}

    fn frame(&mut self, _name: &str, data: &[u8], out: &mut Vec<u8>) {
        frames::frame(data, out);
    }

    fn end(&mut self, _stamp: &Stamp, _out: &mut Vec<u8>) {}

    fn error(&mut self, _stamp: &Stamp, error: &ErrorReport, out: &mut Vec<u8>) {
        head::failure(error, out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        frames::KEEP_ALIVE
    }
}
