//! Errors of the client library, as ours.

use fred::prelude::{Error, ErrorKind};

/// A command has no answer. Its text holds no key, no value and no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the state store cannot be reached: {text}")]
pub struct RedisError {
    text: String,
    /// Whether it is the trouble of one command, see [`is_of_command`](Self::is_of_command).
    of_command: bool,
}

impl RedisError {
    /// Redis cannot be reached, and why.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), of_command: false }
    }

    /// Redis does not let its user run these commands.
    pub(crate) fn refused(commands: &[String]) -> Self {
        Self::new(format!("its ACL refuses {}", commands.join(", ")))
    }

    /// The same trouble, of one command alone.
    pub(crate) fn of_command(self) -> Self {
        Self { of_command: true, ..self }
    }

    /// Whether it is there and refuses a command, which waiting does not mend. Redis begins so outside of a script, and says
    /// so within one (redis.io/docs/latest/operate/oss_and_stack/management/security/acl).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        ["NOPERM", "ACL", "can't run this command"].iter().any(|word| self.text.contains(word))
    }

    /// Whether it may be the trouble of one command alone: it took too long, or Redis has answered with an error. Anything
    /// else, such as a connection that is gone, is the trouble of all.
    #[must_use]
    pub const fn is_of_command(&self) -> bool {
        self.of_command
    }
}

/// What Redis answers, or why it does not.
pub type Result<T, E = RedisError> = std::result::Result<T, E>;

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        // Of what the system says fred keeps the form for programmers alone.
        let details = error.details();
        let said = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
        let text = format!("{:?}: {}", error.kind(), said.map_or(details, |(message, _)| message));
        // What Redis says in an error is unknown to fred, but for a few words.
        let of_command = matches!(
            error.kind(),
            ErrorKind::Timeout
                | ErrorKind::Backpressure
                | ErrorKind::InvalidArgument
                | ErrorKind::InvalidCommand
                | ErrorKind::Unknown
                | ErrorKind::Parse
                | ErrorKind::NotFound
        );
        Self { text, of_command }
    }
}
