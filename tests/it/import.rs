//! A real shop's month, against a recount that shares nothing with the importer.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use shopstream_proto::order::v1::{GetOrderRequest, OrderStatus};
use shopstream_server::import::{Report, Retail};
use shopstream_tests::recount::{Figures, recount};
use shopstream_tests::{TestShop, calls, fingerprints, read_log, repository, skip};

/// The month that lies in the repository.
pub(crate) fn month() -> PathBuf {
    repository().join("tests/data/online_retail_ii_2009_12.csv.gz")
}

/// The whole year: `SHOPSTREAM_TEST_RETAIL`, or beside the repository.
fn year() -> Option<PathBuf> {
    let beside = repository().join("../shared/data/online_retail_ii_2009_2010.csv.gz");
    let path = std::env::var_os("SHOPSTREAM_TEST_RETAIL").map_or(beside, PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    skip("retail", "name the year's file in SHOPSTREAM_TEST_RETAIL");
    None
}

/// The arguments that import the invoices before a day of December 2009 (in winter London time is UTC).
pub(crate) fn import_args<'a>(file: &'a str, until: &'a str, report: &'a str) -> Vec<&'a str> {
    vec!["import", "retail", file, "--until", until, "--report", report]
}

pub(crate) fn report(path: &Path) -> Figures {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[tokio::test]
async fn a_month_imported_is_the_month_recounted() -> Result<()> {
    let shop = TestShop::start();
    let (file, out) = (month(), shop.data().join("report.json"));
    let (file, out) = (file.to_str().context("a path")?, out.to_str().context("a path")?);
    let said = shop.verb(&["import", "retail", file, "--report", out]);
    ensure!(said.status.success(), "{}{}", said.out, said.err);
    let wanted = recount(&month(), None);
    assert_eq!(report(Path::new(out)), wanted);
    eprintln!("{}", said.out);

    // The provider took exactly what was sold and gave back exactly what was returned.
    let sum = |operation: &str| -> i64 {
        let calls = calls(shop.data()).into_iter();
        calls.filter(|call| call.effective && call.operation == operation).map(|call| call.amount_minor).sum()
    };
    assert_eq!((sum("capture"), sum("refund")), (wanted.sales_pence, wanted.refunds_pence));

    // A second run asks for the same again and changes nothing.
    let client = shop.client().await;
    let before = read_log(&client).await;
    let said = shop.verb(&["import", "retail", file, "--report", out]);
    ensure!(said.status.success(), "{}{}", said.out, said.err);
    assert_eq!(report(Path::new(out)), wanted);
    let after = read_log(&client).await;
    ensure!(before == after, "{:?} and more were done twice", difference(&before, &after));
    fingerprints(&after);
    shop.finish();
    Ok(())
}

#[tokio::test]
async fn with_nine_tenths_of_the_stock_some_orders_are_cancelled_whole() -> Result<()> {
    let shop = TestShop::start();
    let (file, out) = (month(), shop.data().join("report.json"));
    let (file, out) = (file.to_str().context("a path")?, out.to_str().context("a path")?);
    let mut args = import_args(file, "2009-12-03T00:00:00Z", out);
    args.extend(["--stock-cover", "0.9"]);
    let said = shop.verb(&args);
    ensure!(said.status.success(), "{}{}", said.out, said.err);
    let reported = report(Path::new(out));
    let wanted = recount(&month(), Some("2009-12-03"));
    ensure!(reported.cancelled > 0 && reported.confirmed > 0, "{reported:?}");
    ensure!(reported.confirmed + reported.cancelled == wanted.accepted_sale, "{reported:?}");
    ensure!(
        reported.sales_pence < wanted.sales_pence && reported.units_sold < wanted.units_sold,
        "{reported:?}"
    );
    ensure!(reported.refused_lines == wanted.refused_lines && reported.skus == wanted.skus, "{reported:?}");

    let streams = read_log(&shop.client().await).await;
    let ends = |name: &str| {
        let events = streams.values().flatten();
        events.filter(|event| event.event_type == name).count() as u64
    };
    assert_eq!((ends("OrderConfirmed"), ends("OrderCancelled")), (reported.confirmed, reported.cancelled));
    // Law 2 of `verify --quiesced`, seen from outside too: nothing is held that no order has.
    let held = streams.iter().filter(|(stream, _)| stream.starts_with("default/reservation/"));
    for (stream, events) in held {
        let last =
            events.iter().rev().find(|event| event.event_type != "ReservationSettled").context("an event")?;
        let ended = ["ReservationCommitted", "ReservationReleased", "ReservationRejected"];
        ensure!(ended.contains(&&*last.event_type), "{stream} ends with {}", last.event_type);
    }
    let cancelled =
        streams.values().flatten().find(|event| event.event_type == "OrderCancelled").context("one")?;
    let order_id = cancelled.stream_id.rsplit('/').next().context("an id")?.to_owned();
    let get = GetOrderRequest { order_id, ..GetOrderRequest::default() };
    let order =
        shop.client().await.shop().orders.get_order(get).await?.into_inner().order.context("an order")?;
    ensure!(order.status() == OrderStatus::Cancelled, "{order:?}");
    shop.finish();
    Ok(())
}

/// Without a running shop: what the importer reads of the whole year, and what stands in it.
#[test]
fn the_whole_year_is_read_as_it_is_recounted() -> Result<()> {
    let Some(year) = year() else { return Ok(()) };
    let read: Value = serde_json::to_value(Report::of_file(&Retail::read(&year)?))?;
    let read: Figures = serde_json::from_value(read)?;
    let counted = recount(&year, None);
    let of_file = |figures: &Figures| Figures {
        accepted_sale: figures.accepted_sale,
        accepted_return: figures.accepted_return,
        refused_invoices: figures.refused_invoices.clone(),
        refused_lines: figures.refused_lines.clone(),
        skus: figures.skus,
        customers: figures.customers,
        ..Figures::default()
    };
    assert_eq!(of_file(&read), of_file(&counted));
    // The figures of docs/import.md.
    assert_eq!((counted.accepted_sale, counted.accepted_return), (20_590, 4_114));
    assert_eq!((counted.skus, counted.customers), (4_090, 4_287));
    assert_eq!((counted.sales_pence, counted.units_sold), (984_714_835, 5_825_711));
    assert_eq!(
        (counted.refunds_pence, counted.units_returned, counted.units_unmatched),
        (23_877_838, 198_591, 11_280)
    );
    Ok(())
}

type Streams = std::collections::BTreeMap<String, Vec<shopstream_proto::event::v1::Event>>;

/// The first events that only the later reading has.
fn difference(before: &Streams, after: &Streams) -> Vec<String> {
    let known = |stream: &String| before.get(stream).map_or(0, Vec::len);
    let new = after.iter().flat_map(|(stream, events)| events.iter().skip(known(stream)));
    new.take(5).map(|event| format!("{}#{} {}", event.stream_id, event.version, event.event_type)).collect()
}
