//! What one client may take: the others, and whoever asks how the node is, notice nothing.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut, Bytes};
use futures::future::join_all;
use shopstream_proto::catalog::v1::CreateProductRequest;
use shopstream_proto::event::v1::event_service_client::EventServiceClient;
use shopstream_proto::event::v1::{GetLogStatusRequest, ReadRequest};
use shopstream_proto::inventory::v1::ReserveStockResponse;
use shopstream_server::client::until;
use shopstream_tests::{Refusal, Setup, TestShop, refusal};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::codec::{Codec, CompressionEncoding, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstDecoder;

/// A neighbour's call that takes longer was not let through.
const DEADLINE: Duration = Duration::from_secs(10);
/// As long as it may take where nobody but a few requests is in its way.
const SOON: Duration = Duration::from_secs(2);

/// Somebody else, on another address of this machine.
async fn neighbour(shop: &TestShop) -> Result<EventServiceClient<Channel>> {
    let endpoint =
        Endpoint::from_shared(shop.url())?.local_address(Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))));
    Ok(EventServiceClient::new(endpoint.connect().await?))
}

async fn call(client: &mut EventServiceClient<Channel>) -> Result<(), Status> {
    call_within(DEADLINE, client).await
}

async fn call_within(deadline: Duration, client: &mut EventServiceClient<Channel>) -> Result<(), Status> {
    let mut request = Request::new(GetLogStatusRequest::default());
    request.set_timeout(deadline);
    client.get_log_status(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_shut_nobody_out() -> Result<()> {
    let start = || TestShop::start_with(Setup::default().with_descriptors(1024));
    let shop = tokio::task::spawn_blocking(start).await?;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(shop.door()).await?);
    }
    call(&mut neighbour(&shop).await?).await?;
    ensure!(shop.ready().0, "{:?}", shop.ready());
    let refused = "shopstream_refused_total{what=\"connection\",why=\"connections_of_peer\"}";
    until(async || Ok(told(&shop, "/metrics").await?.contains(refused).then_some(()))).await?;
    until(async || Ok(shop.complaints().contains("refused or ended at a bound").then_some(()))).await?;
    // The silent ones are closed, and then there is room for whoever is on the same address.
    let again = async || {
        let channel = Endpoint::from_shared(shop.url())?.connect().await;
        let Ok(channel) = channel else { return Ok(None) };
        Ok(call(&mut EventServiceClient::new(channel)).await.ok())
    };
    until(again).await?;
    drop(silent);
    tokio::task::spawn_blocking(|| shop.finish()).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_port_of_the_tools_shut_nobody_out() -> Result<()> {
    let shop = tokio::task::spawn_blocking(TestShop::start).await?;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(tools(&shop)).await?);
    }
    for _ in 0..10 {
        // More come while tools ask, and all are there at the same time.
        silent.push(TcpStream::connect(tools(&shop)).await?);
        let ready = timeout(SOON, told(&shop, "/health/ready")).await.context("health does not answer")??;
        ensure!(ready.starts_with("HTTP/1.0 200"), "{ready}");
    }
    let refused = "shopstream_refused_total{what=\"connection\",why=\"admin\"}";
    ensure!(told(&shop, "/metrics").await?.contains(refused), "all of them may stay");
    drop(silent);
    tokio::task::spawn_blocking(|| shop.finish()).await?;
    Ok(())
}

/// Where metrics and health are.
fn tools(shop: &TestShop) -> String {
    shop.metrics_url().trim_start_matches("http://").trim_end_matches("/metrics").to_owned()
}

async fn told(shop: &TestShop, path: &str) -> Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(tools(shop)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Sends bytes as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ReserveStockResponse;
    type Encoder = Self;
    type Decoder = ProstDecoder<ReserveStockResponse>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> ProstDecoder<ReserveStockResponse> {
        ProstDecoder::default()
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

/// Four kilobytes each on the wire, two million lines each.
#[tokio::test(flavor = "multi_thread")]
async fn four_kilobytes_do_not_stop_a_node() -> Result<()> {
    let shop = tokio::task::spawn_blocking(TestShop::start).await?;
    let channel = Endpoint::from_shared(shop.url())?.connect().await?;
    let body = Bytes::from([&[0x0a, 2, b'a', b'b'][..], &[0x22, 0].repeat(2_000_000)].concat());
    let hostile = async || {
        let mut grpc = tonic::client::Grpc::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/shopstream.inventory.v1.InventoryService/ReserveStock");
        grpc.unary(Request::new(body.clone()), path, Raw).await
    };
    let over = Cell::new(false);
    let attack = async {
        let answers = join_all((0..8).map(|_| hostile())).await;
        over.set(true);
        answers
    };
    let mut neighbour = neighbour(&shop).await?;
    let calls = async {
        let mut called = 0;
        while called < 50 || !over.get() {
            call_within(SOON, &mut neighbour).await?;
            called += 1;
        }
        Ok::<_, Status>(())
    };
    let (attacked, called) = tokio::join!(attack, calls);
    called?;
    for answer in attacked {
        let refused = refusal(answer);
        ensure!(refused == Refusal::new(Code::InvalidArgument, "REQUEST_INVALID", "lines"), "{refused:?}");
    }
    tokio::task::spawn_blocking(|| shop.finish()).await?;
    Ok(())
}

/// Megabytes that are resident.
fn resident(shop: &TestShop) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", shop.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// Each of a thousand such streams once kept nine megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_that_nobody_reads_hold_little() -> Result<()> {
    let shop = tokio::task::spawn_blocking(TestShop::start).await?;
    let client = shop.client().await;
    for i in 0..300 {
        let request = CreateProductRequest {
            request_id: format!("long-{i}"),
            title: "long".into(),
            description: "d".repeat(10_000),
            draft: true,
            ..CreateProductRequest::default()
        };
        client.shop().products.create_product(request).await?;
    }
    let before = resident(&shop)?;
    let channel = Endpoint::from_shared(shop.url())?.initial_stream_window_size(65_535).connect().await?;
    let open = |follow| {
        let mut log = EventServiceClient::new(channel.clone());
        async move {
            let mut request = Request::new(ReadRequest { follow, ..ReadRequest::default() });
            request.set_timeout(Duration::from_secs(60));
            log.read(request).await
        }
    };
    let opened = join_all((0..1_000).map(|i| open(i % 2 == 0))).await;
    let (unread, refused): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    ensure!(unread.len() <= 64, "{} are open", unread.len());
    for refused in refused {
        let refused = refusal(refused);
        ensure!(refused.code == Code::ResourceExhausted, "{refused:?}");
    }
    let held = resident(&shop)?.saturating_sub(before);
    ensure!(held < 100, "{held} MB");
    call(&mut neighbour(&shop).await?).await?;
    drop(unread);
    tokio::task::spawn_blocking(|| shop.finish()).await?;
    Ok(())
}
