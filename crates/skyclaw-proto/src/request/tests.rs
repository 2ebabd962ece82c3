//! The sentences of the checks, resource by resource.

use super::*;
use crate::Capabilities;
use expect_test::{Expect, expect};
use serde::Deserialize;

fn check<T: for<'de> Deserialize<'de>, U>(json: &str, run: fn(T) -> Result<U, Invalid>, want: &Expect) {
    let body: T = serde_json::from_str(json).expect("the body must be readable");
    let got = run(body).err().map_or_else(|| "ok".to_owned(), |e| e.to_string());
    want.assert_eq(&got);
}

#[test]
fn a_fault_names_its_field() {
    check("{}", RegisterHostBody::check, &expect!["name is required"]);
    check(r#"{"name":"  "}"#, RegisterHostBody::check, &expect!["name is required"]);
    check(
        r#"{"name":"a","hostId":"a b"}"#,
        RegisterHostBody::check,
        &expect!["hostId must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -"],
    );
    check("{}", EnqueueJobBody::check, &expect!["payload is required"]);
    check(r#"{"payload":{}}"#, EnqueueJobBody::check, &expect!["payload is required"]);
    check(r#"{"payload":{"kind":"shell"}}"#, EnqueueJobBody::check, &expect!["payload.command is required"]);
    check(
        r#"{"payload":{"kind":"python"}}"#,
        EnqueueJobBody::check,
        &expect![[r#"payload.kind must be "shell" or "openclaw-run""#]],
    );
    check(
        r#"{"payload":{"kind":"shell","command":"sh","env":{"A=B":"1"}}}"#,
        EnqueueJobBody::check,
        &expect!["payload.env must have names that are not empty and contain no = or NUL"],
    );
    check(r#"{"hostId":"h"}"#, CompleteJobBody::check, &expect!["success is required"]);
    check("{}", DeployServiceBody::check, &expect!["name is required"]);
    check(r#"{"name":"a"}"#, DeployServiceBody::check, &expect!["command is required"]);
    check(
        r#"{"hostId":"h","status":"fine"}"#,
        ReportServiceBody::check,
        &expect![[r#"status must be "pending", "running" or "failed""#]],
    );
}

#[test]
fn a_count_of_nothing_is_one_as_in_the_reference() {
    let host = RegisterHostBody { name: Some("h".into()), max_parallel: Some(0), ..Default::default() };
    assert_eq!(host.check().map(|h| h.max_parallel), Ok(1));
}

#[test]
fn no_requirement_and_an_empty_one_are_told_apart() {
    let read =
        |json: &str| serde_json::from_str::<EnqueueJobBody>(json).expect("json").check().expect("valid");
    let payload = r#""payload":{"kind":"openclaw-run"}"#;
    assert_eq!(read(&format!("{{{payload}}}")).required_capabilities, None);
    assert_eq!(
        read(&format!(r#"{{{payload},"requirement":{{}}}}"#)).required_capabilities,
        Some(Capabilities::default())
    );
}
