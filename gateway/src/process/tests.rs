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

fn settlement(process_id: &str, resolution: ProcessResolution, reason: &str) -> SettleProcessRequest {
    SettleProcessRequest {
        request_id: "r".to_owned(),
        expected_version: Some(7),
        process_id: process_id.to_owned(),
        resolution: resolution.into(),
        reason: reason.to_owned(),
    }
}

/// SettleProcess.
#[test]
fn settle_process_says_what_was_seen_to() {
    let envelope =
        |id, resolution| settle(settlement(id, resolution, "paid by hand"), &call()).expect("valid");
    let checkout = envelope("chk_1", ProcessResolution::MoneyByHand);
    assert_eq!((checkout.stream.as_str(), checkout.expected_version), ("default/checkout/chk_1", Some(7)));
    assert!(matches!(
        checkout.command,
        model::Command::Checkout(CheckoutCommand::Settle { money: true, stock: false, ref reason })
            if reason == "paid by hand"
    ));
    assert!(matches!(
        envelope("ret_1", ProcessResolution::StockByHand).command,
        model::Command::Return(ReturnCommand::Settle { money: false, stock: true, .. })
    ));
    assert!(matches!(
        envelope("ret_1", ProcessResolution::AllByHand).command,
        model::Command::Return(ReturnCommand::Settle { money: true, stock: true, .. })
    ));
    for (wrong, field) in [
        (settlement("ord_1", ProcessResolution::AllByHand, "seen to"), "process_id"),
        (settlement("ret_1", ProcessResolution::Unspecified, "seen to"), "resolution"),
        (settlement("ret_1", ProcessResolution::AllByHand, ""), "reason"),
    ] {
        assert_eq!(refusal(settle(wrong, &call())), (Code::InvalidArgument, field.to_owned()));
    }
}
