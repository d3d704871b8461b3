//! Errors as vendors sent them.

use super::*;

/// A line that says what it is, then the body.
const ANSWERS: &str = include_str!("answers.txt");

#[test]
fn answers_of_vendors_have_their_class() {
    let mut lines = ANSWERS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    while let (Some(line), body) = (lines.next(), lines.next()) {
        let [kind, status, class, source] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(source.starts_with("https://"), "{line}");
        let failure = answer(kind, status.parse().unwrap(), body.unwrap());
        assert_eq!(failure.class.name(), class, "{line} {body:?}");
        count += 1;
    }
    assert!(count >= 100, "{count}");
}

#[test]
fn words_are_looked_for_at_the_start_of_a_long_text() {
    let class = |before: usize| {
        let message = "é".repeat(before) + " maximum context length";
        answer("openai", 400, &json!({"error": {"message": message}}).to_string()).class
    };
    assert_eq!((class(2_000), class(4_000)), (ContextTooLong, BadRequest));
}

#[test]
fn a_sentence_is_the_whole_text() {
    let class = |message: &str| answer("openai", 400, &json!({"error": message}).to_string()).class;
    let table = [
        ("Model not found: grok-2", ModelUnavailable),
        (" Model not found: grok-2\n", ModelUnavailable),
        ("Model not found: grok-2 (request id: 2025)", ModelUnavailable),
        ("Model not found: grok-2 or so", BadRequest),
        ("'Model not found: grok-2'", BadRequest),
        ("model not found: grok-2", BadRequest),
        ("x is not a valid model ID", ModelUnavailable),
        ("The tool x is not a valid model ID", BadRequest),
    ];
    for (message, expected) in table {
        assert_eq!(class(message), expected, "{message}");
    }
}
