//! Every command of the catalogue in every state.

use super::*;
use crate::testing::{given, handle_equals_decide_and_fold};
use crate::{ProductId, Refusal, RefusalFamily, Sku, Timestamp};

fn product_id(text: &str) -> ProductId {
    ProductId::new(text).unwrap()
}

fn sku(text: &str) -> Sku {
    Sku::new(text).unwrap()
}

fn variant(of: &str, title: &str) -> Variant {
    Variant { sku: sku(of), title: title.to_owned() }
}

fn create(variants: Vec<Variant>, publish: bool) -> ProductCommand {
    let (title, description) = ("LUNCH BAG".to_owned(), "spots".to_owned());
    let (product_id, claims) = (product_id("prd_1"), variants.iter().map(|it| (it.sku.clone(), 1)).collect());
    ProductCommand::Create { product_id, title, description, variants, publish, claims }
}

fn put_variant(variant: Variant) -> ProductCommand {
    ProductCommand::PutVariant { variant, claim: 1 }
}

fn forgo(of: &str, claim: u64) -> ProductCommand {
    ProductCommand::Forgo { sku: sku(of), claim }
}

fn forgone(of: &str, claim: u64) -> ProductEvent {
    ProductEvent::SkuForgone(SkuForgone { sku: sku(of), claim })
}

fn drafted(variants: Vec<Variant>) -> ProductEvent {
    let (title, description) = ("LUNCH BAG".to_owned(), "spots".to_owned());
    ProductEvent::Drafted(ProductDrafted { product_id: product_id("prd_1"), title, description, variants })
}

fn published() -> ProductEvent {
    ProductEvent::Published(ProductPublished {})
}

fn details(title: Option<&str>, description: Option<&str>) -> ProductCommand {
    let text = |text: &str| text.to_owned();
    ProductCommand::ChangeDetails { title: title.map(text), description: description.map(text) }
}

/// Every state that makes a difference, in the order of the columns below.
fn states() -> [(&'static str, Vec<ProductEvent>); 6] {
    let one = || drafted(vec![variant("A1", "")]);
    let unpublished = ProductEvent::Unpublished(ProductUnpublished {});
    let discontinued = ProductEvent::Discontinued(ProductDiscontinued {});
    [
        ("missing", vec![]),
        ("draft without variants", vec![drafted(vec![])]),
        ("draft", vec![one()]),
        ("published", vec![one(), published()]),
        ("unpublished", vec![one(), published(), unpublished]),
        ("discontinued", vec![one(), discontinued]),
    ]
}

/// What each command leads to in each state. The match has no wildcard, so a new command asks for its row.
fn expected(command: &ProductCommand) -> [&'static str; 6] {
    const ABSENT: &str = "PRODUCT_NOT_FOUND";
    const GONE: &str = "PRODUCT_DISCONTINUED";
    match command {
        ProductCommand::Create { .. } => {
            let exists = "PRODUCT_EXISTS";
            ["ProductDrafted ProductPublished", exists, exists, exists, exists, exists]
        }
        ProductCommand::ChangeDetails { .. } => {
            let changed = "ProductDetailsChanged";
            [ABSENT, changed, changed, changed, changed, GONE]
        }
        ProductCommand::PutVariant { .. } => {
            [ABSENT, "VariantPut", "VariantPut", "VariantPut", "VariantPut", GONE]
        }
        ProductCommand::Publish => {
            let on_sale = "ProductPublished";
            [ABSENT, "PRODUCT_HAS_NO_VARIANTS", on_sale, "nothing", on_sale, GONE]
        }
        ProductCommand::Unpublish => {
            let never = "PRODUCT_NEVER_PUBLISHED";
            [ABSENT, never, never, "ProductUnpublished", "nothing", GONE]
        }
        ProductCommand::Forgo { .. } => {
            let (none, one) = ("SkuForgone", "SKU_IN_USE");
            [none, none, one, one, one, one]
        }
        ProductCommand::Discontinue => {
            let gone = "ProductDiscontinued";
            [ABSENT, gone, gone, gone, gone, "nothing"]
        }
    }
}

#[test]
fn every_product_command_in_every_state() {
    let commands = [
        create(vec![variant("A1", "")], true),
        details(Some("LUNCH BOX"), None),
        put_variant(variant("A2", "blue")),
        ProductCommand::Publish,
        ProductCommand::Unpublish,
        ProductCommand::Discontinue,
        forgo("A1", 1),
    ];
    for command in commands {
        for ((state, history), expected) in states().into_iter().zip(expected(&command)) {
            let found = given::<Product>(history).when(command.clone()).in_words();
            assert_eq!(found, expected, "{command:?} when {state}");
        }
    }
}

#[test]
fn a_product_is_drafted_or_put_on_sale_at_once() {
    let variants = vec![variant("A1", ""), variant("A2", "blue")];
    let draft = given::<Product>([]).when(create(variants.clone(), false)).then([drafted(variants.clone())]);
    assert_eq!(draft.status(), ProductStatus::Draft);
    let on_sale =
        given::<Product>([]).when(create(variants.clone(), true)).then([drafted(variants), published()]);
    assert_eq!(on_sale.status(), ProductStatus::Published);
    given::<Product>([]).when(create(vec![], false)).then([drafted(vec![])]);
    given::<Product>([]).when(create(vec![], true)).then_refused(Error::VariantsMissing);
}

#[test]
fn only_what_differs_is_changed() {
    let history = || [drafted(vec![variant("A1", "red")])];
    given::<Product>(history()).when(details(None, None)).then_nothing();
    given::<Product>(history()).when(details(Some("LUNCH BAG"), Some("spots"))).then_nothing();
    let changed = ProductDetailsChanged { title: None, description: Some(String::new()) };
    given::<Product>(history())
        .when(details(Some("LUNCH BAG"), Some("")))
        .then([ProductEvent::DetailsChanged(changed)]);
    given::<Product>(history()).when(put_variant(variant("A1", "red"))).then_nothing();
    let put = VariantPut { sku: sku("A1"), title: "blue".to_owned() };
    given::<Product>(history())
        .when(put_variant(variant("A1", "blue")))
        .then([ProductEvent::VariantPut(put)]);
}

#[test]
fn a_bad_request_names_its_field() {
    let long = |chars: usize| "ü".repeat(chars);
    let many = (0..1_001).map(|n| variant(&format!("S{n}"), "")).collect();
    let put_title = put_variant(variant("A3", &long(301)));
    let cases: [(ProductCommand, &str); 8] = [
        (create(vec![variant("A1", ""), variant("A1", "blue")], true), "variants[1].sku"),
        (create(vec![variant("A1", ""), variant("A2", &long(301))], true), "variants[1].title"),
        (create(many, true), "variants"),
        (create(vec![], true), "variants"),
        (details(Some("  "), None), "title"),
        (details(Some(&long(301)), None), "title"),
        (details(None, Some(&long(10_001))), "description"),
        (put_title, "title"),
    ];
    for (command, field) in cases {
        let history = match command {
            ProductCommand::Create { .. } => vec![],
            _ => vec![drafted(vec![])],
        };
        let refusal = given::<Product>(history).when(command).outcome().unwrap_err();
        assert_eq!((refusal.family(), refusal.field().as_deref()), (RefusalFamily::Invalid, Some(field)));
    }
    given::<Product>([drafted(vec![])])
        .when(details(Some(&long(300)), Some(&long(10_000))))
        .outcome()
        .expect("the longest texts fit");
}

#[test]
fn a_product_takes_no_more_than_a_thousand_variants() {
    let variants: Vec<_> = (0..1_000).map(|n| variant(&format!("S{n}"), "")).collect();
    let full = || given::<Product>([drafted(variants.clone())]);
    full()
        .when(put_variant(variant("S1000", "")))
        .then_refused(Error::TooManyVariants { found: 1_001, limit: 1_000 });
    let put = VariantPut { sku: sku("S7"), title: "blue".to_owned() };
    full().when(put_variant(variant("S7", "blue"))).then([ProductEvent::VariantPut(put)]);
    assert!(crate::Aggregate::weight(&full().state()) > 1_000 * 64);
}

#[test]
fn what_a_product_did_without_it_gets_only_by_a_later_claim() {
    let lost = Error::ClaimLost { sku: sku("A1"), index: 0 };
    assert_eq!((lost.family(), lost.reason()), (RefusalFamily::AlreadyExists, "SKU_TAKEN"));
    // A request that was at work with the first claim, while somebody else was told that nobody needs it.
    let one = || vec![variant("A1", "")];
    given::<Product>([forgone("A1", 1)]).when(create(one(), true)).then_refused(lost.clone());
    given::<Product>([drafted(vec![]), forgone("A1", 1)])
        .when(put_variant(variant("A1", "")))
        .then_refused(lost);
    let second = ProductCommand::PutVariant { variant: variant("A1", ""), claim: 2 };
    let there = VariantPut { sku: sku("A1"), title: String::new() };
    given::<Product>([drafted(vec![]), forgone("A1", 1)])
        .when(second)
        .then([ProductEvent::VariantPut(there)]);

    given::<Product>([forgone("A1", 2)]).when(forgo("A1", 1)).then_nothing();
    given::<Product>([forgone("A1", 1)]).when(forgo("A1", 2)).then([forgone("A1", 2)]);
    let in_use = Error::SkuInUse { sku: sku("A1") };
    given::<Product>([drafted(one())]).when(forgo("A1", 9)).then_refused(in_use);
}

fn claim(product: &str) -> SkuClaimCommand {
    SkuClaimCommand::Claim { sku: sku("A1"), product_id: product_id(product) }
}

fn take_over(product: &str, from: &str, claim: u64) -> SkuClaimCommand {
    let (product_id, from) = (product_id(product), product_id(from));
    SkuClaimCommand::TakeOver { sku: sku("A1"), product_id, from, claim }
}

fn give_back(product: &str, claim: u64) -> SkuClaimCommand {
    SkuClaimCommand::GiveBack { sku: sku("A1"), product_id: product_id(product), claim }
}

fn claimed(product: &str) -> SkuClaimEvent {
    SkuClaimEvent::Claimed(SkuClaimed { sku: sku("A1"), product_id: product_id(product) })
}

fn given_back(product: &str) -> SkuClaimEvent {
    SkuClaimEvent::GivenBack(SkuGivenBack { sku: sku("A1"), product_id: product_id(product) })
}

#[test]
fn a_sku_belongs_to_the_first_product_that_claims_it() {
    given::<SkuClaim>([]).when(claim("prd_1")).then([claimed("prd_1")]);
    given::<SkuClaim>([claimed("prd_1")]).when(claim("prd_1")).then_nothing();
    let taken = Error::SkuTaken { sku: sku("A1"), owner: product_id("prd_1") };
    assert_eq!((taken.family(), taken.reason()), (RefusalFamily::AlreadyExists, "SKU_TAKEN"));
    given::<SkuClaim>([claimed("prd_1")]).when(claim("prd_2")).then_refused(taken);
}

#[test]
fn a_claim_that_came_to_nothing_is_taken_over_or_given_back_once() {
    let first = || [claimed("prd_1")];
    let again = || [claimed("prd_1"), given_back("prd_1"), claimed("prd_1")];
    let taken = Error::SkuTaken { sku: sku("A1"), owner: product_id("prd_1") };
    given::<SkuClaim>(first()).when(take_over("prd_2", "prd_1", 1)).then([claimed("prd_2")]);
    // Of another claim the product has said nothing.
    given::<SkuClaim>(again()).when(take_over("prd_2", "prd_1", 1)).then_refused(taken.clone());
    given::<SkuClaim>(again()).when(take_over("prd_2", "prd_1", 2)).then([claimed("prd_2")]);
    given::<SkuClaim>(first()).when(take_over("prd_2", "prd_3", 1)).then_refused(taken);
    given::<SkuClaim>(first()).when(take_over("prd_1", "prd_3", 1)).then_nothing();

    given::<SkuClaim>(first()).when(give_back("prd_1", 1)).then([given_back("prd_1")]);
    given::<SkuClaim>(first()).when(give_back("prd_2", 1)).then_nothing();
    given::<SkuClaim>(again()).when(give_back("prd_1", 1)).then_nothing();
    given::<SkuClaim>([claimed("prd_1"), given_back("prd_1")]).when(claim("prd_2")).then([claimed("prd_2")]);
}

#[test]
fn cqrs_es_answers_as_we_do() {
    let history = [drafted(vec![variant("A1", "")]), published()];
    let decided =
        handle_equals_decide_and_fold::<Product>(&history, ProductCommand::Unpublish, Timestamp::default());
    assert_eq!(decided, Ok(vec![ProductEvent::Unpublished(ProductUnpublished {})]));
    assert!(
        handle_equals_decide_and_fold::<Product>(&history, create(vec![], true), Timestamp::default())
            .is_err()
    );
}
