//! Which series an expression of PromQL reads. A line of a scrape is one, too.

use std::collections::BTreeSet;

/// What an expression reads.
#[derive(Debug, Default)]
pub struct Reads {
    pub selectors: Vec<Selector>,
    /// Labels after `by`, `on` and the like.
    pub grouped: BTreeSet<String>,
}

/// A metric as an expression asks for it.
#[derive(Debug)]
pub struct Selector {
    pub metric: String,
    /// Label, operator, value.
    pub matchers: Vec<(String, String, String)>,
    /// Over a time, as in `[5m]`.
    pub ranged: bool,
}

/// Before a list of labels.
const GROUPING: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Between operands.
const BETWEEN: &[&str] = &["and", "or", "unless", "offset", "bool"];

enum Token {
    /// A name, a number or a duration.
    Word(String),
    /// What stands in quotes.
    Text(String),
    /// A bracket, a comma, or the signs of one operator.
    Sign(String),
}

impl Token {
    fn is(&self, sign: &str) -> bool {
        matches!(self, Self::Sign(own) if own == sign)
    }
}

/// Reads one expression.
pub fn reads(expression: &str) -> Reads {
    let tokens = tokens(expression);
    let mut reads = Reads::default();
    let mut at = 0;
    while at < tokens.len() {
        let next_is = |sign| tokens.get(at + 1).is_some_and(|token| token.is(sign));
        match &tokens[at] {
            Token::Word(word) if GROUPING.contains(&word.as_str()) && next_is("(") => {
                let list = tokens[at + 2..].iter().take_while(|token| !token.is(")"));
                reads.grouped.extend(list.filter_map(|token| match token {
                    Token::Word(label) => Some(label.clone()),
                    _ => None,
                }));
                at += tokens[at..].iter().take_while(|token| !token.is(")")).count();
            }
            Token::Word(word) if is_metric(word, tokens.get(at + 1)) => {
                let mut selector =
                    Selector { metric: word.clone(), matchers: Vec::new(), ranged: next_is("[") };
                if next_is("{") {
                    at += 2;
                    while let [Token::Word(label), Token::Sign(operator), Token::Text(value), after, ..] =
                        &tokens[at..]
                    {
                        selector.matchers.push((label.clone(), operator.clone(), value.clone()));
                        at += if after.is(",") { 4 } else { 3 };
                    }
                    selector.ranged = tokens.get(at + 1).is_some_and(|token| token.is("["));
                }
                reads.selectors.push(selector);
            }
            // A range.
            token if token.is("[") => {
                at += tokens[at..].iter().take_while(|token| !token.is("]")).count();
            }
            _ => {}
        }
        at += 1;
    }
    reads
}

/// Neither a number nor a keyword, and neither a function nor an aggregation, which stand before a bracket or a `by`.
fn is_metric(word: &str, next: Option<&Token>) -> bool {
    let called = match next {
        Some(Token::Word(next)) => GROUPING.contains(&next.as_str()),
        Some(token) => token.is("("),
        None => false,
    };
    let known = GROUPING.contains(&word) || BETWEEN.contains(&word);
    !called && !known && !word.starts_with(|c: char| c.is_ascii_digit())
}

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_:.$".contains(c);
    let is_operator = |c: char| "=!~<>".contains(c);
    while let Some(sign) = rest.next() {
        let mut text = String::new();
        if sign == '"' {
            while let Some(inner) = rest.next().filter(|inner| *inner != '"') {
                text.push(if inner == '\\' { rest.next().unwrap() } else { inner });
            }
            tokens.push(Token::Text(text));
        } else if !sign.is_whitespace() {
            text.push(sign);
            let more = |c: &char| (is_word(sign) && is_word(*c)) || (is_operator(sign) && is_operator(*c));
            while let Some(next) = rest.next_if(more) {
                text.push(next);
            }
            tokens.push(if is_word(sign) { Token::Word(text) } else { Token::Sign(text) });
        }
    }
    tokens
}
