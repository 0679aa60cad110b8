//! What comes back.

use anyhow::{Context as _, Result, ensure};
use shopstream_proto::inventory::v1::GetStockRequest;
use shopstream_proto::order::v1::GetOrderRequest;
use shopstream_proto::returns::v1::{CreateReturnRequest, GetReturnRequest, NewReturnLine, ReturnStatus};
use shopstream_server::client::until;
use shopstream_tests::requests::{longest, money, order, place, sell};
use shopstream_tests::{Shared, refusal, unique};
use tonic::Code;

#[tokio::test]
async fn a_return_gives_back_the_price_paid_and_puts_the_units_back() -> Result<()> {
    let shop = Shared::shop();
    let client = shop.client().await;
    let sku = format!("RETURN-{}", unique());
    sell(&client, &sku, 5).await?;
    let bought = place(&client, order(&longest("ord_", &sku), &sku, 3, "tok_return")).await?;
    let give_back = |request_id: &str, quantity| CreateReturnRequest {
        request_id: request_id.into(),
        return_id: Some(longest("ret_", &format!("{sku}-{request_id}"))),
        order_id: bought.order_id.clone(),
        lines: vec![NewReturnLine { line_index: 0, quantity }],
        ..CreateReturnRequest::default()
    };
    let created = client.shop().returns.create_return(give_back("two", 2)).await?.into_inner();
    let get = GetReturnRequest {
        min_position: created.position.into_iter().collect(),
        return_id: created.return_id,
    };
    let resolved = until(async || {
        let answer = client.shop().returns.get_return(get.clone()).await?.into_inner();
        let view = answer.return_view.context("a return")?;
        ensure!(!matches!(view.status(), ReturnStatus::NeedsAttention | ReturnStatus::Refused), "{view:?}");
        Ok((view.status() == ReturnStatus::Resolved).then_some(view))
    })
    .await?;
    ensure!(resolved.refund_total == Some(money(1000)), "{resolved:?}");

    let stock = GetStockRequest {
        min_position: resolved.position.clone().into_iter().collect(),
        sku: sku.clone(),
        location: String::new(),
    };
    until(async || {
        let stock =
            client.shop().inventory.get_stock(stock.clone()).await?.into_inner().stock.context("stock")?;
        Ok(([stock.on_hand, stock.available, stock.committed] == [5, 4, 1]).then_some(()))
    })
    .await?;
    let get = GetOrderRequest {
        min_position: resolved.position.into_iter().collect(),
        order_id: bought.order_id.clone(),
    };
    let seen = client.shop().orders.get_order(get).await?.into_inner().order.context("an order")?;
    ensure!(seen.lines[0].units_returned == 2, "{seen:?}");

    let refused = refusal(client.shop().returns.create_return(give_back("two-more", 2)).await);
    ensure!(
        (refused.code, &*refused.reason) == (Code::FailedPrecondition, "RETURN_EXCEEDS_ORDER"),
        "{refused:?}"
    );
    ensure!(refused.field == "lines[0].quantity", "{refused:?}");
    Ok(())
}
