//! A subscriber to the whole log that is disconnected all the time.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use shopstream_eventlog::Offset;
use shopstream_proto::event::v1::{PartitionRange, ReadRequest, ReadResponse};
use shopstream_server::client::Client;
use shopstream_tests::checkers::feeds::{Heard, Session, Subscription};
use tokio::sync::watch;

use crate::client::{position_of, with_actor};

/// Follows the log until `over`, then reads on to its end.
pub async fn follow(
    client: Client,
    partitions: usize,
    mut over: watch::Receiver<bool>,
) -> Result<Subscription> {
    let mut random = StdRng::seed_from_u64(12);
    let mut subscription = Subscription::default();
    let mut kept: Vec<Offset> = vec![0; partitions];
    loop {
        let last = *over.borrow_and_update();
        let mut session = Session { from: kept.clone(), heard: Vec::new(), kept };
        let messages = if last { u32::MAX } else { random.random_range(1..12) };
        let read = hear(&client, &mut session, !last, messages, random.random_bool(0.5));
        tokio::select! {
            // A broken connection ends the session like any other disconnect.
            _ = read => {}
            _ = over.wait_for(|over| *over), if !last => {}
        }
        kept = session.kept.clone();
        subscription.sessions.push(session);
        if last {
            return Ok(subscription);
        }
    }
}

/// One connection. `forget`: the last message is lost after it was heard and before its place was kept.
async fn hear(
    client: &Client,
    session: &mut Session,
    follow: bool,
    messages: u32,
    forget: bool,
) -> Result<(), tonic::Status> {
    let partitions = session.from.iter().enumerate().map(|(partition, offset)| PartitionRange {
        partition: partition as u32,
        from_offset: *offset as i64,
        to_offset: None,
    });
    let request = ReadRequest { partitions: partitions.collect(), follow, ..ReadRequest::default() };
    let mut request = with_actor(request);
    // No deadline: it lasts as long as we want.
    request.metadata_mut().remove("grpc-timeout");
    let mut answer = client.shop().events.read(request).await?.into_inner();
    for number in 1..=messages {
        let Some(message) = answer.message().await? else { break };
        take(session, message, !(forget && follow && number == messages));
    }
    Ok(())
}

fn take(session: &mut Session, message: ReadResponse, keep: bool) {
    session.heard.extend(message.events.into_iter().map(|event| Heard {
        position: position_of(&event.position.unwrap_or_default()),
        index: event.index_in_record as usize,
        stream: event.stream_id,
        version: event.version.unsigned_abs(),
    }));
    for next in message.next.into_iter().filter(|_| keep) {
        session.kept[next.partition as usize] = next.offset.unsigned_abs();
    }
}
