//! Every claim in every state.

use super::*;
use crate::StreamId;
use crate::testing::given;

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

fn claim(target: &str, instead_of: Option<&str>) -> ClaimCommand {
    ClaimCommand::Claim { target: stream(target), instead_of: instead_of.map(stream) }
}

fn claimed(target: &str) -> ClaimEvent {
    ClaimEvent::Claimed(RequestClaimed { target: stream(target) })
}

const A: &str = "acme/order/ord_a";
const B: &str = "acme/payment/pay_b.1";
const C: &str = "acme/return/ret_c";

#[test]
fn a_key_stands_for_what_claimed_it_first() {
    let state = given::<Claim>([]).when(claim(A, None)).then([claimed(A)]);
    assert_eq!(state.target(), Some(&stream(A)));
    given::<Claim>([claimed(A)]).when(claim(A, None)).then([]);
    given::<Claim>([claimed(A)]).when(claim(B, None)).then_refused(Error::Taken { target: stream(A) });
}

#[test]
fn it_is_passed_on_by_who_knows_what_it_stood_for() {
    let state = given::<Claim>([claimed(A)]).when(claim(B, Some(A))).then([claimed(B)]);
    assert_eq!(state.target(), Some(&stream(B)));
    // Somebody else was faster.
    given::<Claim>([claimed(A), claimed(C)])
        .when(claim(B, Some(A)))
        .then_refused(Error::Taken { target: stream(C) });
    given::<Claim>([]).when(claim(B, Some(A))).then([claimed(B)]);
}

#[test]
fn a_check_claims_nothing() {
    let check = |target| ClaimCommand::Check { target: stream(target) };
    given::<Claim>([]).when(check(A)).then([]);
    given::<Claim>([claimed(A)]).when(check(A)).then([]);
    given::<Claim>([claimed(A)]).when(check(B)).then_refused(Error::Taken { target: stream(A) });
}
