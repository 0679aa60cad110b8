//! Law 10: a read model that is not what the log says is found, row and checkpoint.

use shopstream_proto::admin::v1::admin_service_client::AdminServiceClient;
use shopstream_proto::admin::v1::verify_read_models_response::Event;
use shopstream_proto::admin::v1::{ReplayVerdict, VerifyReadModelsRequest};
use tonic::Code;

use crate::shop::{TestShop, draft};

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
