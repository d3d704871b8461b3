//! What must hold for any bytes that a client sends: the fuzz target of this room.

use super::{admin, config, invoke, pb, status};
use crate::catalog::{Caller, Error, Role, Violation};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

/// Reads requests as they come off the wire. Each is read, or refused with INVALID_ARGUMENT and the field that is wrong.
pub fn requests(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    // An operator, who names the tenant: with a tenant's own token another tenant is NOT_FOUND.
    let caller = Caller {
        token: Uuid::nil(),
        role: Role::Operator,
        tenant: None,
        name: String::new(),
        may_read_credentials: false,
        hash: [0; 32],
    };
    // Sixteen numbers a service, so that one more request moves no others.
    let read = match kind / 16 {
        0 => invoke::fuzzing::read(kind % 16, bytes, &caller),
        1 => config::fuzzing::read(kind % 16, bytes, &caller),
        2 => pb::CreateTokenRequest::decode(bytes).map(|request| admin::token_in(request).map(drop)),
        _ => return violated(bytes),
    };
    if let Ok(Err(refusal)) = read {
        check(&refusal);
    }
}

/// Refuses any number of wrong fields with any names.
fn violated(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let violations: Vec<_> = text
        .lines()
        .map(|line| {
            let (field, description) = line.split_once(':').unwrap_or((line, ""));
            // Texts of requests are repeated in them, and these are longer than what is fuzzed.
            Violation { field: field.repeat(20), description: description.repeat(20) }
        })
        .collect();
    if !violations.is_empty() {
        check(&status::from_catalog(Error::Invalid(violations)));
    }
}

fn check(refusal: &Status) {
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal:?}");
    let details: ErrorDetails = refusal.get_error_details();
    let fields = details.bad_request().map_or(0, |bad| bad.field_violations.len());
    assert!(fields > 0, "no field is named: {refusal:?}");
    // As it travels: clients refuse answers whose headers are over 8 KiB.
    let headers = refusal.clone().into_http::<()>();
    let size: usize = headers.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(size <= 8192, "{size} bytes of headers");
}
