//! The log as a fresh reader sees it, and what of it must be the same wherever the log is kept.

use std::collections::BTreeMap;

use shopstream_proto::event::v1::{Event, ReadRequest};
use shopstream_server::client::Client;

/// What identifies a command that was carried out: its stream, its id, the hash of what was meant.
pub type Fingerprint = (String, String, Vec<u8>);

/// The event at every place of the log's streams, in the order of each stream.
///
/// # Panics
/// The log cannot be read, or a stream's versions are not 1, 2, 3 and so on, each once.
pub async fn read_log(client: &Client) -> BTreeMap<String, Vec<Event>> {
    let mut streams: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let mut answer = client.shop().events.read(ReadRequest::default()).await.expect("a log").into_inner();
    while let Some(batch) = answer.message().await.expect("a batch") {
        for event in batch.events {
            let stream = streams.entry(event.stream_id.clone()).or_default();
            assert_eq!(event.version, stream.len() as i64 + 1, "{} has a gap or a double", event.stream_id);
            stream.push(event);
        }
    }
    streams
}

/// The commands of a log, each once, with the names of the events that they caused.
///
/// # Panics
/// Two commits carry one command id in one stream: something was done twice.
pub fn fingerprints(streams: &BTreeMap<String, Vec<Event>>) -> BTreeMap<Fingerprint, Vec<String>> {
    let mut commands: BTreeMap<Fingerprint, Vec<String>> = BTreeMap::new();
    for event in streams.values().flatten() {
        let key = (event.stream_id.clone(), event.command_id.clone(), event.body_hash.to_vec());
        let names = commands.entry(key).or_default();
        let index = event.index_in_record as usize;
        assert_eq!(names.len(), index, "{} was carried out twice on {}", event.command_id, event.stream_id);
        names.push(event.event_type.clone());
    }
    commands
}
