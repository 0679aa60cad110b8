//! Every state comes back as it was, and nothing that is not what was written is believed.

use std::fs;
use std::path::{Path, PathBuf};

use shopstream_domain::StreamKind;
use shopstream_eventlog::{Commit, EventData, Position};

use super::*;

/// The format, and what it made of the histories here. Where the second changes, the first has to.
const WRITTEN: (u32, u64) = (2, 16_459_017_543_291_755_021);

fn stream(kind: StreamKind) -> StreamId {
    let id = match kind {
        StreamKind::Product => "prd_1",
        StreamKind::Sku => "MUG",
        StreamKind::Price => "MUG.GBP",
        StreamKind::Stock => "MUG@main",
        StreamKind::Reservation => "res_1",
        StreamKind::Order => "ord_1",
        StreamKind::Checkout => "chk_1",
        StreamKind::Payment => "pay_1.1",
        StreamKind::Return => "ret_1",
        StreamKind::Request => "req_1",
    };
    format!("default/{}/{id}", kind.name()).parse().unwrap()
}

/// Every golden event of streams of this kind, one a commit, again and again: so many commits.
fn history(kind: StreamKind, commits: u64) -> Vec<CommitRecord> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../domain/fixtures").join(kind.context().name());
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let is_of = |path: &PathBuf, name: &str| path.file_name().unwrap().to_str().unwrap().starts_with(name);
    let golden: Vec<EventData> = Event::types(kind)
        .iter()
        .flat_map(|(name, version)| {
            let named = format!("{name}.v{version}.");
            let of_it = files.iter().filter(move |path| is_of(path, &named));
            of_it.map(|path| EventData {
                event_type: (*name).to_owned(),
                schema_version: *version,
                payload: fs::read(path).unwrap().into(),
            })
        })
        .collect();
    let commit = |(n, event): (u64, &EventData)| CommitRecord {
        position: Position { partition: 3, offset: 7 * n },
        epoch: 1,
        commit: Commit {
            stream: stream(kind),
            first_version: n,
            command_id: CommandId::derive(&[kind.name(), &n.to_string()]),
            body_hash: n,
            actor: "test".to_owned(),
            correlation_id: String::new(),
            causation_id: String::new(),
            traceparent: String::new(),
            recorded_at: Timestamp::from_seconds(1_700_000_000 + n as i64),
            effective_at: None,
            events: vec![event.clone()],
        },
    };
    (1..=commits).zip(golden.iter().cycle()).map(commit).collect()
}

fn folded(kind: StreamKind, history: &[CommitRecord]) -> Entry {
    let mut entry = Entry::empty(kind);
    history.iter().for_each(|record| entry.fold(record).unwrap());
    entry
}

fn snapshot(kind: StreamKind, commits: u64) -> Snapshot {
    let history = history(kind, commits);
    folded(kind, &history).snapshot(&stream(kind), history.last().unwrap()).unwrap()
}

/// The same bytes with a right checksum.
fn sealed(stream: &StreamId, mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(stream, &bytes[CHECKSUM..]);
    bytes[..CHECKSUM].copy_from_slice(&sum);
    bytes
}

#[test]
fn every_state_comes_back_as_it_was() {
    for kind in StreamKind::ALL {
        // More than are remembered exactly, and fewer.
        for commits in [1, 40, 300] {
            let history = history(kind, commits);
            let entry = folded(kind, &history);
            let (stream, last) = (stream(kind), history.last().unwrap());
            let snapshot = entry.snapshot(&stream, last).unwrap();
            assert_eq!((snapshot.from, snapshot.position), (commits, last.position));
            let back = Entry::believe(&stream, &snapshot.bytes, Some(last)).unwrap();
            assert_eq!(back.state, entry.state);
            assert_eq!((back.version, back.snapshotted, back.last_seq), (commits, commits, 0));
            assert_eq!(
                (back.last_offset, back.last_recorded_at),
                (entry.last_offset, entry.last_recorded_at)
            );
            assert!(back.remembered.recent().eq(entry.remembered.recent()));
            assert!(back.remembered.older().levels().eq(entry.remembered.older().levels()));
            assert_eq!(back.remembered.older().room(), entry.remembered.older().room());
            let said = read_snapshot(&stream, &snapshot.bytes).unwrap();
            assert!(history.iter().all(|record| said.remembers(record.commit.command_id)));
            assert!(!said.remembers(CommandId::derive(&["never"])));
        }
    }
}

/// An older program's snapshots would be taken for something else, if this one reads them otherwise.
#[test]
fn another_way_to_write_is_another_format() {
    let mut all = Vec::new();
    for kind in StreamKind::ALL {
        all.extend(&snapshot(kind, 200).bytes[HEAD..]);
    }
    let written = xxh3_64(&all);
    assert_eq!(
        (FORMAT, written),
        WRITTEN,
        "a state is folded or written in another way than before: raise FORMAT (which costs one reading of every long history), and put both numbers here"
    );
}

#[test]
fn a_wrong_byte_anywhere_is_noticed() {
    let snapshot = snapshot(StreamKind::Stock, 12);
    for at in 0..snapshot.bytes.len() {
        for bit in [0x01, 0x80] {
            let mut wrong = snapshot.bytes.to_vec();
            wrong[at] ^= bit;
            let read = Entry::read(&snapshot.stream, &wrong);
            assert_eq!(read.err(), Some(Distrust::Checksum), "byte {at}");
        }
        let short = Entry::read(&snapshot.stream, &snapshot.bytes[..at]);
        assert_eq!(short.err(), Some(Distrust::Checksum), "{at} bytes");
    }
}

#[test]
fn what_is_sealed_and_not_ours_is_ignored() {
    let snapshot = snapshot(StreamKind::Stock, 12);
    let stream = &snapshot.stream;
    let read = |bytes: Vec<u8>| Entry::read(stream, &sealed(stream, bytes)).err();
    assert_eq!(read(snapshot.bytes.to_vec()), None);

    let mut newer = snapshot.bytes.to_vec();
    newer[CHECKSUM..HEAD].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    assert_eq!(read(newer), Some(Distrust::Format));
    assert_eq!(read(snapshot.bytes[..HEAD].to_vec()), Some(Distrust::Content), "nothing in it");
    assert_eq!(read(snapshot.bytes[..CHECKSUM].to_vec()), Some(Distrust::Content), "not even a format");
    assert_eq!(read(snapshot.bytes[..100].to_vec()), Some(Distrust::Content), "half of it");

    let other: StreamId = "default/stock/CUP@main".parse().unwrap();
    assert_eq!(Entry::read(&other, &snapshot.bytes).err(), Some(Distrust::Checksum), "another stream's");
    let order = self::stream(StreamKind::Order);
    let of_stock = sealed(&order, snapshot.bytes.to_vec());
    assert_eq!(Entry::read(&order, &of_stock).err(), Some(Distrust::Content), "another kind's");
}

#[test]
fn the_journal_has_to_go_on_from_it() {
    let history = history(StreamKind::Stock, 12);
    let last = history.last().unwrap();
    let Snapshot { stream, bytes, .. } = snapshot(StreamKind::Stock, 12);
    let believed = |next: Option<&CommitRecord>| Entry::believe(&stream, &bytes, next).err();
    assert_eq!(believed(Some(last)), None);
    assert_eq!(believed(None), Some(Distrust::Journal), "an emptied journal");
    assert_eq!(believed(Some(&history[10])), Some(Distrust::Journal), "an earlier commit");
    let other = |change: fn(&mut CommitRecord)| {
        let mut record = last.clone();
        change(&mut record);
        believed(Some(&record))
    };
    for distrusted in [
        other(|record| record.position.offset += 1),
        other(|record| record.commit.command_id = CommandId::derive(&["another"])),
        other(|record| record.commit.body_hash += 1),
        other(|record| record.commit.first_version += 1),
        other(|record| record.commit.events.push(record.commit.events[0].clone())),
        other(|record| record.commit.recorded_at = Timestamp::from_seconds(1)),
    ] {
        assert_eq!(distrusted, Some(Distrust::Journal));
    }
}

#[test]
fn what_is_in_flight_is_in_no_snapshot() {
    let history = history(StreamKind::Stock, 3);
    let mut entry = folded(StreamKind::Stock, &history);
    let done = *entry.remembered.recent().next_back().unwrap();
    entry.remembered.push(Done { at: DoneAt::Seq(9), ..done });
    assert!(entry.snapshot(&stream(StreamKind::Stock), &history[2]).is_none());
}
