//! From requests to the command that lets a process go on.

use shopstream_domain::model;
use tonic::Code;

use super::*;
use crate::testing::{call, refusal};

fn request(process_id: &str, reason: &str) -> ResumeProcessRequest {
    ResumeProcessRequest {
        request_id: "r".to_owned(),
        expected_version: Some(7),
        process_id: process_id.to_owned(),
        reason: reason.to_owned(),
    }
}

/// ResumeProcess.
#[test]
fn resume_process_is_for_the_process_that_the_id_names() {
    let envelope = |id| resume(request(id, "the provider is back"), &call()).expect("valid");
    let checkout = envelope("chk_1");
    assert_eq!(checkout.stream.as_str(), "default/checkout/chk_1");
    assert_eq!(checkout.expected_version, Some(7));
    assert!(matches!(
        checkout.command,
        model::Command::Checkout(CheckoutCommand::Resume { ref reason }) if reason == "the provider is back"
    ));
    let goods = envelope("ret_1");
    assert_eq!(goods.stream.as_str(), "default/return/ret_1");
    assert!(matches!(
        goods.command,
        model::Command::Return(ReturnCommand::Resume { ref reason }) if reason == "the provider is back"
    ));
}

#[test]
fn every_wrong_resumption_names_its_field() {
    let long = "x".repeat(501);
    for (process_id, reason, field) in [
        ("ord_1", "seen to", "process_id"),
        ("chk_", "seen to", "process_id"),
        ("", "seen to", "process_id"),
        ("ret_1", "", "reason"),
        ("ret_1", &long, "reason"),
    ] {
        let refused = refusal(resume(request(process_id, reason), &call()));
        assert_eq!(refused, (Code::InvalidArgument, field.to_owned()));
    }
}
