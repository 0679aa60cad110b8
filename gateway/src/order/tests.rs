//! From requests to the order's commands.

use std::sync::Arc;

use prost::Message as _;
use shopstream_domain::order::{CancelReason, Command, Placement, PriceSource};
use shopstream_domain::{Currency, ProductId, Sku, StreamKind, model};
use shopstream_proto::order::v1::{
    CancelOrderRequest, CreateOrderRequest, NewOrderLine, OrderStatus, UpdateOrderStatusRequest,
};
use shopstream_proto::payment::v1::{CapturePaymentRequest, RefundPaymentRequest};
use shopstream_proto::r#type::v1::Money;
use tonic::Code;

use super::*;
use crate::offers::{ListPrice, Offer};
use crate::testing::{NOW, call, refusal};

fn money(currency_code: &str, amount_minor: i64) -> Money {
    Money { currency_code: currency_code.to_owned(), amount_minor }
}

fn line(sku: &str, quantity: i64, unit_price: Option<Money>) -> NewOrderLine {
    NewOrderLine { sku: sku.to_owned(), quantity, unit_price }
}

fn request(lines: Vec<NewOrderLine>) -> CreateOrderRequest {
    CreateOrderRequest {
        request_id: "r1".to_owned(),
        customer_id: "c1".to_owned(),
        currency_code: "GBP".to_owned(),
        payment_method_token: "tok_approve".to_owned(),
        lines,
        ..CreateOrderRequest::default()
    }
}

fn wanted(request: CreateOrderRequest) -> Result<Wanted, Failure> {
    Wanted::of(request, &call(), NOW)
}

fn offer(on_sale: bool) -> Option<Arc<Offer>> {
    let prices = vec![ListPrice { currency: Currency::GBP, amount_minor: 250, version: 7 }];
    Some(Arc::new(Offer { product_id: ProductId::new("prd_1").expect("valid"), on_sale, prices }))
}

fn placement(command: Command) -> Placement {
    match command {
        Command::Submit(placement) | Command::Draft(placement) => placement,
        other => panic!("{other:?} places nothing"),
    }
}

/// CreateOrder.
#[test]
fn create_order_freezes_list_prices_and_takes_overrides() {
    let wanted =
        wanted(request(vec![line("A1", 2, None), line("A1", 3, Some(money("GBP", 99)))])).expect("valid");
    let command = wanted.command(&[offer(true), offer(true)]).expect("on sale");
    assert!(matches!(command, Command::Submit(_)));
    let placed = placement(command);
    assert_eq!(placed.total_minor, 2 * 250 + 3 * 99);
    let prices: Vec<_> =
        placed.lines.iter().map(|l| (l.unit_price_minor, l.price_source, l.price_version)).collect();
    assert_eq!(prices, [(250, PriceSource::List, Some(7)), (99, PriceSource::Override, None)]);
}

#[test]
fn an_order_without_an_id_meets_the_same_stream_again() {
    let first = wanted(request(vec![line("A1", 1, None)])).expect("valid");
    let again = wanted(request(vec![line("A1", 1, None)])).expect("valid");
    let other =
        wanted(CreateOrderRequest { request_id: "r2".to_owned(), ..request(vec![line("A1", 1, None)]) });
    assert_eq!(first.order_id, again.order_id);
    assert_ne!(first.order_id, other.expect("valid").order_id);
}

#[test]
fn a_repeat_has_the_same_command_id_and_hash_whatever_the_price_is_now() {
    let wanted = wanted(request(vec![line("A1", 1, None)])).expect("valid");
    let now = wanted.envelope(&call(), wanted.command(&[offer(true)]).expect("on sale"));
    let asked = wanted.recall(&call());
    assert_eq!(
        (now.command_id, now.body_hash, &now.request),
        (asked.command_id, asked.body_hash, &asked.request)
    );
}

#[test]
fn another_body_or_method_under_the_same_request_id_hashes_differently() {
    let hash = |quantity| wanted(request(vec![line("A1", quantity, None)])).expect("valid").asked.body_hash;
    assert_ne!(hash(1), hash(2));
    // The same bytes.
    let mut capture = CapturePaymentRequest {
        request_id: "r".to_owned(),
        payment_id: "pay_1.1".to_owned(),
        amount: Some(money("GBP", 300)),
        ..CapturePaymentRequest::default()
    };
    let mut refund = RefundPaymentRequest {
        request_id: "r".to_owned(),
        payment_id: "pay_1.1".to_owned(),
        amount: Some(money("GBP", 300)),
        ..RefundPaymentRequest::default()
    };
    assert_eq!(capture.encode_to_vec(), refund.encode_to_vec());
    let (capture, refund) = (Asked::of(&mut capture).expect("valid"), Asked::of(&mut refund).expect("valid"));
    assert_ne!(capture.body_hash, refund.body_hash);
}

#[test]
fn the_key_of_an_unnamed_order_is_on_its_own_shard() {
    let mut unnamed = request(vec![line("A1", 1, None)]);
    unnamed.order_id = None;
    let wanted = wanted(unnamed).expect("valid");
    let asked = wanted.recall(&call());
    let key = asked.request.and_then(|request| request.key).expect("a key");
    assert!(key.stream.shares_root(&wanted.order_id.stream(&call().tenant)));
    assert_eq!((&*key.id, key.stream.kind()), ("r1", StreamKind::Request));
}

#[test]
fn a_draft_needs_no_means_of_payment_and_an_order_does() {
    let bare =
        CreateOrderRequest { payment_method_token: String::new(), ..request(vec![line("A1", 1, None)]) };
    let draft = wanted(CreateOrderRequest { draft: true, ..bare.clone() }).expect("a draft may");
    assert!(matches!(draft.command(&[offer(true)]), Ok(Command::Draft(_))));
    assert_eq!(refusal(wanted(bare)), (Code::InvalidArgument, "payment_method_token".to_owned()));
}

#[test]
fn every_wrong_order_names_its_field() {
    let price = |currency, amount| Some(money(currency, amount));
    let cases = [
        (request(vec![]), "lines"),
        (request(vec![line("A1", 1, None); 10_000]), "lines"),
        (request(vec![line("A1", 0, None)]), "lines[0].quantity"),
        (request(vec![line("A1", -1, None)]), "lines[0].quantity"),
        (request(vec![line("A1", i64::MAX, None)]), "lines[0].quantity"),
        (request(vec![line("ok", 1, None), line("not a sku", 1, None)]), "lines[1].sku"),
        (request(vec![line("A1", 1, price("EUR", 1))]), "lines[0].unit_price.currency_code"),
        (request(vec![line("A1", 1, price("GBP", -1))]), "lines[0].unit_price.amount_minor"),
        (
            CreateOrderRequest { request_id: String::new(), ..request(vec![line("A1", 1, None)]) },
            "request_id",
        ),
        (
            CreateOrderRequest { customer_id: "a b".to_owned(), ..request(vec![line("A1", 1, None)]) },
            "customer_id",
        ),
        (
            CreateOrderRequest { currency_code: "pounds".to_owned(), ..request(vec![line("A1", 1, None)]) },
            "currency_code",
        ),
        (
            CreateOrderRequest { order_id: Some("order 1".to_owned()), ..request(vec![line("A1", 1, None)]) },
            "order_id",
        ),
        (
            CreateOrderRequest { expected_version: Some(-1), ..request(vec![line("A1", 1, None)]) },
            "expected_version",
        ),
        (
            CreateOrderRequest {
                effective_time: Some(crate::wire::time(NOW + shopstream_domain::Duration::from_seconds(1))),
                ..request(vec![line("A1", 1, None)])
            },
            "effective_time",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(refusal(wanted(request)), (Code::InvalidArgument, field.to_owned()));
    }
}

#[test]
fn a_total_beyond_the_range_names_the_line_at_which_it_overflows() {
    let dear = || line("A1", 1, Some(money("GBP", i64::MAX)));
    let wanted = wanted(request(vec![dear(), dear()])).expect("each line fits");
    let refused = wanted.command(&[offer(true), offer(true)]);
    assert_eq!(refusal(refused), (Code::InvalidArgument, "lines[1]".to_owned()));
}

#[test]
fn f_01_names_the_sku_that_nobody_sells() {
    let wanted =
        |unit_price| wanted(request(vec![line("A1", 1, None), line("B2", 1, unit_price)])).expect("valid");
    let at_line_1 = (Code::FailedPrecondition, "lines[1].sku".to_owned());
    assert_eq!(refusal(wanted(None).command(&[offer(true), None])), at_line_1);
    assert_eq!(refusal(wanted(None).command(&[offer(true), offer(false)])), at_line_1);
    // An override is a price, not a product.
    assert_eq!(refusal(wanted(Some(money("GBP", 5))).command(&[offer(true), None])), at_line_1);
    let unpriced = Offer { prices: Vec::new(), ..Offer::clone(&offer(true).expect("some")) };
    assert_eq!(refusal(wanted(None).command(&[offer(true), Some(Arc::new(unpriced))])), at_line_1);
}

#[test]
fn a_request_names_at_most_twenty_wrong_fields() {
    let failure = wanted(request(vec![line("not a sku", 0, None); 1_000])).expect_err("wrong");
    assert!(matches!(failure, Failure::Invalid(violations) if violations.len() == 20));
}

/// CancelOrder.
#[test]
fn cancel_order_is_the_customers_or_the_staffs() {
    let cancelled = |reason: wire::CancelReason| {
        let order_id = "ord_1".to_owned();
        let request = CancelOrderRequest {
            request_id: "r".to_owned(),
            order_id,
            reason: reason.into(),
            ..Default::default()
        };
        cancel(request, &call()).map(|envelope| envelope.command)
    };
    let requests = |reason| model::Command::Order(Command::RequestCancellation { reason });
    assert_eq!(cancelled(wire::CancelReason::Unspecified), Ok(requests(CancelReason::Customer)));
    assert_eq!(cancelled(wire::CancelReason::Staff), Ok(requests(CancelReason::Staff)));
    let refused = refusal(cancelled(wire::CancelReason::PaymentDeclined));
    assert_eq!(refused, (Code::InvalidArgument, "reason".to_owned()));
}

/// UpdateOrderStatus.
#[test]
fn update_order_status_submits_or_cancels_and_names_those_moves() {
    let moved = |status: OrderStatus| {
        let (request_id, order_id) = ("r".to_owned(), "ord_1".to_owned());
        let payment_method_token = "tok_approve".to_owned();
        let status = status.into();
        let request = UpdateOrderStatusRequest {
            request_id,
            order_id,
            status,
            payment_method_token,
            expected_version: Some(3),
        };
        move_on(request, &call())
    };
    let submitted = moved(OrderStatus::Submitted).expect("allowed");
    assert_eq!(submitted.expected_version, Some(3));
    let token = Some("tok_approve".to_owned());
    assert_eq!(
        submitted.command,
        model::Command::Order(Command::Place { payment_method_token: token, offers: vec![] })
    );
    assert!(moved(OrderStatus::Cancelled).is_ok());
    for status in
        [OrderStatus::Draft, OrderStatus::Confirmed, OrderStatus::Cancelling, OrderStatus::PaymentUnknown]
    {
        let refused = moved(status).map(|envelope| envelope.command);
        let text = refused.as_ref().expect_err("not a caller's move").to_string();
        assert!(text.contains("SUBMITTED") && text.contains("CANCELLED"), "{text}");
        assert_eq!(refusal(refused), (Code::FailedPrecondition, "status".to_owned()));
    }
}

#[test]
fn a_sku_in_an_order_is_looked_up_once_per_line() {
    let wanted = wanted(request(vec![line("A1", 1, None), line("B2", 1, None)])).expect("valid");
    let skus: Vec<&str> = wanted.skus().map(Sku::as_str).collect();
    assert_eq!(skus, ["A1", "B2"]);
}
