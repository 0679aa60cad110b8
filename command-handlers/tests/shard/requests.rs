//! What only clients' commands have: the memory of those that change nothing, and keys that stand for one operation.

use shopstream_command_handlers::{Key, Request};
use shopstream_domain::order::{Command as OrderCommand, OrderLine, Placement, PriceSource};
use shopstream_domain::requests::ClaimCommand;
use shopstream_domain::{Currency, CustomerId, OrderId, StreamId, model};

use super::*;

const OLD: u64 = 4711;
/// More than a few loads of two small streams take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// The same command, of a client.
fn asked(envelope: CommandEnvelope) -> CommandEnvelope {
    CommandEnvelope { request: Some(Request { old_body_hash: OLD, key: None }), ..envelope }
}

fn count(request: &str, found: i64) -> CommandEnvelope {
    asked(envelope(request, StockCommand::Count { found }))
}

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

/// A command of the key `k` on this stream; `order` is what the key alone would name, or the stream of the key.
fn under_key(
    on: &str,
    other: Option<&str>,
    meant: &str,
    command: impl Into<model::Command>,
) -> CommandEnvelope {
    let key = other.map(|other| Key { id: "k".into(), stream: stream(other) });
    CommandEnvelope {
        stream: stream(on),
        command_id: CommandId::derive(&["request", on, "k", "0"]),
        body_hash: body_hash(meant.as_bytes()),
        command: command.into(),
        request: Some(Request { old_body_hash: OLD, key }),
        ..receive("any", 1)
    }
}

const KEY: &str = "default/request/req_7";
const UNNAMED: &str = "default/order/ord_7";
const NAMED: &str = "default/order/ord_mine";

fn order(name: &str, key: Option<&str>) -> CommandEnvelope {
    let line = OrderLine {
        sku: sku(),
        product_id: None,
        location: LocationId::main(),
        quantity: Quantity::new(1).unwrap(),
        unit_price_minor: 100,
        price_source: PriceSource::Override,
        price_version: None,
    };
    let order_id = OrderId::new(stream(name).id()).unwrap();
    let customer = CustomerId::new("c1").unwrap();
    let placement = Placement::new(order_id, customer, Currency::GBP, vec![line], None).unwrap();
    under_key(name, key, "an order", OrderCommand::Draft(placement))
}

fn claim(target: &str, instead_of: Option<&str>) -> CommandEnvelope {
    let command = ClaimCommand::Claim { target: stream(target), instead_of: instead_of.map(stream) };
    CommandEnvelope {
        command_id: CommandId::derive(&["claim", target, "k"]),
        ..under_key(KEY, Some(UNNAMED), target, command)
    }
}

fn reused(answer: &Result<Reply, CommandError>, on: &str) {
    assert_eq!(*answer, Err(CommandError::RequestReused { stream: stream(on) }));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_command_changed_nothing_is_answered_the_same_at_any_later_state() {
    let shop = Shop::open().await;
    shop.send(receive("in-0", 10)).await.unwrap();
    let first = shop.send(count("count", 10)).await.unwrap();
    assert_eq!((first.version, first.outcome, first.repeated), (2, None, false));
    shop.send(receive("in-1", 5)).await.unwrap();
    let again = Reply { repeated: true, ..first };
    assert_eq!(shop.send(count("count", 10)).await.unwrap(), again);
    reused(&shop.send(count("count", 11)).await, "default/stock/85123A@main");
    for n in 2..100 {
        shop.send(receive(&format!("in-{n}"), 5)).await.unwrap();
    }
    assert_eq!(shop.send(count("count", 10)).await.unwrap(), again, "beyond what is remembered exactly");
    let shop = shop.restart().await;
    assert_eq!(shop.send(count("count", 10)).await.unwrap(), again);
    reused(&shop.send(count("count", 11)).await, "default/stock/85123A@main");
    // Nothing was lost: all of it can be held.
    let all = shop.send(reserve("all", "res_1", 10 + 99 * 5)).await.unwrap();
    assert_eq!(all.outcome, Some("StockReserved"));
}

#[tokio::test(start_paused = true)]
async fn the_first_command_of_a_stream_may_change_nothing() {
    let shop = Shop::open().await;
    let first = shop.send(count("count", 0)).await.unwrap();
    shop.send(receive("in", 5)).await.unwrap();
    let shop = shop.restart().await;
    assert_eq!(shop.send(count("count", 0)).await.unwrap(), Reply { repeated: true, ..first });
    assert_eq!(shop.send(reserve("all", "res_1", 5)).await.unwrap().outcome, Some("StockReserved"));
}

#[tokio::test(start_paused = true)]
async fn a_process_leaves_no_record_where_it_changes_nothing() {
    let shop = Shop::open().await;
    let received = shop.send(receive("in", 10)).await.unwrap();
    let idle = shop.send(envelope("count", StockCommand::Count { found: 10 })).await.unwrap();
    assert_eq!(idle, Reply { outcome: None, ..received });
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_the_hash_of_the_body_alone_is_recognised() {
    let shop = Shop::open().await;
    let written = CommandEnvelope { body_hash: OLD, ..receive("in", 10) };
    let first = shop.send(written).await.unwrap();
    assert_eq!(shop.send(asked(receive("in", 10))).await.unwrap(), Reply { repeated: true, ..first });
    let shop = shop.restart().await;
    assert_eq!(shop.send(asked(receive("in", 10))).await.unwrap(), Reply { repeated: true, ..first });
    // Not the other way round: what is written now says the method too.
    let now = shop.send(asked(receive("in-2", 10))).await.unwrap();
    assert_eq!(now.version, 2);
    let body_alone = CommandEnvelope { body_hash: OLD, request: None, ..receive("in-2", 10) };
    reused(&shop.send(body_alone).await, "default/stock/85123A@main");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_names_an_order_stands_for_nothing_else() {
    let shop = Shop::open().await;
    let first = shop.send(order(UNNAMED, Some(KEY))).await.unwrap();
    assert_eq!(first.version, 1);
    reused(&shop.send(claim(NAMED, None)).await, UNNAMED);
    let shop = shop.restart().await;
    reused(&shop.send(claim(NAMED, None)).await, UNNAMED);
    assert_eq!(
        shop.send(order(UNNAMED, Some(KEY))).await.unwrap(),
        Reply { repeated: true, ..first },
        "nothing was claimed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_claimed_names_no_order() {
    let shop = Shop::open().await;
    let first = shop.send(claim(NAMED, None)).await.unwrap();
    // Its own claim is met again, and leaves no second record.
    assert_eq!(shop.send(claim(NAMED, None)).await.unwrap().position, first.position);
    reused(&shop.send(order(UNNAMED, Some(KEY))).await, NAMED);
    let shop = shop.restart().await;
    reused(&shop.send(order(UNNAMED, Some(KEY))).await, NAMED);
    reused(&shop.send(claim("default/return/ret_1", None)).await, NAMED);
    assert_eq!(shop.send(order(NAMED, None)).await.unwrap().version, 1);
}

/// Not on a paused clock, which would stand still while two streams put each other out of memory for ever.
#[tokio::test]
async fn a_key_and_what_it_names_fit_into_memory_however_little_there_is() {
    let shop = Shop::with(Options { cache_bytes: 1, ..options() }).await;
    shop.send(claim(NAMED, None)).await.unwrap();
    let theirs = CommandEnvelope { command_id: CommandId::derive(&["theirs"]), ..order(UNNAMED, None) };
    shop.send(theirs).await.unwrap();
    let asked = shop.send(order(UNNAMED, Some(KEY)));
    reused(&tokio::time::timeout(PATIENCE, asked).await.expect("an answer"), NAMED);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_passed_on_where_its_command_can_never_be_carried_out_any_more() {
    let shop = Shop::open().await;
    shop.send(claim(NAMED, None)).await.unwrap();
    let void = |on: &str| under_key(on, None, "void", model::Command::Void(stream(on).kind()));
    shop.send(void(NAMED)).await.unwrap();
    shop.send(claim(UNNAMED, Some(NAMED))).await.unwrap();
    // A copy of the first command that was on its way all the time.
    reused(&shop.send(order(NAMED, None)).await, NAMED);
    let done = shop.send(order(UNNAMED, Some(KEY))).await.unwrap();
    assert_eq!(done.version, 1);
    reused(&shop.send(void(UNNAMED)).await, UNNAMED);
    let shop = shop.restart().await;
    reused(&shop.send(order(NAMED, None)).await, NAMED);
    assert_eq!(shop.send(order(UNNAMED, Some(KEY))).await.unwrap(), Reply { repeated: true, ..done });
    // Somebody else's order on that stream is none of its business.
    let theirs = CommandEnvelope { command_id: CommandId::derive(&["theirs"]), ..order(NAMED, None) };
    assert_eq!(shop.send(theirs).await.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn who_asks_whether_a_command_was_carried_out_leaves_no_trace() {
    let shop = Shop::open().await;
    let unknown = shop.send(order(NAMED, None).recalling()).await.unwrap();
    assert_eq!((unknown.version, unknown.repeated), (0, false));
    let first = shop.send(order(NAMED, None)).await.unwrap();
    assert_eq!((first.version, first.repeated), (1, false));
    assert_eq!(shop.send(order(NAMED, None).recalling()).await.unwrap(), Reply { repeated: true, ..first });
}

#[tokio::test(start_paused = true)]
async fn two_uses_of_one_key_at_the_same_moment_have_one_effect() {
    for round in 0..2 {
        let shop = Shop::open().await;
        let commands = vec![order(UNNAMED, Some(KEY)), claim(NAMED, None)];
        let commands = if round % 2 == 0 { commands } else { commands.into_iter().rev().collect() };
        let answers = shop.commands.submit_all(commands).await;
        let (done, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert_eq!((done.len(), refused.len()), (1, 1));
        assert!(matches!(refused[0], Err(CommandError::RequestReused { .. })), "{refused:?}");
    }
}
