//! Every command of pricing in every state, and the 30-day lowest price against its definition.

use proptest::prelude::*;

use super::*;
use crate::testing::given;
use crate::text::TextError;
use crate::{Aggregate, Currency, Duration, Refusal, RefusalFamily, Sku, Timestamp};

fn sku() -> Sku {
    Sku::new("85123A").unwrap()
}

fn day(days: u16) -> Timestamp {
    Timestamp::default() + Duration::from_days(days)
}

fn set_to(amount_minor: i64) -> PriceCommand {
    PriceCommand::Set { sku: sku(), amount_minor, currency: Currency::GBP, reason: None }
}

fn was_set(amount_minor: i64, at: Timestamp) -> PriceEvent {
    PriceEvent::Set(PriceSet { sku: sku(), currency: Currency::GBP, amount_minor, reason: None, at })
}

fn changed(old_minor: i64, new_minor: i64, prior_lowest_minor: Option<i64>, at: Timestamp) -> PriceEvent {
    PriceEvent::Changed(PriceChanged {
        sku: sku(),
        currency: Currency::GBP,
        old_minor,
        new_minor,
        reason: None,
        prior_lowest_minor,
        at,
    })
}

#[test]
fn every_price_command_in_every_state() {
    let states: [(&str, Vec<PriceEvent>, [&str; 4]); 3] = [
        ("no price", vec![], ["PriceSet", "PriceSet", "PriceSet", "PRICE_NEGATIVE"]),
        (
            "set to 255",
            vec![was_set(255, day(0))],
            ["PriceChanged", "nothing", "PriceChanged", "PRICE_NEGATIVE"],
        ),
        (
            "changed to 300",
            vec![was_set(255, day(0)), changed(255, 300, None, day(1))],
            ["PriceChanged", "PriceChanged", "nothing", "PRICE_NEGATIVE"],
        ),
    ];
    for (state, history, expected) in states {
        for (amount, expected) in [0, 255, 300, -1].into_iter().zip(expected) {
            let found = given::<Price>(history.clone()).at(day(2)).when(set_to(amount)).in_words();
            assert_eq!(found, expected, "set to {amount} when {state}");
        }
    }
}

#[test]
fn a_reduction_carries_the_lowest_price_of_thirty_days() {
    let history = || {
        given::<Price>([
            was_set(200, day(0)),
            changed(200, 300, None, day(40)),
            changed(300, 250, Some(200), day(45)),
            changed(250, 400, None, day(50)),
        ])
    };
    // 200 held until day 40, 250 until day 50.
    history().at(day(60)).when(set_to(390)).then([changed(400, 390, Some(200), day(60))]);
    history().at(day(70)).when(set_to(390)).then([changed(400, 390, Some(250), day(70))]);
    history().at(day(79)).when(set_to(100)).then([changed(400, 100, Some(250), day(79))]);
    history().at(day(80)).when(set_to(390)).then([changed(400, 390, Some(400), day(80))]);
    history().at(day(60)).when(set_to(401)).then([changed(400, 401, None, day(60))]);
}

#[test]
fn a_price_knows_whose_it_is() {
    let other_sku = Sku::new("OTHER").unwrap();
    let command = |sku, currency| PriceCommand::Set { sku, amount_minor: 1, currency, reason: None };
    given::<Price>([was_set(255, day(0))])
        .when(command(other_sku.clone(), Currency::GBP))
        .then_refused(Error::OtherSku { expected: sku(), found: other_sku });
    given::<Price>([was_set(255, day(0))])
        .when(command(sku(), Currency::EUR))
        .then_refused(Error::OtherCurrency { expected: Currency::GBP, found: Currency::EUR });
}

#[test]
fn a_bad_request_names_its_field() {
    let negative = Error::Negative { amount_minor: -1 };
    assert_eq!(
        (negative.family(), negative.field().as_deref()),
        (RefusalFamily::Invalid, Some("amount_minor"))
    );
    given::<Price>([]).when(set_to(-1)).then_refused(negative);
    let reason = Some("x".repeat(501));
    let command = PriceCommand::Set { sku: sku(), amount_minor: 1, currency: Currency::GBP, reason };
    given::<Price>([]).when(command).then_refused(Error::Text(TextError::TooLong {
        field: "reason".to_owned(),
        found: 501,
        limit: 500,
    }));
}

#[test]
fn the_largest_price_and_a_free_one_are_prices() {
    let state = given::<Price>([]).when(set_to(i64::MAX)).then([was_set(i64::MAX, day(0))]);
    assert_eq!(state.amount_minor(), Some(i64::MAX));
    given::<Price>([was_set(i64::MAX, day(0))]).at(day(1)).when(set_to(0)).then([changed(
        i64::MAX,
        0,
        Some(i64::MAX),
        day(1),
    )]);
}

/// The definition, naively: the least price that held at any moment of the 30 days before `now`.
fn lowest_by_definition(history: &[(u32, i64)], now: u32) -> i64 {
    let from = i64::from(now) - 30 * 86_400;
    let ends = history.iter().skip(1).map(|(start, _)| i64::from(*start)).chain([i64::from(now)]);
    let held = history.iter().zip(ends).filter(|(_, end)| *end > from);
    held.map(|((_, amount), _)| *amount).min().unwrap()
}

proptest! {
    #[test]
    fn the_prior_lowest_price_is_as_defined(steps in prop::collection::vec((1_u32..20 * 86_400, 0_i64..12), 1..60)) {
        let (mut price, mut clock, mut history) = (Price::default(), 0_u32, Vec::<(u32, i64)>::new());
        for (pause, amount) in steps {
            clock += pause;
            let now = Timestamp::from_seconds(i64::from(clock));
            for event in price.decide(&set_to(amount), now).unwrap() {
                if let PriceEvent::Changed(changed) = &event {
                    let reduced = changed.new_minor < changed.old_minor;
                    let lowest = reduced.then(|| lowest_by_definition(&history, clock));
                    prop_assert_eq!(changed.prior_lowest_minor, lowest);
                }
                history.push((clock, amount));
                price.evolve(&event);
            }
            prop_assert_eq!(price.amount_minor(), Some(amount));
        }
    }
}
