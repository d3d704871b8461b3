//! What the tests of the drivers share.

use super::{Target, classify::Classifier, kind};

/// A target whose key is `hunter2hunter2`.
pub(super) fn target() -> Target {
    let fields = [("api_key".to_owned(), "hunter2hunter2".into())].into();
    Target { base_url: "http://a/".parse().unwrap(), model: "m".into(), fields }
}

/// Classifies for that target, by the rules of that kind.
pub(super) fn classifier(name: &str) -> Classifier {
    Classifier::new(kind(name).unwrap(), &target())
}
