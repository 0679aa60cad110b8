//! From requests to the command for a return.

use shopstream_domain::order::{OrderLine, PriceSource};
use shopstream_domain::{LocationId, ReservationId, Sku, model};
use shopstream_projections::order::OrderDetail;
use shopstream_projections::order::order_detail::ReturnedUnits;
use shopstream_proto::returns::v1::NewReturnLine;
use tonic::Code;

use super::*;
use crate::testing::{NOW, call, captured, order_detail, refunded, refusal};

fn order(status: OrderStatus) -> Order {
    let returned = vec![ReturnedUnits { line: 1, units: 1 }];
    let detail = OrderDetail { returned, ..order_detail(status, 1_000) };
    let line = |sku: &str, price| OrderLine {
        sku: Sku::new(sku).expect("valid"),
        product_id: None,
        location: LocationId::main(),
        quantity: Quantity::new(2).expect("valid"),
        unit_price_minor: price,
        price_source: PriceSource::List,
        price_version: None,
    };
    Order { detail, lines: vec![line("A1", 100), line("A2", 400)] }
}

fn payment() -> Option<PaymentView> {
    Some(captured("pay_1.2", 1_000))
}

fn confirmed() -> Sold {
    Sold { order: order(OrderStatus::Confirmed), payment: payment() }
}

fn wanted(lines: &[(u32, i64)]) -> Result<Wanted, Failure> {
    let line =
        |(line_index, quantity): &(u32, i64)| NewReturnLine { line_index: *line_index, quantity: *quantity };
    let request = CreateReturnRequest {
        request_id: "r".to_owned(),
        order_id: "ord_1".to_owned(),
        lines: lines.iter().map(line).collect(),
        ..CreateReturnRequest::default()
    };
    Wanted::of(request, &call(), NOW)
}

/// CreateReturn.
#[test]
fn create_return_refunds_the_price_paid() {
    let command =
        wanted(&[(1, 1), (0, 2)]).expect("valid").command(&call(), &confirmed()).expect("returnable");
    let model::Command::Return(Command::Request(request)) = command.command else { panic!("no request") };
    assert_eq!((request.payment_id.as_str(), request.reservation_id.as_str()), ("pay_1.2", "res_1.1"));
    let lines: Vec<_> = request
        .lines
        .iter()
        .map(|l| (l.line, l.sku.as_str(), l.quantity.get(), l.unit_price_minor))
        .collect();
    assert_eq!(lines, [(1, "A2", 1, 400), (0, "A1", 2, 100)]);
}

/// F-13: the hold that every order begins with ran out under its payment.
#[test]
fn units_go_back_to_the_hold_under_which_they_were_sold() {
    let second = ReservationId::new("res_second").expect("valid");
    let mut sold = confirmed();
    sold.order.detail.reservation_id = Some(second.clone());
    let command = wanted(&[(0, 1)]).expect("valid").command(&call(), &sold).expect("returnable");
    let model::Command::Return(Command::Request(request)) = command.command else { panic!("no request") };
    assert_eq!(request.reservation_id, second);
}

#[test]
fn every_wrong_return_names_its_field() {
    for (lines, field) in [
        (&[][..], "lines"),
        (&[(0, 0)], "lines[0].quantity"),
        (&[(1_000, 1)], "lines[0].line_index"),
        (&[(0, 1), (0, 1)], "lines[1].line_index"),
    ] {
        assert_eq!(refusal(wanted(lines)), (Code::InvalidArgument, field.to_owned()));
    }
}

#[test]
fn what_was_not_sold_or_came_back_already_is_refused() {
    let refused =
        |lines: &[(u32, i64)]| refusal(wanted(lines).expect("valid").command(&call(), &confirmed()));
    assert_eq!(refused(&[(0, 1), (2, 1)]), (Code::InvalidArgument, "lines[1].line_index".to_owned()));
    assert_eq!(refused(&[(0, 3)]), (Code::FailedPrecondition, "lines[0].quantity".to_owned()));
    assert_eq!(refused(&[(1, 2)]), (Code::FailedPrecondition, "lines[0].quantity".to_owned()));
}

#[test]
fn no_more_money_goes_back_than_is_left() {
    let mut sold = confirmed();
    sold.payment = Some(refunded("pay_1.2", 1_000, 850));
    let refused = |lines: &[(u32, i64)]| wanted(lines).expect("valid").command(&call(), &sold);
    assert!(refused(&[(0, 1)]).is_ok());
    let failure = refused(&[(0, 2)]).expect_err("more than is left");
    assert!(matches!(failure, Failure::Refused(_)), "no advice to come again: {failure:?}");
    assert_eq!(refusal(Err::<(), _>(failure)), (Code::FailedPrecondition, "lines".to_owned()));
}

#[test]
fn what_cost_nothing_comes_back_though_nobody_paid() {
    let mut order = order(OrderStatus::Confirmed);
    order.lines[0].unit_price_minor = 0;
    let sold = Sold { order, payment: None };
    assert!(wanted(&[(0, 1)]).expect("valid").command(&call(), &sold).is_ok());
}

#[test]
fn what_may_still_be_confirmed_or_captured_is_worth_waiting_for() {
    let failure =
        |sold: &Sold| wanted(&[(0, 1)]).expect("valid").command(&call(), sold).expect_err("too early");
    let of = |status| Sold { order: order(status), payment: payment() };
    assert!(matches!(failure(&of(OrderStatus::Submitted)), Failure::NotYet(_)));
    assert!(matches!(failure(&Sold { payment: None, ..confirmed() }), Failure::NotYet(_)));
    assert!(matches!(failure(&of(OrderStatus::Cancelled)), Failure::Refused(_)));
    assert!(
        matches!(failure(&of(OrderStatus::Draft)), Failure::Refused(_)),
        "nobody confirms a draft by waiting"
    );
    assert_eq!(refusal(Err::<(), _>(failure(&of(OrderStatus::Submitted)))).0, Code::FailedPrecondition);
}
