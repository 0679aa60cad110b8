//! The attacks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use prost::Message;
use shopstream_proto::catalog::v1::{CreateProductRequest, NewVariant};
use shopstream_proto::event::v1::ReadRequest;
use shopstream_proto::inventory::v1::{ReserveStockRequest, StreamStockUpdatesRequest};
use shopstream_proto::order::v1::{
    CreateOrderRequest, GetOrderRequest, OrderStatus, ProcessBulkOrdersRequest,
};
use shopstream_proto::r#type::v1::Position;
use shopstream_tests::requests;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Ground, Scenario};
use crate::fuzz::call::{Extra, Outcome, Wire, frame};
use crate::fuzz::wire::Method;

pub(super) type Attack = for<'a> fn(&'a Ground) -> BoxFuture<'a, Result<()>>;

/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// By when a connection on which nothing comes is closed.
const CLOSED: Duration = Duration::from_secs(75);
/// Where they come from who say nothing: another address of this machine.
const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)), 0);
/// Within this time a stream is open or refused: those that want to read the log wait for a turn, 20 s at most.
const OPENED: Duration = Duration::from_secs(25);
/// Beyond everything.
const NEVER: i64 = 1 << 40;

/// All of them, the quick ones first.
pub(super) fn all() -> Vec<Scenario> {
    let scenario =
        |name, says, growth_max, attack| Scenario { name, says, growth_max, descriptors: None, attack };
    vec![
        scenario("nul", "a title with a NUL in it, then orders of others", 300_000, |ground| {
            Box::pin(nul(ground))
        }),
        scenario(
            "bombs",
            "four requests of 4 kB that unfold to two million list entries",
            600_000,
            |ground| Box::pin(bombs(ground)),
        ),
        scenario(
            "occupants",
            "2,048 queries for a position that never comes, each with an hour",
            300_000,
            |ground| Box::pin(occupants(ground)),
        ),
        scenario("tenants", "500 calls of a tenant of 4,000 characters", 300_000, |ground| {
            Box::pin(tenants(ground))
        }),
        scenario("verify", "six comparisons of all read models at once", 600_000, |ground| {
            Box::pin(verify(ground))
        }),
        scenario("reset", "10,000 calls that are taken back at once", 300_000, |ground| {
            Box::pin(reset(ground))
        }),
        scenario("unread", "1,000 readers of the log that read nothing", 400_000, |ground| {
            Box::pin(unread(ground))
        }),
        scenario("idle", "1,000 streams of updates on which nothing happens", 200_000, |ground| {
            Box::pin(idle(ground))
        }),
        scenario("bulk", "four bulk streams of orders for what nobody sells", 600_000, |ground| {
            Box::pin(bulk(ground))
        }),
        scenario("silent", "2,000 connections on which nothing is said", 300_000, |ground| {
            Box::pin(silent(ground))
        }),
        Scenario {
            descriptors: Some(1024),
            ..scenario("silent-1024", "the same, and the node has 1,024 descriptors", 300_000, |ground| {
                Box::pin(silent(ground))
            })
        },
        scenario("slow", "300 connections that say a byte a second", 300_000, |ground| {
            Box::pin(slow(ground))
        }),
    ]
}

/// What an attack needs to find there.
pub(super) async fn prepare(ground: &Ground, name: &str) -> Result<()> {
    if name == "unread" {
        // Enough for every reader to have more than a connection takes unread.
        let orders = (0..if ground.short { 500 } else { 5_000 }).map(|n| CreateOrderRequest {
            draft: true,
            lines: vec![requests::line("CALM-1", 1); 20],
            ..requests::order(&format!("ord_log_{n}"), "CALM-1", 1, "tok_log")
        });
        let messages: Vec<_> = orders.collect();
        let messages: Vec<_> =
            messages.chunks(100).map(|some| ProcessBulkOrdersRequest { orders: some.to_vec() }).collect();
        ground.client.shop().orders.process_bulk_orders(tokio_stream::iter(messages)).await?;
    }
    Ok(())
}

fn method(ground: &Ground, name: &str) -> Result<Method> {
    let found = ground.schema.methods.iter().find(|method| method.path.ends_with(&format!("/{name}")));
    found.cloned().with_context(|| format!("no method {name}"))
}

fn timed(timeout: &str) -> Extra {
    vec![("grpc-timeout", timeout.as_bytes().to_vec())]
}

async fn nul(ground: &Ground) -> Result<()> {
    let wire = Wire::connect(&ground.url, 1).await?;
    let variant = |n: usize, title: &str| NewVariant {
        sku: format!("NUL-{n}"),
        title: title.into(),
        list_price: Some(requests::money(500)),
    };
    for (n, (title, variant_title)) in
        [("a\0b", "good"), ("good", "a\0b"), ("\0", "\0")].into_iter().enumerate()
    {
        let product = CreateProductRequest {
            request_id: format!("nul-{n}"),
            product_id: Some(format!("prd_nul_{n}")),
            title: title.into(),
            description: "a\0b".into(),
            variants: vec![variant(n, variant_title)],
            ..CreateProductRequest::default()
        };
        let extra = vec![("shopstream-tenant", b"evil".to_vec())];
        let frames = frame(&product.encode_to_vec(), false);
        let heard = wire.call(0, &method(ground, "CreateProduct")?, frames, false, &extra).await;
        ground.told.hear(&heard.outcome);
    }
    let after = async {
        requests::sell(&ground.client, "AFTER-NUL", 10).await?;
        requests::place(&ground.client, requests::order("ord_after_nul", "AFTER-NUL", 1, "tok_nul")).await
    };
    let order = timeout(Duration::from_secs(30), after).await.context("nobody else can order any more")??;
    ensure!(order.status() == OrderStatus::Confirmed, "an order of others is {:?}", order.status());
    Ok(())
}

async fn bombs(ground: &Ground) -> Result<()> {
    let wire = Wire::connect(&ground.url, 4).await?;
    let mut body = ReserveStockRequest { request_id: "ab".into(), ..Default::default() }.encode_to_vec();
    body.extend([0x22, 0x00].repeat(2_000_000));
    let (frames, reserve) = (frame(&body, true), method(ground, "ReserveStock")?);
    // One after the other on each of four connections.
    let each = (0..4).map(|turn| {
        let (wire, frames, reserve) = (&wire, &frames, &reserve);
        async move {
            for _ in 0..ground.many(20) {
                let heard = wire.call(turn, reserve, frames.clone(), true, &timed("60S")).await;
                ground.told.hear(&heard.outcome);
            }
        }
    });
    join_all(each).await;
    Ok(())
}

async fn occupants(ground: &Ground) -> Result<()> {
    let wire = Wire::connect(&ground.url, 4).await?;
    let query = GetOrderRequest {
        min_position: vec![Position {
            log: "core".into(),
            partition: 0,
            offset: NEVER,
            ..Position::default()
        }],
        order_id: "ord_nobody".into(),
    };
    // Also what cannot be told from a position that is about to come.
    let soon = GetOrderRequest {
        min_position: vec![Position {
            log: "core".into(),
            partition: 1,
            offset: 1_000_000,
            ..Position::default()
        }],
        ..query.clone()
    };
    let get = method(ground, "GetOrder")?;
    let mut waiting = JoinSet::new();
    for n in 0..ground.many(2_048).max(1_100) {
        let (wire, get, told) = (wire.clone(), get.clone(), ground.told.clone());
        let frames = frame(&if n % 2 == 0 { query.encode_to_vec() } else { soon.encode_to_vec() }, false);
        waiting.spawn(async move {
            match wire.open(n, &get, frames, &timed("1H")).await {
                Ok(_) => told.hear(&Outcome::Done),
                Err(outcome) => told.hear(&outcome),
            }
        });
    }
    sleep(ground.lasting(Duration::from_secs(15))).await;
    let still = std::iter::from_fn(|| waiting.try_join_next()).count();
    ground.told.note(format!("closed by the attacker while it still waited, answered before: {still}"));
    waiting.abort_all();
    Ok(())
}

async fn tenants(ground: &Ground) -> Result<()> {
    let wire = Wire::connect(&ground.url, 1).await?;
    let get = method(ground, "GetOrder")?;
    let frames =
        frame(&GetOrderRequest { order_id: "ord_x".into(), ..Default::default() }.encode_to_vec(), false);
    for n in 0..ground.many(500) {
        let tenant = [b"t".repeat(4_000), n.to_string().into_bytes()].concat();
        let heard = wire.call(n, &get, frames.clone(), false, &vec![("shopstream-tenant", tenant)]).await;
        ground.told.hear(&heard.outcome);
        ensure!(heard.trailers <= 8 * 1024, "an error of {} bytes, more than clients take", heard.trailers);
    }
    Ok(())
}

async fn verify(ground: &Ground) -> Result<()> {
    let wire = Wire::connect(&ground.url, 6).await?;
    let verify = Method { server_streaming: false, ..method(ground, "VerifyReadModels")? };
    let none = Extra::new();
    let each = (0..6).map(|turn| wire.call(turn, &verify, frame(&[], false), false, &none));
    join_all(each).await.iter().for_each(|heard| ground.told.hear(&heard.outcome));
    Ok(())
}

async fn reset(ground: &Ground) -> Result<()> {
    let create = method(ground, "CreateOrder")?;
    let per_connection = ground.many(10_000) / 8;
    let mut attackers = JoinSet::new();
    for turn in 0..8 {
        let wire = Wire::connect(&ground.url, 1).await?;
        let (create, told) = (create.clone(), ground.told.clone());
        attackers.spawn(async move {
            let none = Extra::new();
            for n in 0..per_connection {
                let order = CreateOrderRequest {
                    draft: true,
                    ..requests::order(&format!("ord_reset_{turn}_{n}"), "CALM-1", 1, "tok_reset")
                };
                let frames = frame(&order.encode_to_vec(), false);
                // Long enough to be sent, too short to be answered.
                match timeout(Duration::from_micros(500), wire.open(0, &create, frames, &none)).await {
                    Ok(Ok(_)) => told.hear(&Outcome::Done),
                    Ok(Err(outcome)) => told.hear(&outcome),
                    Err(_) => told.note("closed by the attacker".to_owned()),
                }
            }
        });
    }
    while let Some(ended) = attackers.join_next().await {
        ended?;
    }
    Ok(())
}

/// Opens so many streams at once and holds them for a while, unread.
async fn hold(ground: &Ground, wire: Wire, method: Method, message: Vec<u8>, count: usize) -> Result<()> {
    let timing = timed("1H");
    let open = |turn| timeout(OPENED, wire.open(turn, &method, frame(&message, false), &timing));
    let opened = join_all((0..count).map(open)).await;
    let mut held = Vec::new();
    for stream in opened {
        match stream {
            Ok(Ok(body)) => {
                ground.told.hear(&Outcome::Done);
                held.push(body);
            }
            Ok(Err(outcome)) => ground.told.hear(&outcome),
            Err(_) => ground.told.hear(&Outcome::Late),
        }
    }
    sleep(ground.lasting(Duration::from_secs(30))).await;
    Ok(())
}

async fn unread(ground: &Ground) -> Result<()> {
    let wire = Wire::unread(&ground.url, 4).await?;
    let read = ReadRequest { follow: true, ..ReadRequest::default() };
    hold(ground, wire, method(ground, "Read")?, read.encode_to_vec(), ground.many(1_000)).await
}

async fn idle(ground: &Ground) -> Result<()> {
    let wire = Wire::connect(&ground.url, 4).await?;
    let updates = StreamStockUpdatesRequest { skus: vec!["CALM-1".into()], ..Default::default() };
    let count = ground.many(1_000);
    hold(ground, wire, method(ground, "StreamStockUpdates")?, updates.encode_to_vec(), count).await
}

async fn bulk(ground: &Ground) -> Result<()> {
    let count = ground.many(20_000);
    let each = (0..4).map(|stream| async move {
        let messages = (0..count / 100).map(move |part| ProcessBulkOrdersRequest {
            orders: (0..100)
                .map(|n| {
                    requests::order(&format!("ord_bad_{stream}_{part}_{n}"), "NOBODY-SELLS-THIS", 1, "tok")
                })
                .collect(),
        });
        let sent = ground.client.shop().orders.process_bulk_orders(tokio_stream::iter(messages)).await;
        ground.told.hear(&match sent {
            Ok(_) => Outcome::Done,
            Err(status) => Outcome::Refused(status),
        });
    });
    join_all(each).await;
    Ok(())
}

/// Waits until each of these connections is closed by the other side; answers how many were.
async fn closed(connections: Vec<TcpStream>, patience: Duration) -> usize {
    let begun = Instant::now();
    let each = connections.into_iter().map(|mut stream| async move {
        let left = patience.saturating_sub(begun.elapsed());
        let mut answer = [0; 4096];
        let ended = async { while stream.read(&mut answer).await.is_ok_and(|count| count > 0) {} };
        timeout(left, ended).await.is_ok()
    });
    join_all(each).await.into_iter().filter(|closed| *closed).count()
}

async fn silent(ground: &Ground) -> Result<()> {
    let (mut held, mut refused, count) = (Vec::new(), 0, ground.many(2_000).max(1_100));
    for n in 0..count {
        let door = if n % 10 == 9 { ground.metrics } else { ground.door };
        // From an address of their own: a node takes only so many from each.
        let socket = TcpSocket::new_v4()?;
        socket.bind(STRANGER)?;
        match timeout(Duration::from_secs(2), socket.connect(door)).await {
            Ok(Ok(mut stream)) => {
                // Some say half of what would make them clients.
                if n % 3 == 0 {
                    let _: io::Result<_> = stream.write_all(&PREFACE[..12]).await;
                }
                held.push(stream);
            }
            _ => refused += 1,
        }
    }
    let opened = held.len();
    let begun = Instant::now();
    let closed = closed(held, CLOSED).await;
    ground.told.note(format!("closed {closed} of {opened} within {:?}, refused {refused}", begun.elapsed()));
    ensure!(
        closed * 100 >= opened * 99,
        "{} of {opened} silent connections are open after {CLOSED:?}",
        opened - closed
    );
    Ok(())
}

async fn slow(ground: &Ground) -> Result<()> {
    let bytes: Bytes = [PREFACE, SETTINGS, &[0, 4, 0, 1, 4, 0, 0, 0, 1], &[0; 1024]].concat().into();
    let lasting = ground.lasting(Duration::from_secs(120));
    let mut attackers = JoinSet::new();
    for n in 0..ground.many(300) {
        let stream = TcpStream::connect(ground.door).await;
        let (bytes, told) = (bytes.clone(), ground.told.clone());
        attackers.spawn(async move {
            let Ok(mut stream) = stream else {
                return told.note("closed before it said anything".to_owned());
            };
            // A third each: the preface, the first frames, a block of headers.
            let at_once = [0, PREFACE.len(), PREFACE.len() + SETTINGS.len() + 9][n % 3];
            let mut sent = stream.write_all(&bytes[..at_once]).await;
            let begun = Instant::now();
            for byte in &bytes[at_once..] {
                if sent.is_err() {
                    return told.note("closed while it wrote".to_owned());
                }
                if begun.elapsed() > lasting {
                    return told.note("closed by the attacker".to_owned());
                }
                sleep(Duration::from_secs(1)).await;
                sent = stream.write_all(&[*byte]).await;
            }
        });
    }
    while let Some(ended) = attackers.join_next().await {
        ended?;
    }
    Ok(())
}
