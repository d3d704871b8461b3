//! Reasoning that a model writes into its text, between `<think>` and `</think>` (DeepSeek R1, Qwen and others on servers
//! without a reasoning parser, such as <https://docs.vllm.ai/en/latest/features/reasoning_outputs.html> has one). Only for
//! servers of which the tenant says so: in other texts these are words like any other.

use crate::wire::{ChatReply, Content, Reasoning};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Where a text is: a tag counts at its beginning alone.
#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    Thinking,
    /// The blanks between reasoning and text are neither's.
    Behind,
    Text,
}

/// Splits one choice's text, cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Think {
    state: State,
    /// What may be the beginning of a tag.
    held: String,
}

impl Think {
    /// Takes more text; gives what is text and what is reasoning.
    pub(super) fn next(&mut self, text: &str) -> (String, String) {
        let mut input = std::mem::take(&mut self.held);
        input.push_str(text);
        let (mut out, mut thought) = (String::new(), String::new());
        let mut rest = input.as_str();
        loop {
            match self.state {
                State::Start => {
                    let trimmed = rest.trim_start();
                    if let Some(tail) = trimmed.strip_prefix(OPEN) {
                        (self.state, rest) = (State::Thinking, tail);
                    } else if OPEN.starts_with(trimmed) {
                        rest.clone_into(&mut self.held);
                        break;
                    } else {
                        self.state = State::Text;
                    }
                }
                State::Thinking => {
                    if let Some((inside, tail)) = rest.split_once(CLOSE) {
                        thought.push_str(inside);
                        (self.state, rest) = (State::Behind, tail);
                    } else {
                        let held = overlap(rest, CLOSE);
                        let (inside, tail) = rest.split_at(rest.len() - held);
                        thought.push_str(inside);
                        tail.clone_into(&mut self.held);
                        break;
                    }
                }
                State::Behind => {
                    rest = rest.trim_start();
                    if rest.is_empty() {
                        break;
                    }
                    self.state = State::Text;
                }
                State::Text => {
                    out.push_str(rest);
                    break;
                }
            }
        }
        (out, thought)
    }

    /// What is left when nothing more comes.
    pub(super) fn rest(&mut self) -> (String, String) {
        let held = std::mem::take(&mut self.held);
        if matches!(self.state, State::Thinking) { (String::new(), held) } else { (held, String::new()) }
    }
}

/// How many bytes at the end may be the start of the tag.
fn overlap(text: &str, tag: &str) -> usize {
    (1..tag.len())
        .rev()
        .find(|length| tag.get(..*length).is_some_and(|start| text.ends_with(start)))
        .unwrap_or(0)
}

/// Splits the texts of a whole answer.
pub(super) fn split(reply: &mut ChatReply) {
    for choice in reply.choices_mut() {
        let message = &mut choice.message;
        let Content::Text(text) = &mut message.content else { continue };
        let mut think = Think::default();
        let (mut content, mut thought) = think.next(text);
        let (more, last) = think.rest();
        content.push_str(&more);
        thought.push_str(&last);
        *text = content;
        if !thought.is_empty() {
            message.reasoning_content.push_str(&thought);
            message.reasoning.push(Reasoning { text: thought, ..Reasoning::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasoning_is_split_off_wherever_it_is_cut() {
        let table = [
            ("<think>hm</think>\n\nyes", "yes", "hm"),
            ("\n<think>\na < b</think>yes </think>", "yes </think>", "\na < b"),
            ("no <think>x</think>", "no <think>x</think>", ""),
            ("<thin", "<thin", ""),
            ("<think>cut </thi", "", "cut </thi"),
            ("", "", ""),
        ];
        for (text, content, reasoning) in table {
            for cut in 0..=text.len() {
                let mut think = Think::default();
                let pieces = [think.next(&text[..cut]), think.next(&text[cut..]), think.rest()];
                let (out, thought): (Vec<_>, Vec<_>) = pieces.into_iter().unzip();
                assert_eq!(
                    (out.concat(), thought.concat()),
                    (content.into(), reasoning.into()),
                    "{text:?} at {cut}"
                );
            }
        }
    }
}
