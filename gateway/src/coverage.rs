//! Every RPC has a test of its translation: the coverage is a test itself.

use std::collections::BTreeSet;

use crate::rpc::Methods;

/// Packages that this crate does not serve.
const ELSEWHERE: [&str; 1] = ["shopstream.provider."];

/// RPC, file, and the test that translates it.
const TESTED: &[(&str, &str, &str)] = &[
    ("catalog.v1.ProductService/CreateProduct", CATALOG, "create_product_claims_creates_and_prices"),
    (
        "catalog.v1.ProductService/UpdateProduct",
        CATALOG,
        "update_product_changes_what_the_mask_names_and_nothing_else",
    ),
    ("catalog.v1.ProductService/DeleteProduct", CATALOG, "delete_product_discontinues"),
    ("catalog.v1.ProductService/SetPrice", CATALOG, "set_price_is_for_a_sku_in_its_currency"),
    ("inventory.v1.InventoryService/UpdateStock", INVENTORY, "update_stock_receives_adjusts_and_counts"),
    (
        "inventory.v1.InventoryService/ReserveStock",
        INVENTORY,
        "reserve_stock_sums_lines_per_sku_and_location",
    ),
    ("inventory.v1.InventoryService/ReleaseStock", INVENTORY, "release_stock_says_why"),
    ("order.v1.OrderService/CreateOrder", ORDER, "create_order_freezes_list_prices_and_takes_overrides"),
    ("order.v1.OrderService/CancelOrder", ORDER, "cancel_order_is_the_customers_or_the_staffs"),
    (
        "order.v1.OrderService/UpdateOrderStatus",
        ORDER,
        "update_order_status_submits_or_cancels_and_names_those_moves",
    ),
    (
        "order.v1.OrderService/ProcessBulkOrders",
        BULK,
        "the_answer_counts_all_and_lists_the_first_thousand_failures",
    ),
    (
        "order.v1.OrderService/GetUserOrders",
        PAGE,
        "a_page_has_fifty_rows_unless_asked_and_a_thousand_at_most",
    ),
    ("order.v1.OrderService/TrackOrder", TRACK, "a_story_ends_cancelled_or_confirmed_and_done"),
    (
        "payment.v1.PaymentService/ProcessPayment",
        PAYMENT,
        "process_payment_is_a_further_attempt_for_the_whole_order",
    ),
    (
        "payment.v1.PaymentService/CapturePayment",
        PAYMENT,
        "an_amount_is_above_zero_and_in_the_payments_currency",
    ),
    (
        "payment.v1.PaymentService/RefundPayment",
        PAYMENT,
        "an_amount_is_above_zero_and_in_the_payments_currency",
    ),
    ("payment.v1.PaymentService/GetPayment", PAYMENT, "a_payment_is_shown_with_its_sums"),
    (
        "payment.v1.PaymentService/RecordProviderSignal",
        PAYMENT,
        "record_provider_signal_says_what_the_provider_said",
    ),
    (
        "process.v1.ProcessService/ResumeProcess",
        PROCESS,
        "resume_process_is_for_the_process_that_the_id_names",
    ),
    ("process.v1.ProcessService/SettleProcess", PROCESS, "settle_process_says_what_was_seen_to"),
    ("returns.v1.ReturnService/CreateReturn", RETURNS, "create_return_refunds_the_price_paid"),
    ("event.v1.EventService/Read", EVENT, "read_shows_every_field_of_an_event"),
    ("event.v1.EventService/GetLogStatus", EVENT, "get_log_status_says_why_a_partition_does_not_serve"),
];

/// What only a running shop can show; the tests of the whole shop do.
const WHOLE_SHOP: &[&str] = &[
    "admin.v1.AdminService/VerifyReadModels",
    "admin.v1.AdminService/ListParkedAggregates",
    "admin.v1.AdminService/ExplainParkedAggregate",
    "admin.v1.AdminService/RetryParkedAggregate",
    "admin.v1.AdminService/SkipParkedEvent",
    "admin.v1.AdminService/ListSkippedEvents",
    "admin.v1.AdminService/DescribeNode",
    "catalog.v1.ProductService/GetProduct",
    "inventory.v1.InventoryService/GetStock",
    "inventory.v1.InventoryService/StreamStockUpdates",
    "order.v1.OrderService/GetOrder",
    "order.v1.OrderService/StreamOrderUpdates",
    "process.v1.ProcessService/ListStoppedProcesses",
    "returns.v1.ReturnService/GetReturn",
];

const CATALOG: &str = include_str!("catalog/tests.rs");
const INVENTORY: &str = include_str!("inventory/tests.rs");
const ORDER: &str = include_str!("order/tests.rs");
const BULK: &str = include_str!("order/bulk.rs");
const PAGE: &str = include_str!("page.rs");
const TRACK: &str = include_str!("order/track.rs");
const PAYMENT: &str = include_str!("payment/tests.rs");
const PROCESS: &str = include_str!("process/tests.rs");
const RETURNS: &str = include_str!("returns/tests.rs");
const EVENT: &str = include_str!("event/tests.rs");

#[test]
fn every_rpc_is_tested_or_listed() {
    let methods = Methods::of(&[shopstream_proto::FILE_DESCRIPTOR_SET]).expect("descriptors");
    let served = methods.paths().map(|path| path.trim_start_matches('/'));
    let served: BTreeSet<&str> = served
        .filter(|path| !ELSEWHERE.iter().any(|package| path.starts_with(package)))
        .map(|path| path.trim_start_matches("shopstream."))
        .collect();
    let known: BTreeSet<&str> =
        TESTED.iter().map(|(rpc, ..)| *rpc).chain(WHOLE_SHOP.iter().copied()).collect();
    assert_eq!(served, known);
}

#[test]
fn every_test_that_is_named_exists() {
    for (rpc, file, test) in TESTED {
        assert!(file.contains(&format!("fn {test}()")), "{rpc}: {test}");
    }
}
