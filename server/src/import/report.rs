//! What an import did, as a table for people and as JSON for programs.

use serde::Serialize;

use super::retail::{InvoiceKind, Refusal, Retail};

/// The end of an import. Every figure but the last two follows from the file and the stock cover alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Sales with a good line.
    pub accepted_sale: u64,
    /// Returns with a good line, whether or not an order was found for it.
    pub accepted_return: u64,
    /// The others.
    pub refused_invoices: RefusedInvoices,
    /// Lines that are not good, those of refused invoices included.
    pub refused_lines: RefusedLines,
    /// Different SKUs in good lines of accepted sales.
    pub skus: u64,
    /// Different customers of accepted sales.
    pub customers: u64,
    /// Orders that ended confirmed.
    pub confirmed: u64,
    /// Orders that ended cancelled.
    pub cancelled: u64,
    /// Sum of the totals of confirmed orders.
    pub sales_pence: i64,
    /// Units in confirmed orders.
    pub units_sold: i64,
    /// Given back for returns.
    pub refunds_pence: i64,
    /// Units that came back to an order.
    pub units_returned: i64,
    /// Units that came back and for which no order was found.
    pub units_unmatched: i64,
    /// How long it took.
    pub seconds: f64,
    /// Accepted sales per second.
    pub orders_per_second: f64,
}

/// Invoices without a good line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefusedInvoices {
    /// Bookkeeping.
    pub adjustment: u64,
    /// Sales.
    pub sale_no_goods: u64,
    /// Returns.
    pub return_no_goods: u64,
}

/// Lines by the first rule they break.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RefusedLines {
    /// No digit in the code.
    pub not_goods: u64,
    /// Below a penny.
    pub price: u64,
    /// The wrong sign.
    pub quantity: u64,
    /// Of an adjustment.
    pub adjustment: u64,
}

impl Report {
    /// What follows from the file alone.
    pub fn of_file(retail: &Retail) -> Self {
        let mut report = Self::default();
        let (mut skus, mut customers) = (std::collections::HashSet::new(), std::collections::HashSet::new());
        for invoice in &retail.invoices {
            match (invoice.kind, invoice.lines.is_empty()) {
                (InvoiceKind::Adjustment, _) => report.refused_invoices.adjustment += 1,
                (InvoiceKind::Sale, true) => report.refused_invoices.sale_no_goods += 1,
                (InvoiceKind::Return, true) => report.refused_invoices.return_no_goods += 1,
                (InvoiceKind::Return, false) => report.accepted_return += 1,
                (InvoiceKind::Sale, false) => {
                    report.accepted_sale += 1;
                    customers.insert(&invoice.customer);
                    skus.extend(invoice.lines.iter().map(|line| &line.sku));
                }
            }
            for refusal in &invoice.refused {
                match refusal {
                    Refusal::Adjustment => report.refused_lines.adjustment += 1,
                    Refusal::NotGoods => report.refused_lines.not_goods += 1,
                    Refusal::Price => report.refused_lines.price += 1,
                    Refusal::Quantity => report.refused_lines.quantity += 1,
                }
            }
        }
        report.skus = skus.len() as u64;
        report.customers = customers.len() as u64;
        report
    }

    /// The figures with their names, in the order of the fields.
    pub fn table(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        let RefusedInvoices { adjustment, sale_no_goods, return_no_goods } = &self.refused_invoices;
        let lines = &self.refused_lines;
        let rows = [
            ("accepted sales", self.accepted_sale.to_string()),
            ("accepted returns", self.accepted_return.to_string()),
            (
                "refused invoices",
                format!(
                    "adjustment {adjustment}, sale without goods {sale_no_goods}, return without goods {return_no_goods}"
                ),
            ),
            (
                "refused lines",
                format!(
                    "not goods {}, price {}, quantity {}, adjustment {}",
                    lines.not_goods, lines.price, lines.quantity, lines.adjustment
                ),
            ),
            ("SKUs", self.skus.to_string()),
            ("customers", self.customers.to_string()),
            ("confirmed", self.confirmed.to_string()),
            ("cancelled", self.cancelled.to_string()),
            ("sales, pence", self.sales_pence.to_string()),
            ("units sold", self.units_sold.to_string()),
            ("refunds, pence", self.refunds_pence.to_string()),
            ("units returned", self.units_returned.to_string()),
            ("units unmatched", self.units_unmatched.to_string()),
            ("seconds", format!("{:.1}", self.seconds)),
            ("orders per second", format!("{:.1}", self.orders_per_second)),
        ];
        for (name, figure) in rows {
            table.add_row([name, &figure]);
        }
        table
    }
}
