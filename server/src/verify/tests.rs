//! Every law goes red on the fault it is for, and stays green on a clean history.

use shopstream_domain::catalog::{ProductDrafted, ProductEvent, SkuClaimEvent, SkuClaimed, Variant};
use shopstream_domain::inventory::{
    Bucket, Decision, ReleaseReason, ReservationCommitted, ReservationEvent, ReservationHeld,
    ReservationReleased, ReservationRequested, ReservationSettled, StockCommitted, StockEvent, StockKey,
    StockReceived, StockReleased, StockReserved,
};
use shopstream_domain::model::Event;
use shopstream_domain::order::{
    CancelReason, CheckoutCancelled, CheckoutDone, CheckoutEvent, Event as OrderEvent, OrderCancelled,
    OrderConfirmed, OrderLine, OrderSubmitted, Placement, PriceSource,
};
use shopstream_domain::payment::{
    Event as PaymentEvent, ExternalRefundRecorded, PaymentAuthorized, PaymentCaptureSettled, PaymentCaptured,
    PaymentSettled, PaymentSucceededLate, PaymentVoided, ProviderOperation, ProviderOperationStarted,
    RefundReserved, RefundSettled, RefundSucceeded,
};
use shopstream_domain::requests::{ClaimEvent, NothingChanged, RequestClaimed};
use shopstream_domain::returns::{
    Event as ReturnEvent, ReturnNeedsAttention, ReturnRefused, ReturnRequest, ReturnRequested,
    ReturnResolved, ReturnResumed, ReturnSettled,
};
use shopstream_domain::{
    Currency, CustomerId, LocationId, OrderId, PaymentId, ProductId, Quantity, ReservationId, ReturnId, Sku,
    StreamId, Timestamp,
};
use shopstream_eventlog::Position;

use super::laws::{Laws, ProviderCall, Seen, Violation};

const TOTAL: i64 = 500;
const AUTHORIZE: &str = "pay_1.1:authorize:1";
const CAPTURE: &str = "pay_1.1:capture:1";

fn history(events: impl IntoIterator<Item = (&'static str, Event)>) -> Result<Laws, Violation> {
    history_of(events.into_iter().map(|(stream, event)| (format!("default/{stream}"), event)))
}

fn history_of(events: impl IntoIterator<Item = (String, Event)>) -> Result<Laws, Violation> {
    let mut laws = Laws::default();
    for (offset, (stream, event)) in (0..).zip(events) {
        let stream: StreamId = stream.parse().unwrap();
        laws.see(&Seen { position: Position { partition: 0, offset }, stream, event })?;
    }
    Ok(laws)
}

fn units(n: i64) -> Quantity {
    Quantity::new(n).unwrap()
}

fn reservation() -> ReservationId {
    ReservationId::new("res_1.1").unwrap()
}

fn stock(event: StockEvent) -> (&'static str, Event) {
    ("stock/A1@main", Event::Stock(event))
}

fn received(n: i64) -> (&'static str, Event) {
    let (sku, location) = (Sku::new("A1").unwrap(), LocationId::main());
    stock(StockEvent::Received(StockReceived { sku, location, quantity: units(n), reference: None }))
}

fn reserved(n: i64) -> (&'static str, Event) {
    stock(StockEvent::Reserved(StockReserved { reservation_id: reservation(), quantity: units(n) }))
}

fn committed(n: i64) -> (&'static str, Event) {
    stock(StockEvent::Committed(StockCommitted { reservation_id: reservation(), quantity: units(n) }))
}

fn released(n: i64) -> (&'static str, Event) {
    let (reason, from, at) = (ReleaseReason::Cancelled, Bucket::Reserved, Timestamp::default());
    stock(StockEvent::Released(StockReleased {
        reservation_id: reservation(),
        quantity: n,
        from,
        reason,
        at,
    }))
}

fn hold(event: ReservationEvent) -> (&'static str, Event) {
    ("reservation/res_1.1", Event::Reservation(event))
}

fn requested(n: i64) -> (&'static str, Event) {
    let key = StockKey { sku: Sku::new("A1").unwrap(), location: LocationId::main(), quantity: units(n) };
    let (until, hard_until) = (Timestamp::default(), Timestamp::default());
    let reservation_id = reservation();
    hold(ReservationEvent::Requested(ReservationRequested {
        reservation_id,
        keys: vec![key],
        until,
        hard_until,
    }))
}

fn sold() -> [(&'static str, Event); 2] {
    [
        hold(ReservationEvent::Committed(ReservationCommitted {})),
        hold(ReservationEvent::Settled(ReservationSettled { decision: Decision::Committed })),
    ]
}

fn order(event: OrderEvent) -> (&'static str, Event) {
    ("order/ord_1", Event::Order(event))
}

fn submitted(total_minor: i64) -> (&'static str, Event) {
    let line = OrderLine {
        sku: Sku::new("A1").unwrap(),
        product_id: None,
        location: LocationId::main(),
        quantity: units(5),
        unit_price_minor: 100,
        price_source: PriceSource::List,
        price_version: None,
    };
    order(OrderEvent::Submitted(OrderSubmitted {
        placement: Placement {
            order_id: OrderId::new("ord_1").unwrap(),
            customer_id: CustomerId::new("7").unwrap(),
            currency: Currency::GBP,
            lines: vec![line],
            total_minor,
            payment_method_token: Some("tok".into()),
        },
    }))
}

fn confirmed() -> (&'static str, Event) {
    let payments = vec![PaymentId::new("pay_1.1").unwrap()];
    order(OrderEvent::Confirmed(OrderConfirmed { reservation_id: reservation(), payments }))
}

fn payment(event: PaymentEvent) -> (&'static str, Event) {
    ("payment/pay_1.1", Event::Payment(event))
}

fn started(operation: ProviderOperation, key: &str) -> (&'static str, Event) {
    let (key, amount_minor) = (key.to_owned(), TOTAL);
    let started = ProviderOperationStarted { operation, key, amount_minor, refund_id: None };
    payment(PaymentEvent::OperationStarted(started))
}

fn authorized(amount_minor: i64) -> [(&'static str, Event); 2] {
    let event = PaymentAuthorized { key: AUTHORIZE.into(), amount_minor, capture_before: None };
    [started(ProviderOperation::Authorize, AUTHORIZE), payment(PaymentEvent::Authorized(event))]
}

fn captured(amount_minor: i64) -> [(&'static str, Event); 2] {
    let event = PaymentCaptured { key: CAPTURE.into(), amount_minor };
    [started(ProviderOperation::Capture, CAPTURE), payment(PaymentEvent::Captured(event))]
}

fn done() -> (&'static str, Event) {
    ("checkout/chk_1", Event::Checkout(CheckoutEvent::Done(CheckoutDone {})))
}

fn cancelled() -> (&'static str, Event) {
    let reason = CancelReason::Customer;
    ("checkout/chk_1", Event::Checkout(CheckoutEvent::Cancelled(CheckoutCancelled { reason })))
}

fn clean() -> Vec<(&'static str, Event)> {
    let mut events = vec![received(10), submitted(TOTAL), requested(5), reserved(5)];
    events.push(hold(ReservationEvent::Held(ReservationHeld {})));
    events.extend(authorized(TOTAL));
    events.extend(sold());
    events.push(committed(5));
    events.push(confirmed());
    events.extend(captured(TOTAL));
    events.push(done());
    events
}

fn call(key: &str, effective: bool) -> ProviderCall {
    ProviderCall { key: key.into(), question: false, effective }
}

#[track_caller]
fn breaks_at_once(law: u8, events: impl IntoIterator<Item = (&'static str, Event)>) {
    let broken = history(events).err().expect("a law should break");
    assert_eq!(broken.law, law, "{broken}");
}

#[track_caller]
fn breaks_at_the_end(law: u8, events: Vec<(&'static str, Event)>, calls: Option<&[ProviderCall]>) {
    let findings = history(events).unwrap().conclude(calls);
    assert_eq!(
        findings.violations.iter().map(|violation| violation.law).collect::<Vec<_>>(),
        [law],
        "{findings:?}"
    );
}

#[test]
fn a_clean_history_breaks_no_law() {
    let calls = [call(AUTHORIZE, true), call(AUTHORIZE, false), call(CAPTURE, true)];
    let findings = history(clean()).unwrap().conclude(Some(&calls));
    assert_eq!((findings.violations, findings.skipped), (vec![], vec![]));
}

#[test]
fn law_1_stock_from_nowhere() {
    let counted = shopstream_domain::inventory::StockCounted { expected: 11, found: 11 };
    breaks_at_once(1, [received(10), stock(StockEvent::Counted(counted))]);
}

#[test]
fn law_2_a_hold_given_back_twice_and_a_sale_without_its_units() {
    breaks_at_once(2, [received(10), reserved(5), released(5), released(5)]);
    let missing: Vec<_> = clean().into_iter().filter(|event| *event != committed(5)).collect();
    breaks_at_the_end(2, missing, None);
    let stranger = vec![received(10), reserved(3)];
    breaks_at_the_end(2, stranger, None);
}

#[test]
fn law_3_more_reserved_than_there_is() {
    breaks_at_once(3, [received(4), reserved(5)]);
}

#[test]
fn law_4_more_captured_than_authorized_and_confirmed_without_security() {
    breaks_at_once(4, authorized(TOTAL).into_iter().chain(captured(TOTAL + 1)));
    breaks_at_once(4, [submitted(TOTAL), confirmed()]);
}

fn refunding(refund_id: &str, n: u32, amount_minor: i64) -> (&'static str, Event) {
    payment(PaymentEvent::OperationStarted(ProviderOperationStarted {
        operation: ProviderOperation::Refund,
        key: format!("pay_1.1:refund:{n}"),
        amount_minor,
        refund_id: Some(refund_id.to_owned()),
    }))
}

fn refunded(refund_id: &str, n: u32, amount_minor: i64) -> (&'static str, Event) {
    let (key, refund_id) = (format!("pay_1.1:refund:{n}"), refund_id.to_owned());
    payment(PaymentEvent::RefundSucceeded(RefundSucceeded { key, refund_id, amount_minor }))
}

fn set_aside(amount_minor: i64) -> (&'static str, Event) {
    let refund_id = "ret_1".to_owned();
    payment(PaymentEvent::RefundReserved(RefundReserved { refund_id, amount_minor }))
}

fn at_their_site(amount_minor: i64) -> (&'static str, Event) {
    let key = "re_1".to_owned();
    payment(PaymentEvent::ExternalRefund(ExternalRefundRecorded { key, amount_minor }))
}

#[test]
fn law_4_more_promised_back_than_is_left() {
    let sold = || clean().into_iter();
    breaks_at_once(4, sold().chain([refunding("rfd_1", 1, 300), set_aside(201)]));
    breaks_at_once(4, sold().chain([set_aside(300), refunding("rfd_1", 1, 201)]));
    breaks_at_once(4, sold().chain([at_their_site(300), set_aside(201)]));
    breaks_at_once(4, sold().chain([at_their_site(501)]));
    let own = [set_aside(300), refunding("ret_1", 1, 300), refunding("rfd_1", 2, 200)];
    assert!(history(sold().chain(own)).is_ok());
}

fn goods_return(events: impl IntoIterator<Item = ReturnEvent>) -> Vec<(&'static str, Event)> {
    let order_id = OrderId::new("ord_1").unwrap();
    let requested = ReturnEvent::Requested(ReturnRequested {
        request: ReturnRequest {
            return_id: ReturnId::new("ret_1").unwrap(),
            payment_id: order_id.payment(1),
            reservation_id: order_id.reservation(),
            order_id,
            currency: Currency::GBP,
            lines: vec![],
        },
        refund_minor: 300,
    });
    let events = std::iter::once(requested).chain(events);
    events.map(|event| ("return/ret_1", Event::Return(event))).collect()
}

#[test]
fn law_10_a_return_and_its_money() {
    let resolved = || goods_return([ReturnEvent::Resolved(ReturnResolved {})]);
    let refused = || goods_return([ReturnEvent::Refused(ReturnRefused { reason: "no".to_owned() })]);
    let given = [set_aside(300), refunding("ret_1", 1, 300), refunded("ret_1", 1, 300)];
    let sold = |more: &[(&'static str, Event)], goods: Vec<_>| -> Vec<_> {
        clean().into_iter().chain(more.iter().cloned()).chain(goods).collect()
    };
    let fine = |events| assert_eq!(history(events).unwrap().conclude(None).violations, []);
    fine(sold(&given, resolved()));
    fine(sold(&[], refused()));
    breaks_at_the_end(10, sold(&[], resolved()), None);
    breaks_at_the_end(10, sold(&given, refused()), None);
    breaks_at_the_end(10, sold(&[set_aside(300)], refused()), None);
    breaks_at_the_end(10, sold(&[set_aside(300)], vec![]), None);

    // Less than was owed is right where a person saw to it.
    let (money, stock, reason) = (true, false, "paid by hand".to_owned());
    let by_hand = ReturnEvent::Settled(ReturnSettled { money, stock, reason: reason.clone() });
    let by_hand = goods_return([by_hand, ReturnEvent::Resolved(ReturnResolved {})]);
    let part = RefundSettled { refund_id: "ret_1".to_owned(), amount_minor: 200, reason };
    let part = payment(PaymentEvent::RefundSettled(part));
    fine(sold(std::slice::from_ref(&part), by_hand));
    breaks_at_the_end(10, sold(std::slice::from_ref(&part), resolved()), None);
    // Or where a refund at the provider's own site took the rest.
    fine(sold(&[at_their_site(100), part.clone()], resolved()));
    breaks_at_the_end(10, sold(&[at_their_site(99), part], resolved()), None);
}

#[test]
fn law_6_knows_what_a_person_has_seen_to() {
    let reason = || "paid by hand".to_owned();
    let taken = PaymentEvent::CaptureSettled(PaymentCaptureSettled { amount_minor: TOTAL, reason: reason() });
    let is_capture = |event: &Event| {
        matches!(event, Event::Payment(PaymentEvent::Captured(_)))
            || matches!(event, Event::Payment(PaymentEvent::OperationStarted(it)) if it.key == CAPTURE)
    };
    let mut by_hand: Vec<_> = clean().into_iter().filter(|(_, event)| !is_capture(event)).collect();
    breaks_at_the_end(6, by_hand.clone(), None);
    by_hand.insert(by_hand.len() - 1, payment(taken));
    let findings = history(by_hand).unwrap().conclude(None);
    assert_eq!((findings.violations, findings.skipped), (vec![], vec![]));

    let mut promised = vec![submitted(TOTAL)];
    promised.extend(authorized(TOTAL));
    let settled = PaymentEvent::Settled(PaymentSettled { amount_minor: 0, reason: reason() });
    promised.extend([payment(settled), cancelled()]);
    assert_eq!(history(promised).unwrap().conclude(None).violations, []);
}

#[test]
fn law_4_confirmed_with_a_promise_that_is_not_its_own() {
    let mut events = vec![submitted(TOTAL)];
    let event =
        PaymentAuthorized { key: "pay_1.2:authorize:1".into(), amount_minor: TOTAL, capture_before: None };
    events.push(("payment/pay_1.2", Event::Payment(PaymentEvent::Authorized(event))));
    events.push(confirmed());
    breaks_at_once(4, events);
}

#[test]
fn law_5_a_total_that_is_no_sum() {
    breaks_at_once(5, [submitted(TOTAL + 1)]);
}

#[test]
fn law_6_cancelled_and_still_holding() {
    let held = vec![
        received(10),
        submitted(TOTAL),
        requested(5),
        reserved(5),
        hold(ReservationEvent::Held(ReservationHeld {})),
        cancelled(),
    ];
    breaks_at_the_end(6, held, None);
    let mut promised = vec![submitted(TOTAL)];
    promised.extend(authorized(TOTAL));
    promised.push(cancelled());
    breaks_at_the_end(6, promised, None);
}

/// The same history, where another reservation took the place of the first (F-13).
fn under_another(events: Vec<(&'static str, Event)>) -> Vec<(&'static str, Event)> {
    let other = || ReservationId::new("res_1.2").unwrap();
    let moved = events.into_iter().map(|(stream, mut event)| match &mut event {
        Event::Reservation(_) => ("reservation/res_1.2", event),
        Event::Stock(StockEvent::Reserved(reserved)) => {
            reserved.reservation_id = other();
            (stream, event)
        }
        Event::Stock(StockEvent::Committed(committed)) => {
            committed.reservation_id = other();
            (stream, event)
        }
        Event::Order(OrderEvent::Confirmed(confirmed)) => {
            confirmed.reservation_id = other();
            (stream, event)
        }
        _ => (stream, event),
    });
    moved.collect()
}

#[test]
fn law_6_done_with_one_of_its_holds() {
    let findings = history(under_another(clean())).unwrap().conclude(None);
    assert_eq!((findings.violations, findings.skipped), (vec![], vec![]));

    let held = || vec![requested(5), reserved(5), hold(ReservationEvent::Held(ReservationHeld {}))];
    let mut both = under_another(clean());
    both.extend(held());
    breaks_at_the_end(6, both, None);
    let mut both = clean();
    both.extend(under_another(held()));
    breaks_at_the_end(6, both, None);
    let is_stock = |event: &Event| matches!(event, Event::Stock(_) | Event::Reservation(_));
    let without_stock = history(clean().into_iter().filter(|(_, event)| !is_stock(event))).unwrap();
    let broken = without_stock.conclude(None).violations;
    assert_eq!(broken.iter().map(|violation| violation.law).collect::<Vec<_>>(), [6, 6], "{broken:?}");

    let mut cancelled_with_another = vec![received(10), submitted(TOTAL)];
    cancelled_with_another.extend(under_another(held()));
    cancelled_with_another.push(cancelled());
    breaks_at_the_end(6, cancelled_with_another, None);
}

#[test]
fn law_9_a_charge_that_nobody_wrote_down_or_that_happened_twice() {
    let calls = [call(AUTHORIZE, true), call(CAPTURE, true), call("pay_2.1:authorize:1", true)];
    breaks_at_the_end(9, clean(), Some(&calls));
    let twice = [call(AUTHORIZE, true), call(AUTHORIZE, true), call(CAPTURE, true)];
    breaks_at_the_end(9, clean(), Some(&twice));
    breaks_at_the_end(9, clean(), Some(&[call(AUTHORIZE, true)]));
}

#[test]
fn law_9_counts_the_calls_of_each_tenant() {
    // Two tenants whose customers chose the same order id.
    let both = || {
        let events = clean().into_iter().chain(clean()).zip(0..);
        let each = clean().len();
        history_of(events.map(|((stream, event), n)| {
            let tenant = if n < each { "default" } else { "acme" };
            (format!("{tenant}/{stream}"), event)
        }))
        .unwrap()
    };
    let (authorize, capture) = (format!("acme/{AUTHORIZE}"), format!("acme/{CAPTURE}"));
    let default = [call(AUTHORIZE, true), call(CAPTURE, true)];
    let acme = [call(&authorize, true), call(&capture, true)];
    let broken = |calls: Vec<ProviderCall>| {
        let violations = both().conclude(Some(&calls)).violations;
        violations.into_iter().map(|it| (it.law, it.stream)).collect::<Vec<_>>()
    };
    assert_eq!(broken([default.clone(), acme.clone()].concat()), []);
    // One tenant's authorisation passes for a repeat of the other's: it was never charged.
    let unasked = [default.as_slice(), &[call(AUTHORIZE, false)], &acme[1..]].concat();
    assert_eq!(broken(unasked), [(9, authorize.clone())]);
    let twice = [default.as_slice(), &acme, &acme[..1]].concat();
    assert_eq!(broken(twice), [(9, authorize)]);
    let stranger = [default.as_slice(), &acme, &[call(&format!("umbrella/{CAPTURE}"), true)]].concat();
    assert_eq!(broken(stranger), [(9, format!("umbrella/{CAPTURE}"))]);
}

#[test]
fn an_answer_that_never_came_is_no_unfinished_work_once_the_payment_is_void() {
    let void = "pay_1.1:void:1";
    let story = |voided: Option<PaymentEvent>| {
        let begun = [
            submitted(TOTAL),
            started(ProviderOperation::Authorize, AUTHORIZE),
            started(ProviderOperation::Void, void),
        ];
        let end = voided.map(payment).into_iter().chain([cancelled()]);
        history(begun.into_iter().chain(end)).unwrap().conclude(None).skipped
    };
    assert_eq!(story(None), ["default/order/ord_1"]);
    assert!(story(Some(PaymentEvent::Voided(PaymentVoided { key: void.to_owned() }))).is_empty());
}

#[test]
fn money_that_came_late_is_unfinished_work_until_it_is_let_go() {
    let late = PaymentSucceededLate { key: AUTHORIZE.to_owned(), amount_minor: TOTAL };
    let voided = |n: u32| payment(PaymentEvent::Voided(PaymentVoided { key: format!("pay_1.1:void:{n}") }));
    let skipped = |more: Option<(&'static str, Event)>| {
        let story =
            [submitted(TOTAL), voided(1), cancelled(), payment(PaymentEvent::SucceededLate(late.clone()))];
        history(story.into_iter().chain(more)).unwrap().conclude(None).skipped
    };
    assert_eq!(skipped(None), ["default/order/ord_1"]);
    assert_eq!(skipped(Some(voided(2))), [""; 0]);
}

#[test]
fn a_return_is_unfinished_work_until_it_is_resolved_or_refused() {
    let (step, detail) = ("refund".to_owned(), "it failed".to_owned());
    let stopped = ReturnEvent::NeedsAttention(ReturnNeedsAttention { step, detail });
    let resumed = ReturnEvent::Resumed(ReturnResumed { reason: "seen to".to_owned() });
    let skipped = |events: &[ReturnEvent]| {
        let events = events.iter().map(|event| ("return/ret_1", Event::Return(event.clone())));
        history(events).unwrap().conclude(None).skipped
    };
    for open in [vec![stopped.clone()], vec![stopped.clone(), resumed.clone()]] {
        assert_eq!(skipped(&open), ["default/return/ret_1"]);
    }
    assert_eq!(skipped(&[stopped, resumed, ReturnEvent::Resolved(ReturnResolved {})]), [""; 0]);
    assert_eq!(skipped(&[ReturnEvent::Refused(ReturnRefused { reason: "no".to_owned() })]), [""; 0]);
}

#[test]
fn a_hold_that_was_given_up_before_it_was_asked_for_is_no_unfinished_work() {
    let given_up = hold(ReservationEvent::Released(ReservationReleased { reason: ReleaseReason::Timeout }));
    assert!(history([given_up.clone()]).unwrap().conclude(None).skipped.is_empty());
    let asked = history([received(10), requested(5), given_up]).unwrap().conclude(None);
    assert_eq!(asked.skipped, ["default/reservation/res_1.1"]);
}

#[test]
fn unfinished_work_is_listed_and_not_judged() {
    let findings = history([received(10), requested(5), reserved(5)]).unwrap().conclude(None);
    assert_eq!(
        (findings.violations, findings.skipped),
        (vec![], vec!["default/reservation/res_1.1".to_owned()])
    );
}

#[test]
fn a_submitted_order_that_nobody_took_up_stands_still() {
    let waits = |events: Vec<(&'static str, Event)>| history(events).unwrap().conclude(None).skipped;
    assert_eq!(waits(vec![submitted(TOTAL)]), ["default/order/ord_1"]);
    // A draft that was given up is none.
    let given_up = order(OrderEvent::Cancelled(OrderCancelled { reason: CancelReason::Customer }));
    assert!(waits(vec![submitted(TOTAL), given_up]).is_empty());
    assert!(waits(clean()).is_empty());
}

/// `clean`, whose order was sold under another hold than it wants.
fn sold_something_else(units_held: i64) -> Vec<(&'static str, Event)> {
    let other = clean().into_iter().map(|(stream, event)| match event {
        Event::Reservation(ReservationEvent::Requested(_)) => requested(units_held),
        Event::Stock(StockEvent::Reserved(_)) => reserved(units_held),
        Event::Stock(StockEvent::Committed(_)) => committed(units_held),
        event => (stream, event),
    });
    other.collect()
}

#[test]
fn law_6_an_order_that_stands_has_sold_what_was_ordered() {
    breaks_at_the_end(6, sold_something_else(1), None);
    // The hold was given back after the order was confirmed: no hold at the end, and nothing sold.
    let mut given_back = clean();
    let reason = ReleaseReason::Requested;
    given_back.push(hold(ReservationEvent::Released(ReservationReleased { reason })));
    given_back.push(hold(ReservationEvent::Settled(ReservationSettled { decision: Decision::Released })));
    let (from, at) = (Bucket::Committed, Timestamp::default());
    let back = StockReleased { reservation_id: reservation(), quantity: 5, from, reason, at };
    given_back.push(stock(StockEvent::Released(back)));
    let broken = history(given_back).unwrap().conclude(None).violations;
    assert_eq!(broken.iter().map(|violation| violation.law).collect::<Vec<_>>(), [6, 6], "{broken:?}");
    // A hold of a client under the order's name is not the order's.
    let mut beside = clean();
    beside.push(received(3));
    let key = StockKey { sku: Sku::new("A1").unwrap(), location: LocationId::main(), quantity: units(1) };
    let (until, hard_until) = (Timestamp::default(), Timestamp::default());
    let reservation_id = ReservationId::new("res_1").unwrap();
    let own =
        ReservationRequested { reservation_id: reservation_id.clone(), keys: vec![key], until, hard_until };
    beside.push(("reservation/res_1", Event::Reservation(ReservationEvent::Requested(own))));
    beside.push(stock(StockEvent::Reserved(StockReserved { reservation_id, quantity: units(1) })));
    beside.push(("reservation/res_1", Event::Reservation(ReservationEvent::Held(ReservationHeld {}))));
    let findings = history(beside).unwrap().conclude(None);
    assert_eq!((findings.violations, findings.skipped), (vec![], vec![]));
}

#[test]
fn law_14_a_sku_is_one_products_and_the_one_that_claimed_it() {
    let claim = |product: &str| {
        let (sku, product_id) = (Sku::new("A1").unwrap(), ProductId::new(product).unwrap());
        ("sku/A1", Event::Sku(SkuClaimEvent::Claimed(SkuClaimed { sku, product_id })))
    };
    let product = |stream: &'static str| {
        let (product_id, variant) = (
            ProductId::new(stream.trim_start_matches("product/")).unwrap(),
            Variant { sku: Sku::new("A1").unwrap(), title: String::new() },
        );
        let (title, description) = ("Lamp".to_owned(), String::new());
        let drafted = ProductDrafted { product_id, title, description, variants: vec![variant] };
        (stream, Event::Product(ProductEvent::Drafted(drafted)))
    };
    let found = |events: Vec<(&'static str, Event)>| history(events).unwrap().conclude(None);
    let fine = found(vec![claim("prd_1"), product("product/prd_1")]);
    assert_eq!((fine.violations, fine.skipped), (vec![], vec![]));
    breaks_at_the_end(14, vec![product("product/prd_1")], None);
    breaks_at_the_end(14, vec![claim("prd_2"), product("product/prd_1")], None);
    let twice = vec![claim("prd_1"), product("product/prd_1"), claim("prd_2"), product("product/prd_2")];
    breaks_at_the_end(14, twice, None);
    // Claimed for a product that never came to be.
    assert_eq!(found(vec![claim("prd_1")]).skipped, ["default/sku/A1"]);
}

fn claimed(target: &str) -> (&'static str, Event) {
    let target = format!("default/{target}").parse().unwrap();
    ("request/req_1", Event::Request(ClaimEvent::Claimed(RequestClaimed { target })))
}

#[test]
fn law_11_a_key_has_one_effect() {
    let used_up = ("payment/pay_9.1", Event::Nothing(NothingChanged {}));
    let violations = |events: &[(&'static str, Event)]| {
        let found = history(events.iter().cloned()).unwrap().conclude(None).violations;
        found.iter().filter(|violation| violation.law == 11).count()
    };
    assert_eq!(violations(&[claimed("payment/pay_9.1"), used_up, claimed("return/ret_1")]), 0);
    assert_eq!(violations(&[claimed("payment/pay_9.1"), claimed("return/ret_1")]), 1, "a late copy may come");
    assert_eq!(violations(&[submitted(TOTAL), claimed("order/ord_1")]), 0, "the order that it names");
    assert_eq!(violations(&[submitted(TOTAL), claimed("return/ret_1")]), 1, "two things under one key");
}
