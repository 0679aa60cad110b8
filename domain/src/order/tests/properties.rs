//! What holds for every order.

use proptest::prelude::*;

use super::{confirmed, line, place_lines, return_id};
use crate::order::{Command, Error, Order, OrderSubmitted, ReturnedLine};
use crate::{Aggregate, Quantity, Timestamp};

fn price() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0_i64..10_000, 1 => i64::MAX / 4..=i64::MAX, 1 => any::<i64>()]
}

fn quantity() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(1), 4 => 1_i64..10, 1 => 1_i64..=1_000_000_000]
}

proptest! {
    #[test]
    fn a_total_is_exact_or_refused(lines in proptest::collection::vec((quantity(), price()), 0..40)) {
        let exact: i128 = lines.iter().map(|(quantity, price)| i128::from(*quantity) * i128::from(*price)).sum();
        let placed = place_lines(lines.iter().map(|(quantity, price)| line("A", *quantity, *price)).collect());
        match placed {
            Ok(placement) => prop_assert_eq!(i128::from(placement.total_minor), exact),
            Err(Error::NoLines) => prop_assert!(lines.is_empty()),
            Err(Error::NegativePrice { index, found }) => prop_assert!(lines[index].1 == found && found < 0),
            Err(Error::Overflow { index }) => {
                let up_to: i128 =
                    lines[..=index].iter().map(|(quantity, price)| i128::from(*quantity) * i128::from(*price)).sum();
                prop_assert!(up_to > i128::from(i64::MAX));
            }
            Err(Error::UnitsOfSku { index, .. }) => {
                let units: i64 = lines[..=index].iter().map(|(quantity, _)| quantity).sum();
                prop_assert!(units > 1_000_000_000);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn returned_units_never_exceed_ordered_ones(
        ordered in proptest::collection::vec((1_i64..6, 0_i64..1_000), 1..4),
        returns in proptest::collection::vec(
            (0_u8..6, proptest::collection::vec((0_u32..5, 1_i64..5), 0..4)), 0..12),
    ) {
        let placement = place_lines(ordered.iter().map(|(quantity, price)| line("A", *quantity, *price)).collect());
        let placement = placement.unwrap();
        let total_minor = placement.total_minor;
        let mut order = Order::default();
        order.evolve(&crate::order::Event::Submitted(OrderSubmitted { placement }));
        order.evolve(&confirmed());
        let (mut refunded, mut seen) = (0, std::collections::BTreeSet::new());
        for (id, lines) in returns {
            let lines = lines
                .into_iter()
                .map(|(line, quantity)| ReturnedLine { line, quantity: Quantity::new(quantity).unwrap() })
                .collect();
            let command = Command::RecordReturn { return_id: return_id(&format!("ret_{id}")), lines };
            let decided = order.decide(&command, Timestamp::default());
            prop_assert!(!seen.contains(&id) || decided == Ok(vec![]), "a return was recorded twice");
            for event in decided.into_iter().flatten() {
                seen.insert(id);
                if let crate::order::Event::UnitsReturned(returned) = &event {
                    refunded += returned.refund_minor;
                }
                order.evolve(&event);
            }
            prop_assert!(order.lines().iter().all(|line| line.returned <= line.ordered));
            prop_assert!(refunded <= total_minor);
        }
        let owed: i64 =
            order.lines().iter().map(|line| i64::from(line.returned) * line.unit_price_minor).sum();
        prop_assert_eq!(refunded, owed);
    }
}
