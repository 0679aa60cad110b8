//! Every command of an order in every state.

mod checkout;
mod golden;
mod properties;

use super::*;
use crate::testing::given;
use crate::{
    Aggregate, Currency, CustomerId, LocationId, OrderId, Quantity, Refusal, RefusalFamily, ReturnId, Sku,
    Timestamp,
};

pub(super) fn order_id() -> OrderId {
    OrderId::new("ord_1").unwrap()
}

fn return_id(text: &str) -> ReturnId {
    ReturnId::new(text).unwrap()
}

pub(super) fn line(sku: &str, quantity: i64, unit_price_minor: i64) -> OrderLine {
    OrderLine {
        sku: Sku::new(sku).unwrap(),
        product_id: None,
        location: LocationId::main(),
        quantity: Quantity::new(quantity).unwrap(),
        unit_price_minor,
        price_source: PriceSource::List,
        price_version: None,
    }
}

pub(super) fn place_lines(lines: Vec<OrderLine>) -> Result<Placement, Error> {
    let customer_id = CustomerId::new("17850").unwrap();
    Placement::new(order_id(), customer_id, Currency::GBP, lines, Some("tok_approve".to_owned()))
}

/// Two lines: three at 2.55 and two at 10.00.
pub(super) fn placement() -> Placement {
    place_lines(vec![line("85123A", 3, 255), line("71053", 2, 1_000)]).unwrap()
}

fn without_token() -> Placement {
    Placement { payment_method_token: None, ..placement() }
}

fn drafted(placement: Placement) -> Event {
    Event::Drafted(OrderDrafted { placement })
}

fn submitted() -> Event {
    Event::Submitted(OrderSubmitted { placement: placement() })
}

fn awaiting(attempt: u32, code: &str) -> OrderAwaitingPayment {
    OrderAwaitingPayment { payment_id: order_id().payment(attempt), code: code.to_owned() }
}

fn confirmed() -> Event {
    let (reservation_id, payments) = (order_id().reservation_of_old(), vec![order_id().payment(1)]);
    Event::Confirmed(OrderConfirmed { reservation_id, payments })
}

fn requested(reason: CancelReason) -> Event {
    Event::CancellationRequested(OrderCancellationRequested { reason })
}

fn cancelled(reason: CancelReason) -> Event {
    Event::Cancelled(OrderCancelled { reason })
}

fn back(line: u32, quantity: i64) -> ReturnedLine {
    ReturnedLine { line, quantity: Quantity::new(quantity).unwrap() }
}

fn units_returned(id: &str, lines: Vec<ReturnedLine>, refund_minor: i64) -> Event {
    Event::UnitsReturned(OrderUnitsReturned { return_id: return_id(id), lines, refund_minor })
}

fn record_return(id: &str, lines: Vec<ReturnedLine>) -> Command {
    Command::RecordReturn { return_id: return_id(id), lines }
}

fn confirm() -> Command {
    Command::Confirm {
        reservation_id: order_id().reservation_of_old(),
        payments: vec![order_id().payment(1)],
    }
}

/// Every state that makes a difference, in the order of the columns below.
fn states() -> [(&'static str, Vec<Event>); 9] {
    let awaits = || Event::AwaitingPayment(awaiting(1, "declined"));
    let customer = CancelReason::Customer;
    [
        ("missing", vec![]),
        ("draft", vec![drafted(placement())]),
        ("submitted", vec![submitted()]),
        ("awaiting payment", vec![submitted(), awaits()]),
        ("cancelling", vec![submitted(), requested(customer)]),
        ("confirmed", vec![submitted(), confirmed()]),
        ("reversing", vec![submitted(), confirmed(), requested(customer)]),
        ("partly returned", vec![submitted(), confirmed(), units_returned("ret_1", vec![back(0, 1)], 255)]),
        ("cancelled", vec![submitted(), cancelled(CancelReason::OutOfStock)]),
    ]
}

/// What each command leads to in each state. The match has no wildcard, so a new command asks for its row.
fn expected(command: &Command) -> [&'static str; 9] {
    const ABSENT: &str = "ORDER_NOT_FOUND";
    const DRAFT: &str = "ORDER_NOT_PLACED";
    const WANTED_OUT: &str = "ORDER_CANCELLATION_REQUESTED";
    const SOLD: &str = "ORDER_CONFIRMED";
    const GONE: &str = "ORDER_CANCELLED";
    match command {
        Command::Submit(_) => {
            let taken = "ORDER_EXISTS";
            ["OrderSubmitted", taken, taken, taken, taken, taken, taken, taken, taken]
        }
        Command::Draft(_) => {
            let taken = "ORDER_EXISTS";
            ["OrderDrafted", taken, taken, taken, taken, taken, taken, taken, taken]
        }
        Command::Place { .. } => {
            let no = "ORDER_NOT_DRAFT";
            [ABSENT, "OrderSubmitted", no, no, no, no, no, no, GONE]
        }
        Command::RecordAwaitingPayment { .. } => {
            [ABSENT, DRAFT, "OrderAwaitingPayment", "nothing", WANTED_OUT, SOLD, SOLD, SOLD, GONE]
        }
        Command::Confirm { .. } => {
            let (yes, so) = ("OrderConfirmed", "nothing");
            [ABSENT, DRAFT, yes, yes, WANTED_OUT, so, so, so, GONE]
        }
        Command::RequestCancellation { .. } => {
            let (asked, so) = ("OrderCancellationRequested", "nothing");
            [ABSENT, "OrderCancelled", asked, asked, so, asked, so, "ORDER_UNITS_RETURNED", so]
        }
        Command::Cancel { .. } => {
            let (ends, unasked) = ("OrderCancelled", "ORDER_CANCELLATION_NOT_REQUESTED");
            [ABSENT, ends, ends, ends, ends, unasked, ends, unasked, "nothing"]
        }
        Command::RecordReturn { .. } => {
            let (unsold, back) = ("ORDER_NOT_CONFIRMED", "OrderUnitsReturned");
            [ABSENT, unsold, unsold, unsold, unsold, back, WANTED_OUT, back, unsold]
        }
    }
}

#[test]
fn every_command_in_every_state() {
    let reason = CancelReason::Customer;
    let OrderAwaitingPayment { payment_id, code } = awaiting(1, "declined");
    let commands = [
        Command::Submit(placement()),
        Command::Draft(placement()),
        place_at(None, offers()),
        Command::RecordAwaitingPayment { payment_id, code },
        confirm(),
        Command::RequestCancellation { reason },
        Command::Cancel { reason },
        record_return("ret_2", vec![back(0, 2)]),
    ];
    for command in commands {
        for ((state, history), expected) in states().into_iter().zip(expected(&command)) {
            let found = given::<Order>(history).when(command.clone()).in_words();
            assert_eq!(found, expected, "{command:?} when {state}");
        }
    }
}

#[test]
fn an_order_is_submitted_as_it_was_placed() {
    let order = given::<Order>([]).when(Command::Submit(placement())).then([submitted()]);
    assert_eq!((order.total_minor(), order.lines().len()), (2_765, 2));
    assert_eq!(order.status(), Some(OrderStatus::Submitted));
}

fn offer(sku: &str, amount_minor: Option<i64>) -> LineOffer {
    let product_id = crate::ProductId::new("prd_1").unwrap();
    let price = amount_minor.map(|amount_minor| LinePrice { amount_minor, version: 7 });
    LineOffer { sku: Sku::new(sku).unwrap(), product_id, on_sale: true, price }
}

/// What the two SKUs of [`placement`] are sold for now.
fn offers() -> Vec<LineOffer> {
    vec![offer("71053", Some(1_100)), offer("85123A", Some(300))]
}

fn place_at(token: Option<&str>, offers: Vec<LineOffer>) -> Command {
    Command::Place { payment_method_token: token.map(str::to_owned), offers }
}

/// [`placement`] at the prices of [`offers`].
fn placed_now() -> Placement {
    let now = |line: OrderLine| OrderLine {
        product_id: Some(crate::ProductId::new("prd_1").unwrap()),
        price_version: Some(7),
        ..line
    };
    place_lines(vec![now(line("85123A", 3, 300)), now(line("71053", 2, 1_100))]).unwrap()
}

#[test]
fn a_draft_is_sold_at_the_price_of_its_submission() {
    let draft = || given::<Order>([drafted(placement())]);
    let order = draft()
        .when(place_at(None, offers()))
        .then([Event::Submitted(OrderSubmitted { placement: placed_now() })]);
    assert_eq!(order.total_minor(), 3_100);
    let sku = Sku::new("71053").unwrap();
    let gone = LineOffer { on_sale: false, ..offer("71053", Some(1_100)) };
    for (second, refusal) in [
        (None, Error::SkuUnknown { index: 1, sku: sku.clone() }),
        (Some(gone), Error::NotOnSale { index: 1, sku: sku.clone() }),
        (Some(offer("71053", None)), Error::PriceMissing { index: 1, sku }),
    ] {
        let offers = [offer("85123A", Some(300))].into_iter().chain(second).collect();
        assert_eq!(refusal.field().as_deref(), Some("lines[1].sku"));
        draft().when(place_at(None, offers)).then_refused(refusal);
    }
}

#[test]
fn a_price_that_was_named_stays_and_still_wants_a_product_on_sale() {
    let named = OrderLine { price_source: PriceSource::Override, ..line("71053", 2, 1_000) };
    let draft = place_lines(vec![named]).unwrap();
    let placed = given::<Order>([drafted(draft.clone())]).when(place_at(None, offers())).outcome();
    let [Event::Submitted(submitted)] = &placed.unwrap()[..] else { panic!("submitted") };
    assert_eq!(submitted.placement.total_minor, 2_000);
    let gone = LineOffer { on_sale: false, ..offer("71053", None) };
    let refused = Error::NotOnSale { index: 0, sku: Sku::new("71053").unwrap() };
    given::<Order>([drafted(draft)]).when(place_at(None, vec![gone])).then_refused(refused);
}

#[test]
fn only_a_draft_is_submitted() {
    let refused = Error::AlreadyPlaced { status: OrderStatus::Submitted };
    given::<Order>([submitted()]).when(place_at(Some("tok_other"), offers())).then_refused(refused);
}

#[test]
fn a_draft_is_placed_with_its_own_token_or_another_where_it_has_none() {
    let place = |token: Option<&str>| place_at(token, offers());
    let submitted = || Event::Submitted(OrderSubmitted { placement: placed_now() });
    given::<Order>([drafted(placement())]).when(place(Some("tok_other"))).then([submitted()]);
    let history = || given::<Order>([drafted(without_token())]);
    history().when(place(None)).then_refused(Error::PaymentMethod);
    history().when(place(Some("4111111111111111"))).then_refused(Error::PaymentMethod);
    history().when(place(Some("tok_approve"))).then([submitted()]);
    given::<Order>([]).when(Command::Submit(without_token())).then_refused(Error::PaymentMethod);
    given::<Order>([]).when(Command::Draft(without_token())).then([drafted(without_token())]);
}

#[test]
fn another_decline_is_news_and_the_same_one_is_not() {
    let record = |awaiting: OrderAwaitingPayment| Command::RecordAwaitingPayment {
        payment_id: awaiting.payment_id,
        code: awaiting.code,
    };
    let history = || given::<Order>([submitted(), Event::AwaitingPayment(awaiting(1, "declined"))]);
    history().when(record(awaiting(1, "declined"))).then_nothing();
    let second = awaiting(2, "declined");
    history().when(record(second.clone())).then([Event::AwaitingPayment(second)]);
}

#[test]
fn a_confirmation_names_its_payments() {
    let nothing_paid = Command::Confirm { reservation_id: order_id().reservation_of_old(), payments: vec![] };
    given::<Order>([submitted()]).when(nothing_paid).then_refused(Error::NoPayments);
}

#[test]
fn a_confirmed_order_is_cancelled_only_on_request() {
    let cancel = Command::Cancel { reason: CancelReason::Customer };
    let sold = || given::<Order>([submitted(), confirmed()]);
    sold().when(cancel.clone()).then_refused(Error::CancellationNotRequested);
    let order = sold()
        .and([requested(CancelReason::Customer)])
        .when(cancel)
        .then([cancelled(CancelReason::Customer)]);
    assert_eq!(order.status(), Some(OrderStatus::Cancelled));
}

#[test]
fn units_come_back_up_to_what_was_ordered() {
    let sold = || given::<Order>([submitted(), confirmed()]);
    let all = vec![back(0, 3), back(1, 2)];
    sold().when(record_return("ret_1", all.clone())).then([units_returned(
        "ret_1",
        all.clone(),
        placement().total_minor,
    )]);
    let part = || sold().and([units_returned("ret_1", vec![back(0, 2)], 510)]);
    part().when(record_return("ret_1", all)).then_nothing();
    part().when(record_return("ret_2", vec![back(0, 2)])).then_refused(Error::TooManyUnits {
        index: 0,
        line: 0,
        asked: 2,
        left: 1,
    });
    // A line named twice takes from the same units.
    part().when(record_return("ret_2", vec![back(0, 1), back(0, 1)])).then_refused(Error::TooManyUnits {
        index: 1,
        line: 0,
        asked: 1,
        left: 0,
    });
    part()
        .when(record_return("ret_2", vec![back(2, 1)]))
        .then_refused(Error::NoSuchLine { index: 0, line: 2 });
    part().when(record_return("ret_2", vec![])).then_refused(Error::NothingReturned);
}

#[test]
fn a_placement_that_cannot_be_names_its_field() {
    let many = |count| vec![line("A", 1, 1); count];
    let cases = [
        (vec![], "lines"),
        (many(1_001), "lines"),
        (vec![line("A", 1, 1), line("A", 1, -1)], "lines[1].unit_price"),
        (vec![line("A", 1, 1), line("A", 2, i64::MAX)], "lines[1]"),
        (vec![line("A", 1, i64::MAX), line("A", 1, 1)], "lines[1]"),
        (vec![line("A", 1_000_000_000, 1), line("B", 1, 1), line("A", 1, 1)], "lines[2].quantity"),
    ];
    for (lines, field) in cases {
        let refused = place_lines(lines).unwrap_err().refused();
        assert_eq!((refused.family, refused.field.as_deref()), (RefusalFamily::Invalid, Some(field)));
    }
    assert!(place_lines(many(LINES_MAX)).is_ok());
    let quantity = Error::Quantity { index: 4, found: i64::MAX };
    assert_eq!(quantity.field().as_deref(), Some("lines[4].quantity"));
    let mixed = Error::MixedCurrency { index: 4, expected: Currency::GBP, found: Currency::EUR };
    assert_eq!(mixed.field().as_deref(), Some("lines[4].unit_price"));
}

#[test]
fn a_placement_whose_total_was_tampered_with_is_refused() {
    let stated = Placement { total_minor: 1, ..placement() };
    let refusal = Error::Total { stated: 1, sum: 2_765 };
    given::<Order>([]).when(Command::Submit(stated.clone())).then_refused(refusal.clone());
    given::<Order>([]).when(Command::Draft(stated)).then_refused(refusal);
}

#[test]
fn a_decision_does_not_depend_on_the_time() {
    let order = Order::default();
    let at = |seconds| order.decide(&Command::Submit(placement()), Timestamp::from_seconds(seconds));
    assert_eq!(at(0), at(1_000_000));
}
