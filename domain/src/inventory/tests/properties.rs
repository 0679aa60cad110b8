//! The laws of stock, whatever is asked in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::Aggregate;

fn stock_command() -> impl Strategy<Value = StockCommand> {
    let id = || (0..8_u8).prop_map(|n| res(&format!("res_{n}")));
    let few = || (1..30_i64).prop_map(units);
    let any_units = || prop_oneof![8 => few(), 1 => Just(units(1_000_000_000))];
    let reason = || prop_oneof![Just(ReleaseReason::Cancelled), Just(ReleaseReason::Reversed)];
    prop_oneof![
        2 => any_units().prop_map(|quantity| {
            let (sku, location) = (sku("A1"), LocationId::main());
            StockCommand::Receive { sku, location, quantity, reference: None }
        }),
        1 => prop_oneof![8 => -40..40_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
            .prop_map(|delta| StockCommand::Adjust { delta, reason: "check".to_owned() }),
        1 => prop_oneof![8 => 0..90_i64, 1 => Just(i64::MAX), 1 => Just(-1)]
            .prop_map(|found| StockCommand::Count { found }),
        6 => (id(), any_units()).prop_map(|(reservation_id, quantity)| {
            StockCommand::Reserve { reservation_id, quantity }
        }),
        4 => id().prop_map(|reservation_id| StockCommand::Commit { reservation_id }),
        3 => (id(), reason()).prop_map(|(reservation_id, reason)| {
            StockCommand::Release { reservation_id, reason }
        }),
        3 => (id(), 0..20_u8, few()).prop_map(|(reservation_id, n, quantity)| {
            StockCommand::PutBack { reservation_id, return_id: ret(&format!("ret_{n}")), quantity }
        }),
    ]
}

fn assert_laws(item: &StockItem) -> Result<(), TestCaseError> {
    let buckets = [item.available(), item.reserved(), item.committed()];
    prop_assert_eq!(item.on_hand(), buckets.iter().sum::<i64>(), "buckets add up to what is on hand");
    prop_assert!(buckets.iter().all(|units| *units >= 0), "no bucket below zero: {:?}", buckets);
    prop_assert_eq!(item.open_reservations().map(|(_, units)| units).sum::<i64>(), item.reserved());
    prop_assert_eq!(item.committed_reservations().map(|(_, units)| units).sum::<i64>(), item.committed());
    Ok(())
}

/// What the history alone says is held and sold, told without the aggregate.
#[derive(Default)]
struct Book {
    on_hand: i64,
    taken: BTreeMap<ReservationId, i64>,
}

impl Book {
    fn enter(&mut self, event: &StockEvent) {
        match event {
            StockEvent::Received(e) => self.on_hand += e.quantity.get(),
            StockEvent::Adjusted(e) => self.on_hand += e.delta,
            StockEvent::Counted(e) => self.on_hand = e.found,
            StockEvent::Reserved(e) => {
                *self.taken.entry(e.reservation_id.clone()).or_default() += e.quantity.get()
            }
            StockEvent::ReservationRejected(_) | StockEvent::Committed(_) => {}
            StockEvent::Released(e) => *self.taken.entry(e.reservation_id.clone()).or_default() -= e.quantity,
            StockEvent::PutBack(e) => {
                *self.taken.entry(e.reservation_id.clone()).or_default() -= e.quantity.get()
            }
        }
    }

    fn oversold(&self) -> bool {
        self.taken.values().any(|units| *units < 0) || self.taken.values().sum::<i64>() > self.on_hand
    }
}

proptest! {
    #[test]
    fn stock_always_adds_up_and_is_never_oversold(
        commands in prop::collection::vec((stock_command(), 0..40_000_i64), 1..120),
    ) {
        let (mut item, mut book, mut clock) = (StockItem::default(), Book::default(), 0);
        for (command, pause) in commands {
            clock += pause;
            for event in item.decide(&command, second(clock)).unwrap_or_default() {
                item.evolve(&event);
                book.enter(&event);
                assert_laws(&item)?;
                prop_assert!(!book.oversold(), "{:?} oversold", event);
            }
        }
    }

    #[test]
    fn the_same_stock_command_twice_changes_nothing_the_second_time(
        commands in prop::collection::vec(stock_command(), 1..60),
    ) {
        let mut item = StockItem::default();
        for command in commands {
            let additive = matches!(command, StockCommand::Receive { .. } | StockCommand::Adjust { .. });
            for event in item.decide(&command, second(0)).unwrap_or_default() {
                item.evolve(&event);
            }
            // Receipts and corrections are told apart by their command ids alone; a refusal may be asked for again.
            let again = item.decide(&command, second(0)).unwrap_or_default();
            let moves = |event: &StockEvent| !matches!(event, StockEvent::ReservationRejected(_));
            prop_assert!(additive || !again.iter().any(moves), "{:?} again: {:?}", command, again);
        }
    }

    #[test]
    fn once_released_nothing_is_ever_held_again(
        before in prop::collection::vec(stock_command(), 0..60),
        after in prop::collection::vec(stock_command(), 0..60),
    ) {
        let id = res("res_0");
        let mut item = StockItem::default();
        let mut run = |command: &StockCommand| {
            for event in item.decide(command, second(0)).unwrap_or_default() {
                item.evolve(&event);
            }
            item.open_reservations().chain(item.committed_reservations()).any(|(holder, _)| *holder == id)
        };
        for command in &before {
            run(command);
        }
        run(&StockCommand::Release { reservation_id: id.clone(), reason: ReleaseReason::Timeout });
        for command in &after {
            prop_assert!(!run(command), "{:?} held for a released reservation", command);
        }
    }
}

fn reservation_command() -> impl Strategy<Value = ReservationCommand> {
    let short = ShortLine { sku: sku("A1"), location: LocationId::main(), requested: units(4), available: 3 };
    let settle = |decision| ReservationCommand::RecordSettled { decision };
    prop_oneof![
        1 => Just(ReservationCommand::Request {
            reservation_id: res("res_1"),
            keys: vec![key("A1", 4)],
            hold_seconds: 60,
            hard_max_seconds: 120,
        }),
        4 => Just(ReservationCommand::RecordAllocation(Allocation::Held)),
        1 => Just(ReservationCommand::RecordAllocation(Allocation::Rejected { short: vec![short] })),
        2 => (0..300_i64).prop_map(|until| ReservationCommand::Extend { until: second(until) }),
        2 => Just(ReservationCommand::Commit),
        1 => Just(ReservationCommand::Release { reason: ReleaseReason::Cancelled }),
        1 => Just(ReservationCommand::Reverse { reason: ReleaseReason::Reversed }),
        1 => Just(ReservationCommand::Expire),
        1 => Just(settle(Decision::Rejected)),
        1 => Just(settle(Decision::Committed)),
        1 => Just(settle(Decision::Released)),
    ]
}

proptest! {
    #[test]
    fn a_reservation_only_moves_forward(
        commands in prop::collection::vec((reservation_command(), 0..30_i64), 1..40),
    ) {
        let (mut reservation, mut clock) = (Reservation::default(), 0);
        let rank = |status| match status {
            ReservationStatus::Missing => 0,
            ReservationStatus::Requested => 1,
            ReservationStatus::Held => 2,
            ReservationStatus::Committed => 3,
            ReservationStatus::Rejected | ReservationStatus::Released { .. } => 4,
        };
        let mut requested_at = None;
        for (command, pause) in commands {
            clock += pause;
            for event in reservation.decide(&command, second(clock)).unwrap_or_default() {
                let (before, was_until) = (reservation.status(), reservation.until());
                reservation.evolve(&event);
                let after = reservation.status();
                prop_assert!(rank(before) <= rank(after), "{:?} after {:?}", after, before);
                if after != before {
                    prop_assert!(rank(before) < 4, "{:?} is final, not followed by {:?}", before, after);
                }
                match &event {
                    ReservationEvent::Requested(_) => requested_at = Some(clock),
                    ReservationEvent::Committed(_) => prop_assert!(second(clock) < was_until),
                    ReservationEvent::Settled(_) => prop_assert!(!reservation.is_unsettled()),
                    ReservationEvent::Held(_)
                    | ReservationEvent::Rejected(_)
                    | ReservationEvent::Extended(_)
                    | ReservationEvent::Released(_) => {}
                }
                if let Some(start) = requested_at {
                    prop_assert!(reservation.until() <= second(start + 120), "beyond the hard maximum");
                }
            }
        }
    }
}
