//! What a read of the log sends.

use shopstream_domain::{StreamId, Timestamp};
use shopstream_eventlog::{CommandId, Commit, CommitRecord, EventData, Position};
use tonic::Code;

use super::read::event;
use super::*;
use crate::testing::{NOW, refusal};

fn commit(stream: &str, partition: u16, offset: Offset, types: &[&str]) -> CommitRecord {
    let stream: StreamId = stream.parse().expect("a stream");
    let event = |name: &&str| EventData {
        event_type: (*name).to_owned(),
        schema_version: 1,
        payload: b"{}".to_vec().into(),
    };
    let commit = Commit {
        stream,
        first_version: 3,
        command_id: CommandId::derive(&["test"]),
        body_hash: 0x0102_0304_0506_0708,
        actor: "checkout".to_owned(),
        correlation_id: "ord_1".to_owned(),
        causation_id: String::new(),
        traceparent: String::new(),
        recorded_at: NOW,
        effective_at: Some(Timestamp::from_seconds(5)),
        events: types.iter().map(event).collect(),
    };
    CommitRecord { position: Position { partition, offset }, epoch: 1, commit }
}

/// Read.
#[test]
fn read_shows_every_field_of_an_event() {
    let record = commit("acme/order/ord_1", 2, 7, &["OrderSubmitted", "OrderConfirmed"]);
    let shown = event(&record, 1);
    assert_eq!((shown.stream_id.as_str(), shown.version, shown.index_in_record), ("acme/order/ord_1", 4, 1));
    assert_eq!(shown.event_type, "OrderConfirmed");
    assert_eq!(shown.body_hash.to_vec(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(shown.effective_time.map(|time| time.seconds), Some(5));
    assert_eq!(shown.payload_json, "{}");
}

#[test]
fn filters_are_joined_by_and_their_values_by_or() {
    let record = commit("acme/order/ord_1", 0, 7, &["OrderSubmitted", "OrderConfirmed"]);
    let passed = |request: ReadRequest| Filter::of(&request).events(&record).count();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(passed(ReadRequest::default()), 2);
    assert_eq!(passed(ReadRequest { tenants: names(&["acme", "x"]), ..Default::default() }), 2);
    assert_eq!(passed(ReadRequest { tenants: names(&["x"]), ..Default::default() }), 0);
    assert_eq!(passed(ReadRequest { event_types: names(&["OrderConfirmed"]), ..Default::default() }), 1);
    let both = ReadRequest {
        stream_types: names(&["stock"]),
        event_types: names(&["OrderConfirmed"]),
        ..Default::default()
    };
    assert_eq!(passed(both), 0);
    assert_eq!(passed(ReadRequest { stream_ids: names(&["acme/order/ord_1"]), ..Default::default() }), 2);
}

#[test]
fn a_log_has_one_name() {
    assert_eq!(check_log(""), Ok(()));
    assert_eq!(check_log("core"), Ok(()));
    assert_eq!(refusal(check_log("behaviour")).0, Code::NotFound);
}

/// GetLogStatus.
#[test]
fn get_log_status_says_why_a_partition_does_not_serve() {
    let status = |state| PartitionStatus { partition: 3, state, epoch: 2, confirmed: 40 };
    let shown = |state| partition_status(&status(state), 40, None, None);
    let halted = shown(PartitionState::Halted { cause: "a hole".to_owned() });
    assert_eq!((halted.state, halted.reason.as_str()), (wire::PartitionState::Halted.into(), "a hole"));
    let serving = shown(PartitionState::Serving);
    assert_eq!(
        (serving.partition, serving.epoch, serving.end_offset, serving.reason.as_str()),
        (3, 2, 40, "")
    );
    let holder = Location { epoch: 7, node: "b".to_owned(), address: "h:1".to_owned() };
    let lease = LeaseSeen { holder: holder.clone(), left: std::time::Duration::from_millis(2_500) };
    let elsewhere = partition_status(&status(PartitionState::Elsewhere), 40, Some(holder), Some(lease));
    assert_eq!(
        (elsewhere.state(), elsewhere.owner.as_str(), elsewhere.epoch, elsewhere.lease_ms),
        (wire::PartitionState::Forwarding, "b at h:1", 7, 2_500)
    );
    assert_eq!(shown(PartitionState::Elsewhere).state(), wire::PartitionState::Released);
}
