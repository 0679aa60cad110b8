//! Sends a retail file through the public API: products and stock first, then each customer's invoices in order,
//! customers side by side.
//!
//! Every id and request id follows from the file, so a second run asks for the same again and changes nothing
//! (`rulings.md` 35). There is no state file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use prost_types::Timestamp;
use shopstream_proto::catalog::v1::{CreateProductRequest, GetProductRequest, NewVariant};
use shopstream_proto::inventory::v1::update_stock_request::Change;
use shopstream_proto::inventory::v1::{ReceiveStock, UpdateStockRequest};
use shopstream_proto::order::v1::{
    CreateOrderRequest, CreateOrderResponse, GetOrderRequest, NewOrderLine, Order, OrderStatus,
    TrackOrderRequest,
};
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest, NewReturnLine, ReturnStatus};
use shopstream_proto::r#type::v1::{Money, Position};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinSet, LocalSet};

use super::ledger::{Ledger, Taking};
use super::report::Report;
use super::retail::{Invoice, InvoiceKind, ProductRow, Retail};
use crate::client::{Client, until};

const CURRENCY: &str = "GBP";
const LOCATION: &str = "main";
/// What every imported order is paid with; the simulator approves it.
const TOKEN: &str = "tok_import";
/// Orders whose end is awaited, over all customers.
const OPEN_ORDERS: usize = 256;
/// Product and stock requests side by side.
const SET_UP: usize = 64;

/// How to import.
#[derive(Args, Clone, Debug)]
pub struct ImportOptions {
    /// Customers side by side
    #[arg(long, default_value_t = 64)]
    pub concurrency: usize,
    /// Stock received up front, as a part of what is demanded
    #[arg(long, default_value = "1.0")]
    pub stock_cover: Cover,
    /// Only the invoices before this time, such as 2010-01-01T00:00:00Z
    #[arg(long, value_name = "TIME")]
    pub until: Option<jiff::Timestamp>,
    /// Writes the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// An exact decimal, such as 0.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cover {
    numerator: i64,
    denominator: i64,
}

impl Cover {
    /// This part of `units`, rounded down.
    fn of(self, units: i64) -> i64 {
        (i128::from(units) * i128::from(self.numerator) / i128::from(self.denominator)) as i64
    }
}

impl FromStr for Cover {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        ensure!(fraction.len() <= 6, "{text:?} has more than six decimals");
        let numerator =
            format!("{whole}{fraction}").parse().with_context(|| format!("{text:?} is not a decimal"))?;
        ensure!((0..=1_000_000_000).contains(&numerator), "{text:?} is not between 0 and 1000");
        Ok(Self { numerator, denominator: 10_i64.pow(fraction.len() as u32) })
    }
}

/// Imports `retail` and answers what became of it.
///
/// # Errors
/// The shop refuses what should be good, or stays away longer than a restart takes.
pub async fn run(client: Client, retail: Retail, options: ImportOptions) -> anyhow::Result<Report> {
    // One thread is enough for a client; the other cores are the shop's.
    LocalSet::new().run_until(import(client, retail, options)).await
}

async fn import(client: Client, retail: Retail, options: ImportOptions) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut report = Report::of_file(&retail);
    let digest: Arc<str> = retail.digest.as_str().into();
    let bar = progress_bar(retail.products.len() as u64, "products");
    set_up(&client, &digest, &retail.products, options.stock_cover, &bar).await?;
    bar.finish();

    let mut by_customer: HashMap<String, Vec<Invoice>> = HashMap::new();
    let accepted = retail.invoices.into_iter().filter(|invoice| !invoice.lines.is_empty());
    for invoice in accepted {
        by_customer.entry(invoice.customer.clone()).or_default().push(invoice);
    }
    // The longest first: they decide when it ends.
    let mut customers: Vec<Vec<Invoice>> = by_customer.into_values().collect();
    customers.sort_by_key(|invoices| std::cmp::Reverse(invoices.len()));

    let bar = progress_bar(report.accepted_sale + report.accepted_return, "invoices");
    let import = Arc::new(Import {
        client,
        digest,
        open: Arc::new(Semaphore::new(OPEN_ORDERS)),
        totals: Mutex::new(Totals::default()),
        bar: bar.clone(),
    });
    stream::iter(customers)
        .map(|invoices| {
            Customer { import: import.clone(), ledger: Ledger::default(), open: JoinSet::new() }.run(invoices)
        })
        .buffer_unordered(options.concurrency.max(1))
        .try_collect::<()>()
        .await?;
    bar.finish();

    let totals = import.totals.lock().await.clone();
    report.confirmed = totals.confirmed;
    report.cancelled = totals.cancelled;
    report.sales_pence = totals.sales_pence;
    report.units_sold = totals.units_sold;
    report.refunds_pence = totals.refunds_pence;
    report.units_returned = totals.units_returned;
    report.units_unmatched = totals.units_unmatched;
    report.seconds = began.elapsed().as_secs_f64();
    report.orders_per_second = report.accepted_sale as f64 / report.seconds;
    Ok(report)
}

/// Makes every product with its list price, receives its stock, and waits until orders can name it.
async fn set_up(
    client: &Client,
    digest: &str,
    products: &[ProductRow],
    cover: Cover,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let positions: Vec<Position> = stream::iter(products)
        .map(async |product| {
            let position = create_product(client, digest, product).await?;
            receive_stock(client, digest, product, cover.of(product.demand)).await?;
            bar.inc(1);
            anyhow::Ok(position)
        })
        .buffer_unordered(SET_UP)
        .try_collect()
        .await?;
    // Orders look their products up in a read model: wait until it has all of them.
    if let Some(product) = products.last() {
        let request = GetProductRequest {
            min_position: highest(positions),
            product_id: product_id(digest, &product.sku),
        };
        client.call(request, async |mut shop, request| shop.products.get_product(request).await).await?;
    }
    Ok(())
}

async fn create_product(client: &Client, digest: &str, product: &ProductRow) -> anyhow::Result<Position> {
    let request = CreateProductRequest {
        request_id: format!("import:{digest}:product:{}", product.sku),
        product_id: Some(product_id(digest, &product.sku)),
        title: product.title.clone(),
        variants: vec![NewVariant {
            sku: product.sku.clone(),
            title: product.title.clone(),
            list_price: Some(pence(product.list_price)),
        }],
        ..CreateProductRequest::default()
    };
    let response = client
        .call(request, async |mut shop, request| shop.products.create_product(request).await)
        .await
        .with_context(|| format!("product {}", product.sku))?;
    response.position.context("the answer to CreateProduct has no position")
}

async fn receive_stock(
    client: &Client,
    digest: &str,
    product: &ProductRow,
    units: i64,
) -> anyhow::Result<()> {
    if units == 0 {
        return Ok(());
    }
    let request = UpdateStockRequest {
        request_id: format!("import:{digest}:stock:{}", product.sku),
        sku: product.sku.clone(),
        location: LOCATION.into(),
        change: Some(Change::Receive(ReceiveStock { quantity: units })),
        ..UpdateStockRequest::default()
    };
    client
        .call(request, async |mut shop, request| shop.inventory.update_stock(request).await)
        .await
        .with_context(|| format!("stock of {}", product.sku))?;
    Ok(())
}

/// What all customers share.
struct Import {
    client: Client,
    digest: Arc<str>,
    open: Arc<Semaphore>,
    totals: Mutex<Totals>,
    bar: ProgressBar,
}

#[derive(Clone, Debug, Default)]
struct Totals {
    confirmed: u64,
    cancelled: u64,
    sales_pence: i64,
    units_sold: i64,
    refunds_pence: i64,
    units_returned: i64,
    units_unmatched: i64,
}

/// One customer's invoices, in file order. Orders overlap; a return waits for the orders before it.
struct Customer {
    import: Arc<Import>,
    ledger: Ledger,
    /// Orders whose end is awaited, with the place of their invoice.
    open: JoinSet<anyhow::Result<(usize, Option<String>)>>,
}

impl Customer {
    async fn run(mut self, invoices: Vec<Invoice>) -> anyhow::Result<()> {
        let invoices: Arc<[Invoice]> = invoices.into();
        for (index, invoice) in invoices.iter().enumerate() {
            match invoice.kind {
                InvoiceKind::Sale => self.sale(index, &invoices).await?,
                InvoiceKind::Return => self.take_back(invoice, &invoices).await?,
                InvoiceKind::Adjustment => bail!("an adjustment has no good line"),
            }
        }
        self.await_orders(&invoices).await
    }

    async fn sale(&mut self, index: usize, invoices: &Arc<[Invoice]>) -> anyhow::Result<()> {
        let import = self.import.clone();
        let permit = import.open.clone().acquire_owned().await?;
        let order = import.create_order(&invoices[index]).await?;
        let invoices = invoices.clone();
        self.open.spawn_local(async move {
            let confirmed = import.await_end(&order, &invoices[index]).await?;
            drop(permit);
            Ok((index, confirmed.then_some(order.order_id)))
        });
        Ok(())
    }

    /// Waits for the end of every open order; the confirmed ones can then be returned.
    async fn await_orders(&mut self, invoices: &[Invoice]) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        while let Some(order) = self.open.join_next().await {
            ended.push(order??);
        }
        ended.sort_unstable();
        for (index, order_id) in ended {
            if let Some(order_id) = order_id {
                self.ledger.sold(order_id, &invoices[index]);
            }
        }
        Ok(())
    }

    async fn take_back(&mut self, invoice: &Invoice, invoices: &[Invoice]) -> anyhow::Result<()> {
        self.await_orders(invoices).await?;
        let (takings, unmatched) = self.ledger.take_back(invoice);
        for taking in &takings {
            self.import.create_return(invoice, taking).await?;
        }
        let mut totals = self.import.totals.lock().await;
        totals.units_unmatched += unmatched;
        totals.refunds_pence += takings.iter().map(|taking| taking.refund).sum::<i64>();
        totals.units_returned += takings.iter().flat_map(|taking| taking.lines.values()).sum::<i64>();
        self.import.bar.inc(1);
        Ok(())
    }
}

impl Import {
    async fn create_order(&self, invoice: &Invoice) -> anyhow::Result<CreateOrderResponse> {
        let line = |line: &super::retail::Line| NewOrderLine {
            sku: line.sku.clone(),
            quantity: line.quantity,
            unit_price: Some(pence(line.unit_price)),
        };
        let request = CreateOrderRequest {
            request_id: format!("import:{}:order:{}", self.digest, invoice.number),
            order_id: Some(format!("ord_{}-{}", self.digest, invoice.number)),
            customer_id: invoice.customer.clone(),
            currency_code: CURRENCY.into(),
            lines: invoice.lines.iter().map(line).collect(),
            payment_method_token: TOKEN.into(),
            effective_time: Some(wire_time(invoice)),
            ..CreateOrderRequest::default()
        };
        self.client
            .call(request, async |mut shop, request| shop.orders.create_order(request).await)
            .await
            .with_context(|| format!("invoice {}", invoice.number))
    }

    /// Follows the order to its end; `true`: confirmed, and its checkout is over.
    async fn await_end(&self, order: &CreateOrderResponse, invoice: &Invoice) -> anyhow::Result<bool> {
        let (order_id, min_position) = (order.order_id.clone(), order.position.iter().cloned().collect());
        let request =
            TrackOrderRequest { min_position, order_id: order_id.clone(), ..TrackOrderRequest::default() };
        self.client
            .call(request, async |mut shop, request| {
                let mut updates = shop.orders.track_order(request).await?.into_inner();
                while updates.message().await?.is_some() {}
                Ok(tonic::Response::new(()))
            })
            .await?;
        let request = GetOrderRequest { order_id, ..GetOrderRequest::default() };
        let (status, total) = until(async || {
            let request = request.clone();
            let answer =
                self.client.call(request, async |mut shop, request| shop.orders.get_order(request).await);
            let order = answer.await?.order.context("the answer to GetOrder has no order")?;
            let ended = matches!(order.status(), OrderStatus::Confirmed | OrderStatus::Cancelled);
            Ok(ended.then(|| (order.status(), total_minor(&order))))
        })
        .await?;
        let mut totals = self.totals.lock().await;
        if status == OrderStatus::Confirmed {
            totals.confirmed += 1;
            totals.sales_pence += total;
            totals.units_sold += invoice.lines.iter().map(|line| line.quantity).sum::<i64>();
        } else {
            totals.cancelled += 1;
        }
        self.bar.inc(1);
        Ok(status == OrderStatus::Confirmed)
    }

    /// Returns what `taking` says and waits until money and goods are back.
    async fn create_return(&self, invoice: &Invoice, taking: &Taking) -> anyhow::Result<()> {
        let of_order = taking.order_id.rsplit_once('-').map_or("", |(_, number)| number);
        let lines =
            taking.lines.iter().map(|(line, units)| NewReturnLine { line_index: *line, quantity: *units });
        let request = CreateReturnRequest {
            request_id: format!("import:{}:return:{}:{of_order}", self.digest, invoice.number),
            return_id: Some(format!("ret_{}-{}-{of_order}", self.digest, invoice.number)),
            order_id: taking.order_id.clone(),
            lines: lines.collect(),
            effective_time: Some(wire_time(invoice)),
            ..CreateReturnRequest::default()
        };
        let response = self
            .client
            .call(request, async |mut shop, request| shop.returns.create_return(request).await)
            .await
            .with_context(|| format!("invoice {}, order {}", invoice.number, taking.order_id))?;
        let request = GetReturnRequest {
            min_position: response.position.into_iter().collect(),
            return_id: response.return_id,
        };
        until(async || {
            let request = request.clone();
            let answer =
                self.client.call(request, async |mut shop, request| shop.returns.get_return(request).await);
            let view = answer.await?.return_view.context("the answer to GetReturn has no return")?;
            let waits = matches!(view.status(), ReturnStatus::NeedsAttention | ReturnStatus::Refused);
            ensure!(!waits, "{} is {}", view.return_id, view.status().as_str_name());
            Ok((view.status() == ReturnStatus::Resolved).then_some(()))
        })
        .await
    }
}

/// What the order costs, as the shop says.
fn total_minor(order: &Order) -> i64 {
    let total = order.totals.as_ref().and_then(|totals| totals.total.as_ref());
    total.map_or(0, |total| total.amount_minor)
}

fn product_id(digest: &str, sku: &str) -> String {
    format!("prd_{digest}-{sku}")
}

fn pence(amount_minor: i64) -> Money {
    Money { currency_code: CURRENCY.into(), amount_minor }
}

fn wire_time(invoice: &Invoice) -> Timestamp {
    Timestamp { seconds: invoice.time.as_second(), nanos: 0 }
}

/// The highest position of each partition.
fn highest(positions: Vec<Position>) -> Vec<Position> {
    let mut highest: HashMap<u32, Position> = HashMap::new();
    for position in positions {
        let known = highest.entry(position.partition).or_insert_with(|| position.clone());
        if known.offset < position.offset {
            *known = position;
        }
    }
    highest.into_values().collect()
}

fn progress_bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:>10} {wide_bar} {pos}/{len} {per_sec} ETA {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
