//! What Postgres holds can be lost, because the log has it: dropped, and filled again, row by row.

use anyhow::{Context as _, Result, ensure};
use shopstream_projections::{ConnectOptions, Projection};
use shopstream_proto::catalog::v1::SetPriceRequest;
use shopstream_proto::order::v1::{CreateOrderResponse, OrderStatus};
use shopstream_proto::returns::v1::{CreateReturnRequest, NewReturnLine};
use shopstream_server::client::{Client, until};
use shopstream_tests::requests::{ended, money, order, place, sell};
use shopstream_tests::{Database, Setup, TestShop};

const SKU: &str = "AGAIN-1";
/// Where the former content is kept.
const BEFORE: &str = "before";

#[tokio::test]
async fn every_projection_that_was_dropped_comes_back_row_by_row() -> Result<()> {
    let Some(database) = Database::start() else { return Ok(()) };
    let mut shop = TestShop::start_with(Setup::default().reading_from(database.url()));
    let answered = trade(&shop.client().await).await?;
    shop.verify();
    shop.stop();

    let tables = keep(&sql(&database).await?).await?;
    drop_all(&database).await?;
    shop.restart();
    // Whatever the views are asked first, they come to what they held.
    let back =
        until(async || Ok(difference(&sql(&database).await?, &tables).await?.is_none().then_some(()))).await;
    let differs = difference(&sql(&database).await?, &tables).await?;
    ensure!(back.is_ok() && differs.is_none(), "{back:?}: {differs:?}");
    // The write path goes on from the journal that came back.
    let again = create(&shop.client().await, 0).await?;
    ensure!(again == answered, "{answered:?} then {again:?}");
    shop.verify();
    shop.stop();
    // And stay there: nothing was only on its way, nothing is in them twice.
    let differs = difference(&sql(&database).await?, &tables).await?;
    ensure!(differs.is_none(), "{differs:?}");
    Ok(())
}

/// Something in every table: sold, cancelled for want of stock, given back, priced anew. Answers what the first order
/// was answered.
async fn trade(client: &Client) -> Result<CreateOrderResponse> {
    sell(client, SKU, 20).await?;
    let first = create(client, 0).await?;
    ended(client, &first.order_id, first.position.clone()).await?;
    for number in 1..5 {
        let placed = create(client, number).await?;
        ended(client, &placed.order_id, placed.position).await?;
    }
    let short = place(client, order("ord_again-short", SKU, 1_000, "tok_again")).await?;
    ensure!(short.status() == OrderStatus::Cancelled, "{short:?}");
    let price = SetPriceRequest {
        request_id: "price-again".into(),
        sku: SKU.into(),
        price: Some(money(700)),
        ..SetPriceRequest::default()
    };
    client.call(price, async |mut shop, request| shop.products.set_price(request).await).await?;
    let give_back = CreateReturnRequest {
        request_id: "return-again".into(),
        return_id: Some("ret_again".into()),
        order_id: first.order_id.clone(),
        lines: vec![NewReturnLine { line_index: 0, quantity: 1 }],
        ..CreateReturnRequest::default()
    };
    client.call(give_back, async |mut shop, request| shop.returns.create_return(request).await).await?;
    settled(client).await?;
    Ok(first)
}

async fn create(client: &Client, number: u32) -> Result<CreateOrderResponse> {
    let wanted = order(&format!("ord_again-{number}"), SKU, 2, "tok_again");
    client.call(wanted, async |mut shop, request| shop.orders.create_order(request).await).await
}

/// Waits until the return has been paid back.
async fn settled(client: &Client) -> Result<()> {
    use shopstream_proto::returns::v1::{GetReturnRequest, ReturnStatus};
    let get = GetReturnRequest { return_id: "ret_again".into(), ..GetReturnRequest::default() };
    until(async || {
        let asked = client.shop().returns.get_return(get.clone()).await;
        // The view may not have it yet.
        let Some(seen) = asked.ok().and_then(|answer| answer.into_inner().return_view) else {
            return Ok(None);
        };
        Ok((seen.status() == ReturnStatus::Resolved).then_some(()))
    })
    .await
}

async fn sql(database: &Database) -> Result<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(database.url(), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Copies every table of every projection aside, and answers their names.
async fn keep(sql: &tokio_postgres::Client) -> Result<Vec<String>> {
    let schemas: Vec<String> = Projection::views().map(|view| format!("{view}_e1")).collect();
    let found = "SELECT table_schema || '.' || table_name FROM information_schema.tables \
         WHERE table_schema = ANY($1) OR (table_schema = 'public' AND table_name = 'journal') ORDER BY 1";
    let rows = sql.query(found, &[&schemas]).await?;
    let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(tables.len() > schemas.len(), "only {tables:?}");
    sql.batch_execute(&format!("CREATE SCHEMA {BEFORE}")).await?;
    for table in &tables {
        sql.batch_execute(&format!("CREATE TABLE {} AS TABLE {table}", kept(table))).await?;
        let rows: i64 = sql.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await?.get(0);
        ensure!(rows > 0, "{table} is empty: this shows nothing");
    }
    Ok(tables)
}

fn kept(table: &str) -> String {
    format!("{BEFORE}.{}", table.replace('.', "_"))
}

/// Drops all ten, checkpoints and all.
async fn drop_all(database: &Database) -> Result<()> {
    let projections =
        shopstream_projections::Database::connect(database.url(), &ConnectOptions::default()).await?;
    for projection in Projection::ALL {
        projections.drop_epoch(projection, 1).await?;
    }
    let left = "SELECT (SELECT count(*) FROM journal) + (SELECT count(*) FROM read_model_epoch) \
         + (SELECT count(*) FROM checkpoint WHERE reader = ANY($1))";
    let names: Vec<&str> = Projection::ALL.map(Projection::name).into();
    let left: i64 = sql(database).await?.query_one(left, &[&names]).await?.get(0);
    ensure!(left == 0, "{left} rows are left");
    Ok(())
}

/// A row that is not what it was, or is not there, or was not.
async fn difference(sql: &tokio_postgres::Client, tables: &[String]) -> Result<Option<String>> {
    for table in tables {
        let there: Option<String> =
            sql.query_one("SELECT to_regclass($1)::text", &[table]).await.context("asked")?.get(0);
        if there.is_none() {
            return Ok(Some(format!("{table} is missing")));
        }
        for (one, other) in [(kept(table), table.clone()), (table.clone(), kept(table))] {
            // ALL: a row that is there twice is a difference too.
            let only =
                format!("SELECT t::text FROM {one} AS t EXCEPT ALL SELECT t::text FROM {other} AS t LIMIT 1");
            if let Some(row) = sql.query_opt(&only, &[]).await? {
                return Ok(Some(format!("only in {one}: {}", row.get::<_, String>(0))));
            }
        }
    }
    Ok(None)
}
