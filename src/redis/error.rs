//! Errors of the client library, as ours.

use fred::prelude::Error;

/// Redis cannot be reached. Its text holds no key, no value and no password.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the state store cannot be reached: {0}")]
pub struct RedisError(pub String);

impl RedisError {
    /// Redis does not let its user run these commands.
    pub(crate) fn refused(commands: &[String]) -> Self {
        Self(format!("its ACL refuses {}", commands.join(", ")))
    }

    /// Whether it is there and refuses a command, which waiting does not mend. Redis begins so outside of a script, and says
    /// so within one (redis.io/docs/latest/operate/oss_and_stack/management/security/acl).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        ["NOPERM", "ACL", "can't run this command"].iter().any(|word| self.0.contains(word))
    }
}

/// What Redis answers, or why it does not.
pub type Result<T, E = RedisError> = std::result::Result<T, E>;

impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        // Of what the system says fred keeps the form for programmers alone.
        let details = error.details();
        let said = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
        Self(format!("{:?}: {}", error.kind(), said.map_or(details, |(message, _)| message)))
    }
}
