//! SKUs: nobody keeps one by a request that was refused.

use prost_types::FieldMask;
use shopstream_proto::catalog::v1::{
    CreateProductRequest, DeleteProductRequest, NewVariant, UpdateProductRequest, Variant,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::shop::TestShop;

fn create(request_id: &str, product_id: &str, skus: &[&str]) -> CreateProductRequest {
    CreateProductRequest {
        request_id: request_id.to_owned(),
        product_id: Some(product_id.to_owned()),
        title: "Lamp".to_owned(),
        variants: skus
            .iter()
            .map(|sku| NewVariant { sku: (*sku).to_owned(), ..Default::default() })
            .collect(),
        ..CreateProductRequest::default()
    }
}

fn add(request_id: &str, product_id: &str, skus: &[&str]) -> UpdateProductRequest {
    UpdateProductRequest {
        request_id: request_id.to_owned(),
        product_id: product_id.to_owned(),
        update_mask: Some(FieldMask { paths: vec!["variants".to_owned()] }),
        variants: skus.iter().map(|sku| Variant { sku: (*sku).to_owned(), ..Default::default() }).collect(),
        ..UpdateProductRequest::default()
    }
}

/// Code and reason of an error.
fn said(status: &Status) -> (Code, String) {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    (status.code(), reason.unwrap_or_default())
}

#[tokio::test]
async fn a_product_that_was_refused_leaves_its_skus_to_others() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "TAKEN").await;
    let stale = CreateProductRequest { expected_version: Some(7), ..create("r3", "prd_4", &["STALE"]) };
    for (refused, code, reason, free) in [
        (create("r1", "prd_1", &["EXISTS"]), Code::AlreadyExists, "PRODUCT_EXISTS", "EXISTS"),
        (create("r2", "prd_3", &["BEFORE", "TAKEN"]), Code::AlreadyExists, "SKU_TAKEN", "BEFORE"),
        (stale, Code::Aborted, "VERSION_STALE", "STALE"),
    ] {
        let status = shop.products().create_product(refused).await.expect_err("refused");
        assert_eq!(said(&status), (code, reason.to_owned()));
        let other = create(&format!("{free}-2"), &format!("prd_{free}"), &[free]);
        shop.products().create_product(other).await.expect("nobody has it");
    }
}

#[tokio::test]
async fn a_change_that_was_refused_leaves_its_skus_to_others() {
    let shop = TestShop::start().await;
    shop.sell("prd_1", "A1").await;
    shop.sell("prd_2", "A2").await;
    let delete = DeleteProductRequest {
        request_id: "delete".to_owned(),
        product_id: "prd_2".to_owned(),
        ..DeleteProductRequest::default()
    };
    shop.products().delete_product(delete).await.expect("discontinued");
    let stale = UpdateProductRequest { expected_version: Some(7), ..add("r3", "prd_1", &["STALE"]) };
    for (refused, code, reason, free) in [
        (add("r1", "prd_none", &["NONE"]), Code::NotFound, "PRODUCT_NOT_FOUND", "NONE"),
        (add("r2", "prd_2", &["GONE"]), Code::FailedPrecondition, "PRODUCT_DISCONTINUED", "GONE"),
        (stale, Code::Aborted, "VERSION_STALE", "STALE"),
        (add("r4", "prd_1", &["BEFORE", "A2"]), Code::AlreadyExists, "SKU_TAKEN", "BEFORE"),
    ] {
        let status = shop.products().update_product(refused).await.expect_err("refused");
        assert_eq!(said(&status), (code, reason.to_owned()));
        let other = create(&format!("{free}-2"), &format!("prd_{free}"), &[free]);
        shop.products().create_product(other).await.expect("nobody has it");
    }
}

/// What a crash interrupted between the claim and the product is finished by the repeat, and what another request of
/// the same product claimed, too: a claim is idempotent per product.
#[tokio::test]
async fn the_same_request_again_is_answered_as_the_first_time() {
    let shop = TestShop::start().await;
    let wanted = create("r1", "prd_1", &["A1", "A2"]);
    let first = shop.products().create_product(wanted.clone()).await.expect("created").into_inner();
    let again = shop.products().create_product(wanted).await.expect("repeated").into_inner();
    assert_eq!(first, again);
    let added = add("r2", "prd_1", &["A2", "A3"]);
    let first = shop.products().update_product(added.clone()).await.expect("added").into_inner();
    let again = shop.products().update_product(added).await.expect("repeated").into_inner();
    assert_eq!(first, again);
}

/// Eight requests that want some of the same SKUs, in whatever order, at the same moment.
#[tokio::test]
async fn whoever_loses_a_race_for_skus_keeps_none_of_them() {
    const SKUS: [&str; 6] = ["S0", "S1", "S2", "S3", "S4", "S5"];
    let shop = TestShop::start().await;
    let wants = |n: usize| {
        let own = format!("OWN-{n}");
        let mut skus: Vec<String> =
            (0..4).map(|i| SKUS[(n * 5 + i * (n % 2 * 4 + 1)) % 6].to_owned()).collect();
        skus.insert(n % 4, own);
        skus
    };
    let racing = (0..8).map(|n| {
        let (mut products, skus) = (shop.products(), wants(n));
        async move {
            let skus: Vec<&str> = skus.iter().map(String::as_str).collect();
            products.create_product(create(&format!("r{n}"), &format!("prd_{n}"), &skus)).await
        }
    });
    let outcomes = futures::future::join_all(racing).await;
    let won: Vec<usize> = (0..8).filter(|n| outcomes[*n].is_ok()).collect();
    assert!(!won.is_empty(), "{outcomes:?}");
    for (n, outcome) in outcomes.iter().enumerate() {
        if let Err(status) = outcome {
            assert_eq!(said(status), (Code::AlreadyExists, "SKU_TAKEN".to_owned()), "{n}");
        }
    }
    // What no winner has is anybody's, and what one has is nobody else's.
    let of_winners: Vec<String> = won.iter().flat_map(|n| wants(*n)).collect();
    let all: std::collections::BTreeSet<String> = (0..8).flat_map(wants).collect();
    for sku in &all {
        let late = create(&format!("late-{sku}"), &format!("prd_late-{sku}"), &[sku]);
        let outcome = shop.products().create_product(late).await;
        assert_eq!(outcome.is_err(), of_winners.contains(sku), "{sku}: {outcome:?}");
    }
}

/// What a node that ended between the claims and the product leaves behind.
#[tokio::test]
async fn a_claim_that_came_to_nothing_is_taken_over() {
    let shop = TestShop::start().await;
    shop.claim("prd_ghost", "GHOST").await;
    let other = shop.products().create_product(create("r2", "prd_2", &["GHOST"])).await;
    assert!(other.is_ok(), "{other:?}");
    // Whoever was at work with it finds that it has gone.
    let late = shop.products().create_product(create("r1", "prd_ghost", &["GHOST"])).await;
    assert_eq!(said(&late.expect_err("refused")), (Code::AlreadyExists, "SKU_TAKEN".to_owned()));
    let without = shop.products().create_product(create("r3", "prd_ghost", &["OTHER"])).await;
    assert!(without.is_ok(), "{without:?}");
}
