//! What the tests of the drivers share.

use super::{Driver, Networks, Payload, Target, UpstreamClient, UpstreamOptions, classify::Classifier, kind};
use crate::balance::Failure;
use http::{HeaderMap, Request};
use std::sync::Arc;

/// A target whose key is `hunter2hunter2`.
pub(super) fn target() -> Target {
    let fields = [("api_key".to_owned(), "hunter2hunter2".into())].into();
    Target {
        tenant: uuid::Uuid::nil(),
        base_url: "http://a/".parse().unwrap(),
        model: "m".into(),
        fields,
        switches: crate::wire::Switches::NONE,
        connect_timeout: None,
    }
}

/// Classifies for that target, by the rules of that kind.
pub(super) fn classifier(name: &str) -> Classifier {
    Classifier::new(kind(name).unwrap(), &target())
}

/// The headers of a request to a target with these fields, after that driver has signed it.
pub(super) fn signed(
    driver: fn(UpstreamClient) -> Arc<dyn Driver>,
    fields: &[(&str, &str)],
) -> Result<HeaderMap, Failure> {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    let target = Target { fields, ..target() };
    let client = UpstreamClient::new(&UpstreamOptions::new(Networks::Private)).unwrap();
    let mut request = Request::new(Payload::default());
    driver(client).sign(&target, &mut request).map(|()| request.headers().clone())
}
