//! Law 10: a read model that is not what the log says is found, row and checkpoint.

use std::time::Duration;

use shopstream_gateway::Policy;
use shopstream_proto::admin::v1::admin_service_client::AdminServiceClient;
use shopstream_proto::admin::v1::verify_read_models_response::Event;
use shopstream_proto::admin::v1::{ReplayVerdict, VerifyReadModelsRequest};
use tonic::Code;

use crate::shop::{TestShop, draft};

/// The verdicts on a shop at rest, in their order.
async fn verdicts_at_rest(shop: &TestShop, names: &[&str]) -> Vec<(String, ReplayVerdict)> {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let request = VerifyReadModelsRequest { names, to_the_end: true };
    let mut admin = AdminServiceClient::new(shop.channel.clone());
    let mut answers = admin.verify_read_models(request).await.expect("open").into_inner();
    let mut verdicts = Vec::new();
    while let Some(answer) = answers.message().await.expect("an answer") {
        if let Some(Event::Verdict(verdict)) = answer.event {
            verdicts.push((answer.name, verdict));
        }
    }
    verdicts
}

async fn verdict(shop: &TestShop, name: &str) -> ReplayVerdict {
    let request = VerifyReadModelsRequest { names: vec![name.to_owned()], to_the_end: false };
    let mut admin = AdminServiceClient::new(shop.channel.clone());
    let mut answers = admin.verify_read_models(request).await.expect("open").into_inner();
    while let Some(answer) = answers.message().await.expect("an answer") {
        assert_eq!(answer.name, name);
        if let Some(Event::Verdict(verdict)) = answer.event {
            return verdict;
        }
    }
    panic!("no verdict on {name}");
}

#[tokio::test]
async fn a_row_or_checkpoint_that_the_log_does_not_say_is_named() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    for id in ["1", "2", "3"] {
        shop.orders().create_order(draft(id, "A1")).await.expect("accepted");
    }
    shop.caught_up().await;
    // The journal has a claim for the key of each of the four that were named as well.
    for (name, rows) in [("journal", 11), ("order_detail", 6)] {
        let verdict = verdict(&shop, name).await;
        assert!(verdict.equal && verdict.difference.is_empty(), "{name}: {verdict:?}");
        assert_eq!(verdict.row_count, rows, "{name}");
    }
    let order = "stream_id = 'default/order/ord_2'";
    for (name, touch, shown) in [
        ("journal", format!("UPDATE journal SET actor = 'mallory' WHERE {order}"), "mallory"),
        ("journal", format!("DELETE FROM journal WHERE {order}"), "live missing"),
        (
            "order_detail",
            "UPDATE order_detail_e1.orders SET customer_id = 'mallory' WHERE order_id = 'ord_2'".to_owned(),
            "mallory",
        ),
        (
            "saga_board",
            "UPDATE checkpoint SET cursor = jsonb_set(cursor, '{digest}', '7') \
             WHERE reader = 'saga_board' AND partition = 2"
                .to_owned(),
            "checkpoint of partition 2",
        ),
    ] {
        assert_eq!(shop.execute(&touch).await, 1, "{touch}");
        let verdict = verdict(&shop, name).await;
        assert!(!verdict.equal && verdict.difference.contains(shown), "{touch}: {verdict:?}");
    }
}

/// By its own checkpoint, a view that stands still is what the log says.
#[tokio::test]
async fn a_view_that_does_not_come_to_the_end_of_the_log_is_not_equal() {
    let catch_up = Duration::from_secs(1);
    let shop = TestShop::with(Policy { catch_up, ..Policy::default() }).await;
    shop.sell("prd_1", "A1").await;
    shop.caught_up().await;
    let held = shop.hold("order_detail_e1.orders").await;
    shop.orders().create_order(draft("1", "A1")).await.expect("accepted");
    assert!(verdict(&shop, "order_detail").await.equal, "up to where it is");
    let verdicts = verdicts_at_rest(&shop, &["order_detail", "product_view"]).await;
    let [_, (name, detail), (other, products)] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!((&**name, &**other), ("order_detail", "product_view"));
    assert!(!detail.equal && detail.difference.contains("order_detail has read partition"), "{detail:?}");
    assert!(products.equal, "{products:?}");
    drop(held);
    shop.caught_up().await;
    let verdicts = verdicts_at_rest(&shop, &["order_detail"]).await;
    assert!(verdicts[1].1.equal, "{verdicts:?}");
}

#[tokio::test]
async fn processes_that_do_not_come_to_the_end_of_the_log_are_named() {
    let catch_up = Duration::from_secs(1);
    let shop = TestShop::with(Policy { catch_up, ..Policy::default() }).await;
    shop.sell("prd_1", "A1").await;
    shop.orders().create_order(draft("1", "A1")).await.expect("accepted");
    shop.caught_up().await;
    // No processes run here: where the journal is, there they would be.
    let stand = "INSERT INTO checkpoint (reader, epoch, partition, next_offset, cursor) \
                 SELECT 'sagas', 1, partition, next_offset, cursor FROM checkpoint WHERE reader = 'journal'";
    assert!(shop.execute(stand).await > 0);
    let verdicts = verdicts_at_rest(&shop, &["journal"]).await;
    assert!(verdicts[0].0 == "processes" && verdicts[0].1.equal, "{verdicts:?}");
    shop.orders().create_order(draft("2", "A1")).await.expect("accepted");
    shop.caught_up().await;
    let verdicts = verdicts_at_rest(&shop, &["journal"]).await;
    let [(name, processes), (_, journal)] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert!(name == "processes" && !processes.equal, "{processes:?}");
    assert!(processes.difference.contains("they have read partition"), "{processes:?}");
    assert!(journal.equal, "{journal:?}");
}

#[tokio::test]
async fn a_name_that_is_no_read_model_is_refused() {
    let shop = TestShop::start().await;
    let request = VerifyReadModelsRequest {
        names: vec!["journal".to_owned(), "journey".to_owned()],
        to_the_end: false,
    };
    let mut admin = AdminServiceClient::new(shop.channel.clone());
    let refused = admin.verify_read_models(request).await.expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("names[1]"), "{refused:?}");
}
