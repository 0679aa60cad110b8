//! What an import of the retail file must come to, counted from the rules in `docs/import.md` alone: nothing here is
//! shared with the importer, not even the reading of the file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

/// The figures of an import's report that follow from the file, with enough stock for every order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Figures {
    /// Sales with a good line.
    pub accepted_sale: u64,
    /// Returns with a good line.
    pub accepted_return: u64,
    /// Invoices without one, by what they are.
    pub refused_invoices: BTreeMap<String, u64>,
    /// Lines that are not good, by the first rule they break.
    pub refused_lines: BTreeMap<String, u64>,
    /// Different SKUs of accepted sales.
    pub skus: u64,
    /// Different customers of accepted sales.
    pub customers: u64,
    /// Orders that end confirmed: all of them.
    pub confirmed: u64,
    /// None.
    pub cancelled: u64,
    /// Sum of the totals of confirmed orders.
    pub sales_pence: i64,
    /// Units in confirmed orders.
    pub units_sold: i64,
    /// Given back.
    pub refunds_pence: i64,
    /// Units that found the order they came from.
    pub units_returned: i64,
    /// Units that did not.
    pub units_unmatched: i64,
}

/// A line of the file.
struct Row {
    sku: String,
    quantity: i64,
    pence: i64,
}

/// All lines with one number.
struct Invoice {
    number: String,
    begins: String,
    customer: String,
    rows: Vec<Row>,
}

/// A good line of a sale, with what of it has not come back.
struct Sold {
    sku: String,
    pence: i64,
    left: i64,
}

/// Counts the invoices of a gzipped file that begin before `until`, a local time such as `2010-01-01`.
///
/// # Panics
/// The file is not one.
pub fn recount(path: &Path, until: Option<&str>) -> Figures {
    let mut figures = Figures {
        refused_invoices: zeros(["adjustment", "sale_no_goods", "return_no_goods"]),
        refused_lines: zeros(["not_goods", "price", "quantity", "adjustment"]),
        ..Figures::default()
    };
    let (mut skus, mut customers) = (BTreeSet::new(), BTreeSet::new());
    // Per customer, the orders in file order.
    let mut orders: BTreeMap<String, Vec<Vec<Sold>>> = BTreeMap::new();
    for invoice in invoices(path) {
        if until.is_some_and(|until| invoice.begins.as_str() >= until) {
            continue;
        }
        let kind = invoice.number.chars().next();
        let (good, broken) = judge(kind, invoice.rows);
        for rule in broken {
            *figures.refused_lines.get_mut(rule).expect("a known rule") += 1;
        }
        let refused = match (kind, good.is_empty()) {
            (Some('A'), _) => Some("adjustment"),
            (Some('C'), true) => Some("return_no_goods"),
            (_, true) => Some("sale_no_goods"),
            (_, false) => None,
        };
        if let Some(reason) = refused {
            *figures.refused_invoices.get_mut(reason).expect("a known reason") += 1;
        } else if kind == Some('C') {
            figures.accepted_return += 1;
            take_back(orders.entry(invoice.customer).or_default(), &good, &mut figures);
        } else {
            figures.accepted_sale += 1;
            figures.confirmed += 1;
            figures.units_sold += good.iter().map(|row| row.quantity).sum::<i64>();
            figures.sales_pence += good.iter().map(|row| row.quantity * row.pence).sum::<i64>();
            skus.extend(good.iter().map(|row| row.sku.clone()));
            customers.insert(invoice.customer.clone());
            let sold =
                good.into_iter().map(|row| Sold { sku: row.sku, pence: row.pence, left: row.quantity });
            orders.entry(invoice.customer).or_default().push(sold.collect());
        }
    }
    (figures.skus, figures.customers) = (skus.len() as u64, customers.len() as u64);
    figures
}

/// The good lines, and the first broken rule of each other. What a return brings back counts as positive.
fn judge(kind: Option<char>, rows: Vec<Row>) -> (Vec<Row>, Vec<&'static str>) {
    let (mut good, mut broken) = (Vec::new(), Vec::new());
    for mut row in rows {
        if kind == Some('C') {
            row.quantity = -row.quantity;
        }
        if kind == Some('A') {
            broken.push("adjustment");
        } else if !row.sku.contains(|c: char| c.is_ascii_digit()) {
            broken.push("not_goods");
        } else if row.pence <= 0 {
            broken.push("price");
        } else if row.quantity <= 0 {
            broken.push("quantity");
        } else {
            good.push(row);
        }
    }
    (good, broken)
}

/// Line by line from the newest order on, within an order in line order.
fn take_back(orders: &mut [Vec<Sold>], returned: &[Row], figures: &mut Figures) {
    for row in returned {
        let mut wanted = row.quantity;
        let lines = orders.iter_mut().rev().flatten().filter(|line| line.sku == row.sku);
        for line in lines {
            let taken = wanted.min(line.left);
            line.left -= taken;
            wanted -= taken;
            figures.units_returned += taken;
            figures.refunds_pence += taken * line.pence;
        }
        figures.units_unmatched += wanted;
    }
}

/// In the order of their first lines.
fn invoices(path: &Path) -> Vec<Invoice> {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzipped text");
    let mut invoices: Vec<Invoice> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields = split(line);
        let [number, code, _, quantity, begins, price, customer, _] = &fields[..] else { panic!("{line}") };
        let place = *places.entry(number.clone()).or_insert_with(|| {
            let customer = if customer.is_empty() { "guest" } else { customer };
            let (number, begins, customer) = (number.clone(), begins.clone(), customer.to_owned());
            invoices.push(Invoice { number, begins, customer, rows: Vec::new() });
            invoices.len() - 1
        });
        let sku = code.to_uppercase();
        let quantity = quantity.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
        invoices[place].rows.push(Row { sku, quantity, pence: pence(price) });
    }
    invoices
}

/// The fields of a line of CSV, trimmed. A quoted field may hold commas, and quotes doubled.
fn split(line: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("never empty");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields.iter().map(|field| field.trim().to_owned()).collect()
}

/// Pounds in pence, half up.
fn pence(pounds: &str) -> i64 {
    // A thousandth is the finest that stands in the file; tenths of a penny are exact in a whole number.
    let (whole, fraction) = pounds.split_once('.').unwrap_or((pounds, ""));
    let tenths: i64 =
        format!("{whole}{fraction:0<3}").parse().unwrap_or_else(|error| panic!("{pounds}: {error}"));
    (tenths + 5).div_euclid(10)
}

fn zeros<const N: usize>(names: [&str; N]) -> BTreeMap<String, u64> {
    names.into_iter().map(|name| (name.to_owned(), 0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_as_it_was_joined() {
        assert_eq!(split(r#"1,"A ""B"", C", x ,"#), ["1", r#"A "B", C"#, "x", ""]);
    }

    #[test]
    fn half_a_penny_is_one() {
        assert_eq!(["1.005", "1.004", "2.5", "3", "0.001", "-0.01"].map(pence), [101, 100, 250, 300, 0, -1]);
    }
}
