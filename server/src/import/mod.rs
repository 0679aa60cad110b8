//! `shopstream import`: real input through the public API.

mod ledger;
mod report;
mod retail;
mod run;

pub use report::Report;
pub use retail::{Invoice, InvoiceKind, Line, ParseError, Refusal, Retail};
pub use run::{ImportOptions, run};
