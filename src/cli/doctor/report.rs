//! The report of the doctor, for people and for machines.

use serde::Serialize;
use std::fmt::Write;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Failure,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// One finding.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    level: Level,
    found: String,
    /// What to do; none where nothing is wrong.
    next: Option<String>,
}

/// All findings, in the order they were made.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn ok(&mut self, name: impl Into<String>, found: impl Into<String>) {
        self.add(name, Level::Ok, found, None);
    }

    pub(super) fn warning(
        &mut self,
        name: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(name, Level::Warning, found, Some(next.into()));
    }

    pub(super) fn failure(
        &mut self,
        name: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) {
        self.add(name, Level::Failure, found, Some(next.into()));
    }

    fn add(&mut self, name: impl Into<String>, level: Level, found: impl Into<String>, next: Option<String>) {
        self.checks.push(Check { name: plain(&name.into()), level, found: plain(&found.into()), next });
    }

    /// Puts another report's findings behind these.
    pub(super) fn append(&mut self, other: Self) {
        self.checks.extend(other.checks);
    }

    /// Whether nothing is a failure.
    pub(super) fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.level < Level::Failure)
    }

    /// One JSON object.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    /// A line a finding, a line below it for what to do, and the sum.
    pub(super) fn text(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for Check { name, level, found, next } in &self.checks {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{:<7}  {name:<width$}  {found}", level.name());
            if let Some(next) = next {
                let _ = writeln!(text, "{:<7}  {:<width$}  next: {next}", "", "");
            }
        }
        let count = |level| self.checks.iter().filter(|check| check.level == level).count();
        let (ok, warnings, failures) = (count(Level::Ok), count(Level::Warning), count(Level::Failure));
        let plural = |count| if count == 1 { "" } else { "s" };
        let _ = write!(
            text,
            "\n{ok} ok, {warnings} warning{}, {failures} failure{}",
            plural(warnings),
            plural(failures)
        );
        text
    }
}

/// A line of its own, whatever a server or a tenant has put into it.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
