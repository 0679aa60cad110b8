//! The invoices of a retail file, and what of them is good.
//!
//! The file has one row per invoice line, the lines of one invoice not always together. The rules that make of it
//! customers, products, orders and returns are those of `docs/import.md`; they use nothing but the file.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// The customer of invoices that name none.
const GUEST: &str = "guest";
/// The zone of the file's times.
const ZONE: &str = "Europe/London";

/// Everything in a file.
#[derive(Debug)]
pub struct Retail {
    /// The first 8 hex digits of the SHA-256 of its bytes: part of every id made from it.
    pub digest: String,
    /// In the order of their first lines.
    pub invoices: Vec<Invoice>,
    /// SKU and description of what is sold, in the order first seen.
    pub products: Vec<ProductRow>,
}

/// One product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductRow {
    /// Its SKU.
    pub sku: String,
    /// The first description that is not empty; the SKU where there is none.
    pub title: String,
    /// The first good price, in pence.
    pub list_price: i64,
    /// Units in good lines of sales.
    pub demand: i64,
}

/// All lines of one invoice number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoice {
    /// Its number.
    pub number: String,
    /// Sale, return or adjustment.
    pub kind: InvoiceKind,
    /// Who bought; `guest` where the file says nobody.
    pub customer: String,
    /// The time of its first line.
    pub time: Timestamp,
    /// Its good lines, in file order; none: the invoice is refused.
    pub lines: Vec<Line>,
    /// Why the others are not good.
    pub refused: Vec<Refusal>,
}

/// What an invoice is, by the first letter of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvoiceKind {
    /// Goods go out.
    Sale,
    /// `C…`: goods come back.
    Return,
    /// `A…`: bookkeeping, refused.
    Adjustment,
}

/// A good line. The quantity of a return is what comes back, above zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What.
    pub sku: String,
    /// How many.
    pub quantity: i64,
    /// At what price, in pence.
    pub unit_price: i64,
}

/// The first rule that a line breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It belongs to an adjustment.
    Adjustment,
    /// Its code has no digit: postage, fees, samples.
    NotGoods,
    /// Its price is below a penny.
    Price,
    /// Its quantity has the wrong sign.
    Quantity,
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A row is not one.
    #[error("cannot read {}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: csv::Error,
    },
    /// A field is not what its column says.
    #[error("row {row}: {column} is {text:?}")]
    Field {
        /// Counted from 1, the header not counted.
        row: usize,
        /// The column.
        column: &'static str,
        /// What stands there.
        text: String,
    },
    /// There is nothing in it.
    #[error(
        "{} has no rows: a header (InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID) and \
         a row for each line of an invoice are wanted",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

#[derive(Deserialize)]
struct Row {
    #[serde(rename = "InvoiceNo")]
    invoice: String,
    #[serde(rename = "StockCode")]
    stock_code: String,
    #[serde(rename = "Description")]
    description: String,
    #[serde(rename = "Quantity")]
    quantity: String,
    #[serde(rename = "InvoiceDate")]
    date: String,
    #[serde(rename = "UnitPrice")]
    price: String,
    #[serde(rename = "CustomerID")]
    customer: String,
}

impl Retail {
    /// Reads a CSV, gzipped where its name ends in `.gz`.
    ///
    /// # Errors
    /// See [`ParseError`]. A line that is merely not good is no error: see [`Invoice::refused`].
    pub fn read(path: &Path) -> Result<Self, ParseError> {
        let io = |source| ParseError::Io { path: path.into(), source };
        let bytes = std::fs::read(path).map_err(io)?;
        let digest = Sha256::digest(&bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let text = if path.extension().is_some_and(|extension| extension == "gz") {
            let mut text = Vec::new();
            MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text).map_err(io)?;
            text
        } else {
            bytes
        };
        let mut retail = Self { digest, invoices: Vec::new(), products: Vec::new() };
        let mut invoices = HashMap::new();
        let mut products = HashMap::new();
        for (index, row) in csv::Reader::from_reader(&text[..]).deserialize::<Row>().enumerate() {
            let row = row.map_err(|source| ParseError::Row { path: path.into(), source })?;
            retail.take(index + 1, row, &mut invoices, &mut products)?;
        }
        if invoices.is_empty() {
            return Err(ParseError::Empty { path: path.into() });
        }
        // What was never sold at a good price is not a product of this shop.
        retail.products.retain(|product| product.list_price > 0);
        for product in &mut retail.products {
            if product.title.is_empty() {
                product.title.clone_from(&product.sku);
            }
        }
        Ok(retail)
    }

    /// Only the invoices before `end`, with the products and the demand that they make.
    pub fn until(mut self, end: Timestamp) -> Self {
        self.invoices.retain(|invoice| invoice.time < end);
        let mut demand: HashMap<&str, i64> = HashMap::new();
        let mut priced: HashMap<&str, i64> = HashMap::new();
        for invoice in &self.invoices {
            for line in &invoice.lines {
                priced.entry(&line.sku).or_insert(line.unit_price);
                if invoice.kind == InvoiceKind::Sale {
                    *demand.entry(&line.sku).or_default() += line.quantity;
                }
            }
        }
        self.products.retain_mut(|product| {
            product.demand = demand.get(product.sku.as_str()).copied().unwrap_or(0);
            product.list_price = priced.get(product.sku.as_str()).copied().unwrap_or(0);
            product.list_price > 0
        });
        self
    }

    fn take(
        &mut self,
        row_number: usize,
        row: Row,
        invoices: &mut HashMap<String, usize>,
        products: &mut HashMap<String, usize>,
    ) -> Result<(), ParseError> {
        let field = |column, text: &str| ParseError::Field { row: row_number, column, text: text.to_owned() };
        let number = row.invoice.trim().to_owned();
        let time = || parse_time(row.date.trim()).ok_or_else(|| field("InvoiceDate", &row.date));
        let invoice = match invoices.get(&number) {
            Some(index) => *index,
            None => {
                let kind = match number.as_bytes().first() {
                    Some(b'A') => InvoiceKind::Adjustment,
                    Some(b'C') => InvoiceKind::Return,
                    _ => InvoiceKind::Sale,
                };
                let customer = match row.customer.trim() {
                    "" => GUEST.to_owned(),
                    named => named.to_owned(),
                };
                let (lines, refused) = (Vec::new(), Vec::new());
                self.invoices.push(Invoice {
                    number: number.clone(),
                    kind,
                    customer,
                    time: time()?,
                    lines,
                    refused,
                });
                invoices.insert(number, self.invoices.len() - 1);
                self.invoices.len() - 1
            }
        };
        let invoice = &mut self.invoices[invoice];
        let sku = row.stock_code.trim().to_uppercase();
        let price = parse_pence(row.price.trim()).ok_or_else(|| field("UnitPrice", &row.price))?;
        let quantity: i64 = row.quantity.trim().parse().map_err(|_| field("Quantity", &row.quantity))?;
        let quantity = if invoice.kind == InvoiceKind::Return { -quantity } else { quantity };

        let product = *products.entry(sku.clone()).or_insert_with(|| {
            self.products.push(ProductRow {
                sku: sku.clone(),
                title: String::new(),
                list_price: 0,
                demand: 0,
            });
            self.products.len() - 1
        });
        let product = &mut self.products[product];
        if product.title.is_empty() {
            row.description.trim().clone_into(&mut product.title);
        }
        match refusal(invoice.kind, &sku, price, quantity) {
            Some(refusal) => invoice.refused.push(refusal),
            None => {
                if product.list_price == 0 {
                    product.list_price = price;
                }
                if invoice.kind == InvoiceKind::Sale {
                    product.demand += quantity;
                }
                invoice.lines.push(Line { sku, quantity, unit_price: price });
            }
        }
        Ok(())
    }
}

fn refusal(kind: InvoiceKind, sku: &str, price: i64, quantity: i64) -> Option<Refusal> {
    if kind == InvoiceKind::Adjustment {
        Some(Refusal::Adjustment)
    } else if !sku.bytes().any(|byte| byte.is_ascii_digit()) {
        Some(Refusal::NotGoods)
    } else if price < 1 {
        Some(Refusal::Price)
    } else if quantity < 1 {
        Some(Refusal::Quantity)
    } else {
        None
    }
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let civil: DateTime = text.parse().ok()?;
    TimeZone::get(ZONE).ok()?.to_timestamp(civil).ok()
}

/// Pence of a decimal amount of pounds, rounded half up (away from zero below it).
fn parse_pence(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (pounds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if !fraction.bytes().chain(pounds.bytes()).all(|byte| byte.is_ascii_digit()) || digits.is_empty() {
        return None;
    }
    let digit = |index: usize| fraction.as_bytes().get(index).map_or(0, |byte| i64::from(byte - b'0'));
    let whole: i64 = if pounds.is_empty() { 0 } else { pounds.parse().ok()? };
    let pence = whole.checked_mul(100)?.checked_add(digit(0) * 10 + digit(1) + i64::from(digit(2) >= 5))?;
    Some(if negative { -pence } else { pence })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";

    fn try_read(text: &str) -> Result<Retail, ParseError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.csv");
        std::fs::write(&path, text).unwrap();
        Retail::read(&path)
    }

    fn read(rows: &str) -> Retail {
        try_read(&format!("{HEADER}\n{rows}")).unwrap()
    }

    #[test]
    fn a_file_without_rows_is_refused() {
        for text in ["", HEADER, "something = else\n"] {
            assert!(matches!(try_read(text), Err(ParseError::Empty { .. })), "{text:?}");
        }
        assert!(matches!(try_read("something = else\nand more\n"), Err(ParseError::Row { .. })));
    }

    #[test]
    fn pounds_become_pence_half_up() {
        let pence = ["2.55", "0.001", "0.005", "1.994", "1.995", "7", ".5", "-53594.36"].map(parse_pence);
        assert_eq!(pence, [255, 0, 1, 199, 200, 700, 50, -5_359_436].map(Some));
        assert_eq!(["", "-", "1.2.3", "1e3", "£1"].map(parse_pence), [None; 5]);
    }

    #[test]
    fn lines_of_one_invoice_come_together_wherever_they_stand() {
        let retail = read(
            "1,85123a ,Heart,2,2009-12-01 07:45:00,2.55,13085,UK\n\
             2,22064,,1,2009-12-01 07:46:00,1.25,,UK\n\
             1,85123A,HEART,3,2009-12-01 07:47:00,2.10,13085,UK\n",
        );
        let numbers: Vec<_> = retail.invoices.iter().map(|i| (i.number.as_str(), i.lines.len())).collect();
        assert_eq!(numbers, [("1", 2), ("2", 1)]);
        assert_eq!(
            (retail.invoices[1].customer.as_str(), retail.invoices[0].customer.as_str()),
            ("guest", "13085")
        );
        let product = |sku: &str, title: &str, list_price, demand| ProductRow {
            sku: sku.into(),
            title: title.into(),
            list_price,
            demand,
        };
        assert_eq!(retail.products, [product("85123A", "Heart", 255, 5), product("22064", "22064", 125, 1)]);
    }

    #[test]
    fn a_line_is_refused_for_the_first_rule_it_breaks() {
        let retail = read(
            "A1,B,Adjust,1,2009-12-01 07:45:00,-10.00,,UK\n\
             2,POST,Postage,-1,2009-12-01 07:45:00,0,,UK\n\
             2,1X,,-1,2009-12-01 07:45:00,0.004,,UK\n\
             2,1X,,-1,2009-12-01 07:45:00,1,,UK\n\
             C3,1X,,-1,2009-12-01 07:45:00,1,,UK\n\
             C3,1X,,1,2009-12-01 07:45:00,1,,UK\n",
        );
        let refused: Vec<_> = retail.invoices.iter().map(|invoice| invoice.refused.clone()).collect();
        assert_eq!(
            refused,
            [
                vec![Refusal::Adjustment],
                vec![Refusal::NotGoods, Refusal::Price, Refusal::Quantity],
                vec![Refusal::Quantity]
            ]
        );
        assert_eq!(retail.invoices[2].lines, [Line { sku: "1X".into(), quantity: 1, unit_price: 100 }]);
    }

    #[test]
    fn london_summer_time_is_not_utc() {
        let retail = read("1,1X,,1,2010-07-01 12:00:00,1,,UK\n");
        assert_eq!(retail.invoices[0].time.to_string(), "2010-07-01T11:00:00Z");
    }
}
