//! Which call a fragment of a streamed tool call belongs to, for protocols whose servers do not agree on it: fragments
//! without an index, all with index 0, with the id in each or in none, with a name in pieces or whole in each.

use super::{Extra, ToolCall};

/// A fragment as it comes. Empty texts mean "not there".
#[derive(Debug, Clone, Default)]
pub(super) struct Fragment {
    pub(super) index: Option<i32>,
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) arguments: String,
    pub(super) extra: Extra,
}

/// The tool calls of one choice so far.
///
/// A call is told with its id and its whole name at once: it is held until its first arguments, the next call or the end.
#[derive(Debug, Default)]
pub(super) struct ToolCalls {
    calls: Vec<Call>,
    /// Makes the ids that providers leave out differ from those of other answers.
    answer: String,
}

#[derive(Debug)]
struct Call {
    /// The index that the provider gave.
    index: Option<i32>,
    id: String,
    /// Whether another call has its id.
    twice: bool,
    kind: String,
    name: String,
    arguments: String,
    extra: Extra,
    /// Whether it was told.
    told: bool,
}

impl ToolCalls {
    /// Of the answer with that id, which may be empty.
    pub(super) fn of(&mut self, answer: &str) {
        if self.answer.is_empty() {
            answer.clone_into(&mut self.answer);
        }
    }

    /// Takes a fragment, and gives what can be told now.
    pub(super) fn next(&mut self, fragment: Fragment) -> Vec<ToolCall> {
        let Some(place) = self.place(&fragment) else {
            let mut told = self.tell_all();
            let Fragment { index, id, kind, name, arguments, extra } = fragment;
            if !(id.is_empty() && name.is_empty() && arguments.is_empty()) {
                let twice = self.calls.iter().any(|call| call.id == id);
                self.calls.push(Call { index, id, twice, kind, name, arguments, extra, told: false });
                told.extend(self.tell_begun());
            }
            return told;
        };
        let Some(call) = self.calls.get_mut(place) else { return Vec::new() };
        if call.id.is_empty() {
            call.id = fragment.id;
        }
        if call.kind.is_empty() {
            call.kind = fragment.kind;
        }
        // A name comes whole again, or goes on.
        if !call.told && call.arguments.is_empty() && fragment.name != call.name {
            call.name.push_str(&fragment.name);
        }
        call.arguments.push_str(&fragment.arguments);
        if call.told {
            let gain = ToolCall {
                index: to_index(place),
                arguments: fragment.arguments,
                extra: fragment.extra,
                ..ToolCall::default()
            };
            return if gain.arguments.is_empty() && gain.extra.fields.is_empty() {
                Vec::new()
            } else {
                vec![gain]
            };
        }
        call.extra.fields.extend(fragment.extra.fields);
        self.tell_begun()
    }

    /// What is left when nothing more comes.
    pub(super) fn rest(&mut self) -> Vec<ToolCall> {
        self.tell_all()
    }

    /// The call that a fragment goes on with; none where it begins one.
    fn place(&self, fragment: &Fragment) -> Option<usize> {
        let Fragment { id, name, .. } = fragment;
        let same = |call: &Call| call.id == *id && !call.is_over(fragment);
        if !id.is_empty()
            && let Some(place) = (self.calls.iter())
                .rposition(|call| same(call) && call.index == fragment.index)
                .or_else(|| self.calls.iter().rposition(same))
        {
            return Some(place);
        }
        let at_index =
            |call: &Call| fragment.index.is_none() || call.index.is_none() || call.index == fragment.index;
        let place = self.calls.iter().rposition(at_index)?;
        let call = self.calls.get(place)?;
        let begins = if id.is_empty() {
            // Arguments that are complete are followed by nothing but the next call, if that says its name.
            !name.is_empty() && !call.name.is_empty() && is_complete(&call.arguments)
        } else {
            !call.id.is_empty() || (!name.is_empty() && !call.name.is_empty())
        };
        (!begins).then_some(place)
    }

    /// The last call, where its arguments have begun.
    fn tell_begun(&mut self) -> Vec<ToolCall> {
        let (last, answer) = (self.calls.len().saturating_sub(1), &self.answer);
        let call =
            self.calls.iter_mut().enumerate().filter(|(_, call)| !call.told && !call.arguments.is_empty());
        call.map(|(place, call)| call.tell(place, answer)).take(last + 1).collect()
    }

    fn tell_all(&mut self) -> Vec<ToolCall> {
        let answer = &self.answer;
        let untold = self.calls.iter_mut().enumerate().filter(|(_, call)| !call.told);
        untold.map(|(place, call)| call.tell(place, answer)).collect()
    }
}

impl Call {
    /// Whether a fragment with the same id begins another call: it says another index and a name again.
    fn is_over(&self, fragment: &Fragment) -> bool {
        self.index.is_some()
            && fragment.index.is_some()
            && self.index != fragment.index
            && !fragment.name.is_empty()
            && is_complete(&self.arguments)
    }

    fn tell(&mut self, place: usize, answer: &str) -> ToolCall {
        self.told = true;
        if self.id.is_empty() {
            self.id = made_up(answer, place);
        }
        ToolCall {
            index: to_index(place),
            id: if self.twice { made_up(answer, place) } else { self.id.clone() },
            kind: if self.kind.is_empty() { "function".to_owned() } else { self.kind.clone() },
            name: self.name.clone(),
            arguments: self.arguments.clone(),
            extra: std::mem::take(&mut self.extra),
        }
    }
}

/// An id for a call that the provider gave none. It is the same whenever this answer is read.
pub(super) fn made_up(answer: &str, place: usize) -> String {
    if answer.is_empty() { format!("call_{place}") } else { format!("call_{answer}_{place}") }
}

fn to_index(place: usize) -> i32 {
    i32::try_from(place).unwrap_or(i32::MAX)
}

fn is_complete(arguments: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Given<'a> = (Option<i32>, &'a str, &'a str, &'a str);

    /// What callers make of the fragments, by index: the id, the name, the arguments.
    fn joined(fragments: &[Given<'_>]) -> Vec<(String, String, String)> {
        let mut calls = ToolCalls::default();
        let mut told = Vec::new();
        for (index, id, name, arguments) in fragments {
            told.extend(calls.next(Fragment {
                index: *index,
                id: (*id).into(),
                name: (*name).into(),
                arguments: (*arguments).into(),
                ..Fragment::default()
            }));
        }
        told.extend(calls.rest());
        let mut out: Vec<(String, String, String)> = Vec::new();
        for call in told {
            let place = call.index as usize;
            if place == out.len() {
                assert_eq!(call.kind, "function");
                out.push((call.id, call.name, call.arguments));
            } else {
                assert_eq!((call.id.as_str(), call.name.as_str()), ("", ""), "told once");
                out[place].2.push_str(&call.arguments);
            }
        }
        out
    }

    #[test]
    fn parallel_calls_never_become_one() {
        let two = |a: &str, b: &str| {
            [(a.into(), "f".into(), "{\"x\":1}".into()), (b.into(), "g".into(), "{\"y\":2}".into())]
        };
        let table: [&[Given<'_>]; 8] = [
            &[(Some(0), "a", "f", "{\"x\""), (Some(0), "", "", ":1}"), (Some(1), "b", "g", "{\"y\":2}")],
            &[(None, "a", "f", "{\"x\":1}"), (None, "b", "g", "{\"y\":2}")],
            &[(Some(0), "a", "f", "{\"x\":1}"), (Some(0), "b", "g", "{\"y\":2}")],
            &[(None, "a", "f", "{\"x\""), (None, "", "", ":1}"), (None, "b", "g", "{\"y\":2}")],
            &[(Some(0), "a", "f", ""), (Some(0), "a", "f", "{\"x\":1}"), (Some(0), "b", "g", "{\"y\":2}")],
            &[(Some(1), "a", "f", "{\"x\":1}"), (Some(2), "b", "g", ""), (Some(2), "", "", "{\"y\":2}")],
            &[
                (Some(0), "a", "f", ""),
                (Some(1), "b", "g", ""),
                (Some(0), "", "", "{\"x\":1}"),
                (Some(1), "", "", "{\"y\":2}"),
            ],
            &[(None, "a", "f", "{\"x\":1}"), (None, "b", "g", "{\"y\""), (None, "b", "g", ":2}")],
        ];
        for fragments in table {
            assert_eq!(joined(fragments), two("a", "b"), "{fragments:?}");
        }
        let unnamed: &[Given<'_>] = &[(Some(0), "", "f", "{\"x\":1}"), (Some(0), "", "g", "{\"y\":2}")];
        assert_eq!(joined(unnamed), two("call_0", "call_1"));
        let twice: &[Given<'_>] =
            &[(Some(0), "a", "f", "{\"x\":1}"), (Some(1), "a", "g", "{\"y\""), (Some(1), "a", "", ":2}")];
        assert_eq!(joined(twice), two("a", "call_1"));
    }

    /// A tool whose input is text (<https://platform.openai.com/docs/guides/function-calling#custom-tools>).
    #[test]
    fn a_call_keeps_its_kind() {
        let mut calls = ToolCalls::default();
        let begun =
            Fragment { id: "a".into(), kind: "custom".into(), name: "f".into(), ..Fragment::default() };
        let told = calls.next(begun).into_iter().chain(calls.rest());
        assert_eq!(told.map(|call| call.kind).collect::<Vec<_>>(), ["custom"]);
    }

    #[test]
    fn a_name_in_pieces_is_one_name() {
        let pieces: &[Given<'_>] =
            &[(Some(0), "a", "get_", ""), (Some(0), "", "weather", ""), (Some(0), "", "", "{}")];
        assert_eq!(joined(pieces), [("a".into(), "get_weather".into(), "{}".into())]);
        let late: &[Given<'_>] = &[(Some(0), "", "f", ""), (Some(0), "a", "", "{}")];
        assert_eq!(joined(late), [("a".into(), "f".into(), "{}".into())]);
        assert_eq!(joined(&[(Some(0), "", "", "")]), []);
    }
}
