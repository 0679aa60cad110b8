use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::catalog::v1::{NewVariant, UpdateProductRequest};
use crate::event::v1::{GetLogStatusRequest, PartitionRange, ReadRequest};
use crate::inventory::v1::{
    GetStockRequest, ReceiveStock, ReleaseReason, ReleaseStockRequest, ReservationLine, ReserveStockRequest,
    StreamStockUpdatesRequest, UpdateStockRequest, update_stock_request,
};
use crate::order::v1::{
    CancelOrderRequest, CancelReason, CreateOrderRequest, GetOrderRequest, GetUserOrdersRequest,
    NewOrderLine, OrderStatus, ProcessBulkOrdersRequest, UpdateOrderStatusRequest,
};
use crate::payment::v1::GetPaymentRequest;
use crate::r#type::v1::{Money, Position};
use crate::{Command, FILE_DESCRIPTOR_SET, Validate};

/// The violated fields and rules, in the order found.
fn violations(request: &impl Validate) -> Vec<(String, String)> {
    match request.validate() {
        Ok(()) => Vec::new(),
        Err(error) => error.violations().iter().map(|v| (v.field_path(), v.rule_id().to_owned())).collect(),
    }
}

#[track_caller]
fn assert_violates(request: &impl Validate, field: &str, rule: &str) {
    assert_eq!(violations(request), [(field.to_owned(), rule.to_owned())]);
}

#[track_caller]
fn assert_valid(request: &impl Validate) {
    assert_eq!(violations(request), []);
}

fn line(quantity: i64) -> NewOrderLine {
    NewOrderLine { sku: "85123A".into(), quantity, unit_price: None }
}

fn order() -> CreateOrderRequest {
    CreateOrderRequest {
        request_id: "req-1".into(),
        customer_id: "13085".into(),
        currency_code: "GBP".into(),
        lines: vec![line(12)],
        payment_method_token: "tok_approve".into(),
        ..Default::default()
    }
}

fn gbp(amount_minor: i64) -> Money {
    Money { currency_code: "GBP".into(), amount_minor }
}

#[test]
fn a_good_order_passes_with_and_without_what_is_optional() {
    assert_valid(&order());
    assert_valid(&CreateOrderRequest {
        order_id: Some("ord_01J8".into()),
        expected_version: Some(0),
        lines: vec![NewOrderLine { unit_price: Some(gbp(0)), ..line(1_000_000_000) }; 1000],
        draft: true,
        ..order()
    });
}

#[test]
fn a_request_id_has_1_to_128_characters() {
    assert_violates(
        &CreateOrderRequest { request_id: String::new(), ..order() },
        "request_id",
        "string.min_len",
    );
    assert_valid(&CreateOrderRequest { request_id: "é".repeat(128), ..order() });
    assert_violates(
        &CreateOrderRequest { request_id: "é".repeat(129), ..order() },
        "request_id",
        "string.max_len",
    );
}

#[test]
fn a_quantity_out_of_range_names_its_line() {
    for quantity in [0, -1, i64::MIN, 1_000_000_001, i64::MAX] {
        let request = CreateOrderRequest { lines: vec![line(quantity)], ..order() };
        assert_violates(&request, "lines[0].quantity", "int64.gte_lte");
    }
    let request = CreateOrderRequest { lines: vec![line(1), line(1), line(0)], ..order() };
    assert_violates(&request, "lines[2].quantity", "int64.gte_lte");
}

#[test]
fn an_order_has_1_to_1000_lines() {
    assert_violates(&CreateOrderRequest { lines: vec![], ..order() }, "lines", "repeated.min_items");
    for count in [1001, 10_000] {
        let request = CreateOrderRequest { lines: vec![line(1); count], ..order() };
        assert_violates(&request, "lines", "repeated.max_items");
    }
}

#[test]
fn all_that_is_wrong_is_named_at_once() {
    let request = CreateOrderRequest {
        request_id: String::new(),
        currency_code: "gbp".into(),
        lines: vec![NewOrderLine { sku: " ".into(), quantity: 0, unit_price: Some(gbp(-1)) }],
        ..order()
    };
    let fields: BTreeSet<String> = violations(&request).into_iter().map(|(field, _)| field).collect();
    let expected = [
        "request_id",
        "currency_code",
        "lines[0].sku",
        "lines[0].quantity",
        "lines[0].unit_price.amount_minor",
    ];
    assert_eq!(fields, expected.map(str::to_owned).into());
}

#[test]
fn an_optional_id_may_be_absent_but_not_empty_or_foreign() {
    for id in ["", "ord_", "res_1", "ord_a/b", "ord_a.1", "xord_1", "ord_1\n"] {
        let request = CreateOrderRequest { order_id: Some(id.into()), ..order() };
        assert_violates(&request, "order_id", "string.pattern");
    }
}

#[test]
fn an_expected_version_may_be_absent_or_0_but_not_negative() {
    let request = |expected_version| CreateOrderRequest { expected_version, ..order() };
    assert_valid(&request(None));
    assert_valid(&request(Some(0)));
    assert_violates(&request(Some(-1)), "expected_version", "int64.gte");
}

#[test]
fn a_payment_has_the_id_of_its_order_and_an_attempt() {
    let request = |id: &str| GetPaymentRequest { payment_id: id.into(), ..Default::default() };
    assert_valid(&request("pay_01J8.1"));
    for id in ["", "pay_01J8", "pay_01J8.", "pay_01J8x1", "pay_.1"] {
        assert_violates(&request(id), "payment_id", "string.pattern");
    }
}

#[test]
fn a_bad_order_in_a_bulk_message_is_not_an_error_of_the_message() {
    let bad = CreateOrderRequest { lines: vec![], ..order() };
    assert_valid(&ProcessBulkOrdersRequest { orders: vec![order(), bad.clone()] });
    assert!(bad.validate().is_err());
}

#[test]
fn a_state_to_move_to_must_be_said_and_known() {
    let request = |status| UpdateOrderStatusRequest {
        request_id: "req-1".into(),
        order_id: "ord_1".into(),
        status,
        ..Default::default()
    };
    assert_valid(&request(OrderStatus::Submitted.into()));
    assert_violates(&request(0), "status", "enum.not_in");
    assert_violates(&request(99), "status", "enum.defined_only");
}

#[test]
fn a_caller_cannot_claim_a_reason_that_is_the_systems_own() {
    let cancel = |reason: CancelReason| CancelOrderRequest {
        request_id: "req-1".into(),
        order_id: "ord_1".into(),
        reason: reason.into(),
        ..Default::default()
    };
    assert_valid(&cancel(CancelReason::Unspecified));
    assert_valid(&cancel(CancelReason::Customer));
    assert_valid(&cancel(CancelReason::Staff));
    assert_violates(&cancel(CancelReason::OutOfStock), "reason", "enum.in");

    let release = |reason: ReleaseReason| ReleaseStockRequest {
        request_id: "req-1".into(),
        reservation_id: "res_1".into(),
        reason: reason.into(),
        ..Default::default()
    };
    assert_valid(&release(ReleaseReason::Unspecified));
    assert_violates(&release(ReleaseReason::Expired), "reason", "enum.not_in");
}

#[test]
fn a_page_has_no_negative_size() {
    let request =
        |page_size| GetUserOrdersRequest { customer_id: "guest".into(), page_size, ..Default::default() };
    assert_valid(&request(0));
    assert_valid(&request(i32::MAX));
    assert_violates(&request(-1), "page_size", "int32.gte");
}

#[test]
fn min_position_names_the_bad_one() {
    let position =
        |log: &str, offset| Position { log: log.into(), partition: 3, offset, ..Position::default() };
    let request = |min_position| GetOrderRequest { min_position, order_id: "ord_1".into() };
    assert_valid(&request(vec![]));
    assert_valid(&request(vec![position("core", 0)]));
    assert_violates(
        &request(vec![position("core", 0), position("core", -1)]),
        "min_position[1].offset",
        "int64.gte",
    );
    assert_violates(&request(vec![position("", 7)]), "min_position[0].log", "string.min_len");
}

#[test]
fn a_location_may_be_left_out() {
    let request = |location: &str| GetStockRequest {
        sku: "85123A".into(),
        location: location.into(),
        ..Default::default()
    };
    assert_valid(&request(""));
    assert_valid(&request("main"));
    assert_violates(&request("a/b"), "location", "string.pattern");
}

#[test]
fn a_stock_change_is_exactly_one() {
    let request = |change| UpdateStockRequest {
        request_id: "req-1".into(),
        sku: "85123A".into(),
        change,
        ..Default::default()
    };
    assert_valid(&request(Some(update_stock_request::Change::Receive(ReceiveStock { quantity: 5 }))));
    assert_violates(&request(None), "change", "required");
}

#[test]
fn a_reservation_line_is_held_to_the_same_rules() {
    let request = |lines| ReserveStockRequest { request_id: "req-1".into(), lines, ..Default::default() };
    let line = |quantity| ReservationLine { sku: "85123A".into(), quantity, ..Default::default() };
    assert_valid(&request(vec![line(1)]));
    assert_violates(&request(vec![line(1), line(0)]), "lines[1].quantity", "int64.gte_lte");
    assert_violates(&request(vec![]), "lines", "repeated.min_items");
}

#[test]
fn filters_are_checked_item_by_item() {
    let request = StreamStockUpdatesRequest { skus: vec!["A".into(), "".into()], ..Default::default() };
    assert_violates(&request, "skus[1]", "string.pattern");
    let range = PartitionRange { partition: 0, from_offset: -1, to_offset: None };
    let request = ReadRequest { partitions: vec![range], ..Default::default() };
    assert_violates(&request, "partitions[0].from_offset", "int64.gte");
    assert_valid(&ReadRequest::default());
    assert_valid(&GetLogStatusRequest::default());
}

#[test]
fn an_update_mask_is_required_and_names_known_fields() {
    let request = |paths: Option<&[&str]>| UpdateProductRequest {
        request_id: "req-1".into(),
        product_id: "prd_1".into(),
        update_mask: paths
            .map(|paths| prost_types::FieldMask { paths: paths.iter().map(|&path| path.into()).collect() }),
        ..Default::default()
    };
    assert_valid(&request(Some(&["title", "variants"])));
    assert_violates(&request(None), "update_mask", "required");
    assert_violates(&request(Some(&["title", "version"])), "update_mask", "field_mask.in");
}

#[test]
fn a_currency_is_three_capitals() {
    for code in ["", "GB", "gbp", "GBPX"] {
        let money = Money { currency_code: code.into(), amount_minor: 1 };
        let variant = NewVariant { sku: "A1".into(), list_price: Some(money), ..Default::default() };
        assert_violates(&variant, "list_price.currency_code", "string.pattern");
    }
}

#[test]
fn two_requests_that_differ_in_their_id_only_mean_the_same() {
    let mut first = order();
    let mut second = CreateOrderRequest { request_id: "req-2".into(), ..order() };
    assert_ne!(first, second);
    assert_eq!(first.take_request_id(), "req-1");
    assert_eq!(second.take_request_id(), "req-2");
    assert_eq!(first.encode_to_vec(), second.encode_to_vec());
}

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("protoc wrote it")
}

/// Messages of our packages by full name.
fn messages(set: &FileDescriptorSet) -> BTreeMap<String, &DescriptorProto> {
    let ours = set.file.iter().filter(|file| file.package().starts_with("shopstream."));
    ours.flat_map(|file| file.message_type.iter().map(|m| (format!(".{}.{}", file.package(), m.name()), m)))
        .collect()
}

#[test]
fn the_descriptor_set_holds_every_service_and_its_imports() {
    let set = descriptors();
    let services: BTreeMap<String, Vec<&str>> = set
        .file
        .iter()
        .flat_map(|file| file.service.iter().map(move |service| (file, service)))
        .map(|(file, service)| {
            let methods = service.method.iter().map(|method| method.name()).collect();
            (format!("{}.{}", file.package(), service.name()), methods)
        })
        .collect();
    let expected: [(&str, &[&str]); 8] = [
        (
            "shopstream.admin.v1.AdminService",
            &[
                "VerifyReadModels",
                "ListParkedAggregates",
                "ExplainParkedAggregate",
                "RetryParkedAggregate",
                "SkipParkedEvent",
                "ListSkippedEvents",
                "DescribeNode",
            ],
        ),
        (
            "shopstream.catalog.v1.ProductService",
            &["CreateProduct", "GetProduct", "UpdateProduct", "DeleteProduct", "SetPrice"],
        ),
        ("shopstream.event.v1.EventService", &["Read", "GetLogStatus"]),
        (
            "shopstream.inventory.v1.InventoryService",
            &["GetStock", "UpdateStock", "ReserveStock", "ReleaseStock", "StreamStockUpdates"],
        ),
        (
            "shopstream.order.v1.OrderService",
            &[
                "CreateOrder",
                "GetOrder",
                "CancelOrder",
                "UpdateOrderStatus",
                "GetUserOrders",
                "ProcessBulkOrders",
                "StreamOrderUpdates",
                "TrackOrder",
            ],
        ),
        (
            "shopstream.payment.v1.PaymentService",
            &["ProcessPayment", "CapturePayment", "RefundPayment", "GetPayment", "RecordProviderSignal"],
        ),
        ("shopstream.process.v1.ProcessService", &["ListStoppedProcesses", "ResumeProcess", "SettleProcess"]),
        ("shopstream.returns.v1.ReturnService", &["CreateReturn", "GetReturn"]),
    ];
    let expected = expected.map(|(service, methods)| (service.to_owned(), methods.to_vec())).into();
    assert_eq!(services, expected);

    let files: BTreeSet<&str> = set.file.iter().map(|file| file.name()).collect();
    for file in &set.file {
        for import in &file.dependency {
            assert!(
                files.contains(import.as_str()),
                "{} imports {import}, which is not in the set",
                file.name()
            );
        }
    }
}

/// What is too much is not looked through for an answer that nobody would read.
#[test]
fn validation_stops_at_as_many_complaints_as_an_answer_names() {
    let many = CreateOrderRequest { lines: vec![line(0); 1_000], ..order() };
    let found = violations(&many);
    assert_eq!(found.len(), 20);
    assert_eq!(found.last().map(|(field, _)| &**field), Some("lines[19].quantity"));
    let held = ReservationLine { sku: "85123A".into(), location: "main".into(), quantity: 0 };
    let many = ReserveStockRequest { request_id: "r".into(), lines: vec![held; 1_000], ..Default::default() };
    assert_eq!(violations(&many).len(), 20);
}

/// Field names and numbers are the same everywhere, so that one layer can serve all commands and all queries.
#[test]
fn every_request_is_a_command_or_a_query() {
    let set = descriptors();
    let messages = messages(&set);
    let has = |message: &str, name: &str, number: i32| {
        messages[message].field.iter().any(|field| field.name() == name && field.number() == number)
    };
    let mut neither = Vec::new();
    for method in set.file.iter().flat_map(|file| &file.service).flat_map(|service| &service.method) {
        let (input, output) = (method.input_type(), method.output_type());
        let command = has(input, "request_id", 1)
            && has(input, "expected_version", 2)
            && has(output, "version", 1)
            && has(output, "position", 2);
        let query = has(input, "min_position", 1);
        assert!(!(command && query), "{input}");
        if !command && !query {
            neither.push(method.name());
        }
    }
    // What operators ask, the requests about the log itself, and a stream of commands.
    assert_eq!(
        neither,
        [
            "VerifyReadModels",
            "ListParkedAggregates",
            "ExplainParkedAggregate",
            "RetryParkedAggregate",
            "SkipParkedEvent",
            "ListSkippedEvents",
            "DescribeNode",
            "Read",
            "GetLogStatus",
            "ProcessBulkOrders"
        ]
    );
}

#[test]
fn there_is_no_floating_point_and_no_map_on_the_wire() {
    let set = descriptors();
    for (name, message) in messages(&set) {
        for field in &message.field {
            assert!(!matches!(field.r#type(), Type::Double | Type::Float), "{name}.{}", field.name());
        }
        // A map would arrive as a nested entry message; it is slow to decode and has no order to hash by.
        assert!(message.nested_type.is_empty(), "{name}");
    }
}
