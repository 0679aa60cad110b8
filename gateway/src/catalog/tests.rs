//! From requests to commands for products, SKUs and prices.

use prost_types::FieldMask;
use shopstream_command_handlers::CommandEnvelope;
use shopstream_domain::catalog::ProductCommand;
use shopstream_domain::pricing::PriceCommand;
use shopstream_domain::{Currency, model};
use shopstream_proto::catalog::v1::ProductStatus;
use shopstream_proto::r#type::v1::Money;
use tonic::Code;

use super::*;
use crate::offers::{ListPrice, Offer};
use crate::testing::{call, refusal};

fn variant(sku: &str, price: Option<i64>) -> wire::NewVariant {
    let gbp = |amount_minor| Money { currency_code: "GBP".to_owned(), amount_minor };
    wire::NewVariant { sku: sku.to_owned(), title: String::new(), list_price: price.map(gbp) }
}

fn create(variants: Vec<wire::NewVariant>) -> CreateProductRequest {
    let (request_id, title) = ("r".to_owned(), "Lamp".to_owned());
    CreateProductRequest { request_id, title, variants, ..CreateProductRequest::default() }
}

fn streams(envelopes: &[CommandEnvelope]) -> Vec<&str> {
    envelopes.iter().map(|envelope| envelope.stream.as_str()).collect()
}

/// CreateProduct.
#[test]
fn create_product_claims_creates_and_prices() {
    let request = CreateProductRequest {
        product_id: Some("prd_1".to_owned()),
        ..create(vec![variant("A1", Some(250)), variant("A2", None)])
    };
    let new = NewProduct::of(request, &call()).expect("valid");
    assert_eq!(new.skus().iter().map(|sku| sku.as_str()).collect::<Vec<_>>(), ["A1", "A2"]);
    let created = new.create(&call(), None);
    assert_eq!(created.stream.as_str(), "default/product/prd_1");
    assert!(matches!(
        created.command,
        model::Command::Product(ProductCommand::Create { publish: true, ref variants, .. }) if variants.len() == 2
    ));
    let prices = new.prices(&call());
    assert_eq!(streams(&prices), ["default/price/A1.GBP"]);
    assert!(matches!(prices[0].command, model::Command::Price(PriceCommand::Set { amount_minor: 250, .. })));
}

#[test]
fn every_wrong_product_names_its_field() {
    let cases = [
        (create(vec![]), "variants"),
        (create(vec![variant("A1", None), variant("A1", None)]), "variants[1].sku"),
        (create(vec![variant("a b", None)]), "variants[0].sku"),
        (create(vec![variant("A1", Some(-1))]), "variants[0].list_price.amount_minor"),
        (CreateProductRequest { title: String::new(), ..create(vec![variant("A1", None)]) }, "title"),
    ];
    for (request, field) in cases {
        assert_eq!(refusal(NewProduct::of(request, &call())), (Code::InvalidArgument, field.to_owned()));
    }
    assert!(NewProduct::of(CreateProductRequest { draft: true, ..create(vec![]) }, &call()).is_ok());
}

fn update(paths: &[&str], status: ProductStatus) -> UpdateProductRequest {
    UpdateProductRequest {
        request_id: "r".to_owned(),
        expected_version: Some(4),
        product_id: "prd_1".to_owned(),
        update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).to_owned()).collect() }),
        title: "New".to_owned(),
        description: "Text".to_owned(),
        variants: vec![wire::Variant { sku: "A2".to_owned(), title: "red".to_owned() }],
        status: status.into(),
    }
}

/// UpdateProduct.
#[test]
fn update_product_changes_what_the_mask_names_and_nothing_else() {
    let commands = |paths: &[&str]| {
        let update = Update::of(update(paths, ProductStatus::Published)).expect("valid");
        update.commands(&call(), None).into_iter().map(|envelope| envelope.command).collect::<Vec<_>>()
    };
    let details = |title: Option<&str>, description: Option<&str>| {
        let (title, description) = (title.map(str::to_owned), description.map(str::to_owned));
        model::Command::Product(ProductCommand::ChangeDetails { title, description })
    };
    assert_eq!(commands(&["title"]), [details(Some("New"), None)]);
    assert_eq!(commands(&[]), [details(None, None)]);
    assert_eq!(commands(&["status"]), [model::Command::Product(ProductCommand::Publish)]);
    assert_eq!(commands(&["status", "variants", "description"]).len(), 3);
}

#[test]
fn the_commands_of_one_update_are_told_apart_and_only_the_first_expects_a_version() {
    let update =
        Update::of(update(&["title", "variants", "status"], ProductStatus::Unpublished)).expect("valid");
    let commands = update.commands(&call(), None);
    let versions: Vec<_> = commands.iter().map(|envelope| envelope.expected_version).collect();
    assert_eq!(versions, [Some(4), None, None]);
    let mut ids: Vec<_> = commands.iter().map(|envelope| envelope.command_id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    assert_eq!(update.skus().iter().map(|sku| sku.as_str()).collect::<Vec<_>>(), ["A2"]);
}

#[test]
fn every_wrong_update_names_its_field() {
    let refused = |request| refusal(Update::of(request));
    let no_title =
        UpdateProductRequest { title: String::new(), ..update(&["title"], ProductStatus::Published) };
    assert_eq!(refused(no_title), (Code::InvalidArgument, "title".to_owned()));
    for status in [ProductStatus::Unspecified, ProductStatus::Draft, ProductStatus::Discontinued] {
        assert_eq!(refused(update(&["status"], status)), (Code::InvalidArgument, "status".to_owned()));
    }
    let unknown = refused(update(&["price"], ProductStatus::Published));
    assert_eq!((unknown.0, unknown.1.starts_with("update_mask")), (Code::InvalidArgument, true));
    let no_mask = UpdateProductRequest { update_mask: None, ..update(&[], ProductStatus::Published) };
    assert_eq!(refused(no_mask), (Code::InvalidArgument, "update_mask".to_owned()));
}

/// DeleteProduct.
#[test]
fn delete_product_discontinues() {
    let (request_id, product_id) = ("r".to_owned(), "prd_1".to_owned());
    let request = DeleteProductRequest { request_id, product_id, expected_version: None };
    let command = delete(request, &call()).expect("valid").command;
    assert_eq!(command, model::Command::Product(ProductCommand::Discontinue));
}

/// SetPrice.
#[test]
fn set_price_is_for_a_sku_in_its_currency() {
    let price = |currency: &str| {
        let price = Some(Money { currency_code: currency.to_owned(), amount_minor: 300 });
        let (request_id, sku) = ("r".to_owned(), "A1".to_owned());
        NewPrice::of(SetPriceRequest { request_id, sku, price, ..Default::default() }, &call())
            .expect("valid")
    };
    let gbp = ListPrice { currency: Currency::GBP, amount_minor: 250, version: 1 };
    let offer =
        Offer { product_id: ProductId::new("prd_1").expect("valid"), on_sale: true, prices: vec![gbp] };
    assert_eq!(price("GBP").command.stream.as_str(), "default/price/A1.GBP");
    assert_eq!(price("GBP").allowed_by(Some(&offer)), Ok(()));
    assert_eq!(refusal(price("GBP").allowed_by(None)), (Code::NotFound, String::new()));
    let mixed = refusal(price("EUR").allowed_by(Some(&offer)));
    assert_eq!(mixed, (Code::FailedPrecondition, "price.currency_code".to_owned()));
}
