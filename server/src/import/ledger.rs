//! What of a customer's confirmed orders may still come back.

use std::collections::BTreeMap;

use super::retail::{Invoice, Line};

/// A customer's orders, in file order.
#[derive(Default)]
pub(super) struct Ledger {
    orders: Vec<Sold>,
}

struct Sold {
    order_id: String,
    lines: Vec<SoldLine>,
}

struct SoldLine {
    sku: String,
    unit_price: i64,
    left: i64,
}

/// What one return takes from one order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taking {
    pub(super) order_id: String,
    /// Units by index of the order's line.
    pub(super) lines: BTreeMap<u32, i64>,
    pub(super) refund: i64,
}

impl Ledger {
    /// A confirmed order, later in the file than all before.
    pub(super) fn sold(&mut self, order_id: String, invoice: &Invoice) {
        let line = |Line { sku, quantity, unit_price }: &Line| SoldLine {
            sku: sku.clone(),
            unit_price: *unit_price,
            left: *quantity,
        };
        self.orders.push(Sold { order_id, lines: invoice.lines.iter().map(line).collect() });
    }

    /// Takes the units of a return, line by line, from the newest orders first and within an order in line order.
    /// Answers one taking per order touched, newest first, and how many units no order was found for.
    pub(super) fn take_back(&mut self, invoice: &Invoice) -> (Vec<Taking>, i64) {
        let mut takings: BTreeMap<usize, Taking> = BTreeMap::new();
        let mut unmatched = 0;
        for wanted in &invoice.lines {
            let mut missing = wanted.quantity;
            for (index, order) in self.orders.iter_mut().enumerate().rev() {
                for (line_index, line) in (0..).zip(&mut order.lines) {
                    let units = line.left.min(missing);
                    if line.sku != wanted.sku || units == 0 {
                        continue;
                    }
                    line.left -= units;
                    missing -= units;
                    let taking = takings.entry(index).or_insert_with(|| Taking {
                        order_id: order.order_id.clone(),
                        lines: BTreeMap::new(),
                        refund: 0,
                    });
                    *taking.lines.entry(line_index).or_default() += units;
                    taking.refund += units * line.unit_price;
                }
                if missing == 0 {
                    break;
                }
            }
            unmatched += missing;
        }
        (takings.into_values().rev().collect(), unmatched)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::retail::InvoiceKind;
    use super::*;

    fn invoice(lines: &[(&str, i64, i64)]) -> Invoice {
        let line =
            |&(sku, quantity, unit_price): &(&str, i64, i64)| Line { sku: sku.into(), quantity, unit_price };
        Invoice {
            number: "1".into(),
            kind: InvoiceKind::Sale,
            customer: "7".into(),
            time: Timestamp::UNIX_EPOCH,
            lines: lines.iter().map(line).collect(),
            refused: Vec::new(),
        }
    }

    fn taking(order_id: &str, lines: &[(u32, i64)], refund: i64) -> Taking {
        Taking { order_id: order_id.into(), lines: lines.iter().copied().collect(), refund }
    }

    #[test]
    fn newest_orders_first_within_an_order_in_line_order_at_the_price_paid() {
        let mut ledger = Ledger::default();
        ledger.sold("ord_old".into(), &invoice(&[("A1", 5, 100)]));
        ledger.sold("ord_new".into(), &invoice(&[("A1", 1, 120), ("B1", 1, 1), ("A1", 2, 110)]));
        let (takings, unmatched) = ledger.take_back(&invoice(&[("A1", 4, 999), ("C1", 3, 1)]));
        assert_eq!(takings, [taking("ord_new", &[(0, 1), (2, 2)], 340), taking("ord_old", &[(0, 1)], 100)]);
        assert_eq!(unmatched, 3);
        // What came back does not come back again.
        assert_eq!(ledger.take_back(&invoice(&[("A1", 9, 1)])), (vec![taking("ord_old", &[(0, 4)], 400)], 5));
    }
}
