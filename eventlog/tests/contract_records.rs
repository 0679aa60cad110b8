//! The bytes of every kind of record, which never change, and the digest of a log of them.
//!
//! `SHOPSTREAM_TEST_BLESS=1` writes the fixture of a new kind; it never overwrites one.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use shopstream_domain::{Timestamp, Version};
use shopstream_eventlog::record::{self, Body, Claim, Genesis, Header, Kind, Opened, Record, RecordError};
use shopstream_eventlog::{CommandId, Commit, Cursor, EventData, Fence, Fold, LogId, Verdict};
use uuid::Uuid;

const LOG: LogId = LogId(Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001));
const EPOCH: u64 = 3;
const NONCE: u64 = 0x0102_0304_0506_0708;

fn commit() -> Commit {
    let first_version: Version = 4;
    Commit {
        stream: "acme/order/ord_12".parse().unwrap(),
        first_version,
        command_id: CommandId(Uuid::from_u128(0x1234_5678_9abc_4def_8012_3456_789a_bcde)),
        body_hash: 0xfedc_ba98_7654_3210,
        actor: "clerk".into(),
        correlation_id: "ord_12".into(),
        causation_id: "acme/order/ord_12@3".into(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        recorded_at: Timestamp::from_micros(1_700_000_000_123_456),
        effective_at: Some(Timestamp::from_micros(1_699_999_999_000_000)),
        events: vec![
            EventData {
                event_type: "OrderConfirmed".into(),
                schema_version: 1,
                payload: Bytes::from_static(br#"{"at":1}"#),
            },
            EventData {
                event_type: "OrderShipped".into(),
                schema_version: 2,
                payload: Bytes::from_static(b"{}"),
            },
        ],
    }
}

/// A whole log: every kind once, each counting.
fn records() -> Vec<(&'static str, Bytes)> {
    let of = |kind, seq| Header { kind, epoch: EPOCH, nonce: NONCE, seq };
    let genesis = Genesis {
        log_id: Bytes::copy_from_slice(LOG.0.as_bytes()),
        generation: 2,
        partitions: 16,
        hash_version: 1,
    };
    let mut fold = Fold::new(Cursor::start(LOG, 0));
    fold.step(0, &Record::parse(&genesis.encode_record()).unwrap()).unwrap();
    let opened = Opened::new(fold.cursor().fence, fold.cursor().digest);
    let claim = Claim { node: "node-1".into(), address: "10.0.0.1:7000".into() };
    vec![
        ("genesis", genesis.encode_record()),
        ("claim", record::encode(of(Kind::Claim, 0), &claim)),
        ("opened", record::encode(of(Kind::Opened, 1), &opened)),
        ("commit", commit().encode_record(EPOCH, NONCE, 2)),
        ("barrier", record::encode(of(Kind::Barrier, 3), &())),
        ("release", record::encode(of(Kind::Release, 4), &())),
    ]
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/records").join(format!("{name}.hex"))
}

/// Lines of 32 bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.chunks(32).fold(String::new(), |mut text, line| {
        line.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text + "\n"
    })
}

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_bytes_of_a_record_never_change() {
    for (name, bytes) in records() {
        let path = fixture(name);
        if !path.exists() && std::env::var_os("SHOPSTREAM_TEST_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, hex(&bytes)).unwrap();
        }
        let stored = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(hex(&bytes), stored, "{name}: logs that exist hold the stored bytes");
    }
}

#[test]
fn stored_records_are_understood() {
    let mut fold = Fold::new(Cursor::start(LOG, 0));
    for (offset, (name, _)) in (0..).zip(records()) {
        let bytes = unhex(&fs::read_to_string(fixture(name)).unwrap());
        let record = Record::parse(&bytes).unwrap();
        assert_eq!(fold.step(offset, &record), Ok(Verdict::Counts), "{name}");
        match record.body {
            Body::Genesis(genesis) => assert_eq!((genesis.log(), genesis.partitions), (Some(LOG), 16)),
            Body::Claim(claim) => assert_eq!(claim.node, "node-1"),
            Body::Opened(opened) => assert_eq!((opened.epoch, opened.next_seq), (0, 0)),
            Body::Commit(body) => assert_eq!(Commit::decode(body).unwrap(), commit()),
            Body::Empty => {}
        }
    }
    assert_eq!(fold.cursor().fence, Fence::Released { epoch: EPOCH });
    // Owners write this digest into their logs and readers compare it: it never changes either.
    assert_eq!(format!("{:016x}", fold.cursor().digest), DIGEST);
}

const DIGEST: &str = "32ca5844b669167c";

#[test]
fn every_flipped_bit_is_noticed() {
    for (name, bytes) in records() {
        for bit in 0..bytes.len() * 8 {
            let mut flipped = BytesMut::from(&bytes[..]);
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse(&flipped.freeze()).is_err(), "{name}: bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Record::parse(&bytes.slice(..length)).is_err(), "{name}: cut to {length}");
        }
    }
}

#[test]
fn an_unknown_kind_or_format_is_said() {
    let barrier = record::encode(Header { kind: Kind::Barrier, epoch: 1, nonce: 1, seq: 1 }, &());
    let sealed = |at: usize, value: u8| {
        let mut bytes = BytesMut::from(&barrier[..]);
        bytes[at] = value;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        Record::parse(&bytes.freeze())
    };
    assert!(matches!(sealed(3, 7), Err(RecordError::Kind { kind: 7 })));
    assert!(matches!(sealed(3, 0), Err(RecordError::Kind { kind: 0 })));
    assert!(matches!(sealed(2, 2), Err(RecordError::Format { format: 2, .. })));
    assert!(matches!(sealed(0, b'X'), Err(RecordError::Format { .. })));
}

#[test]
fn a_commit_reads_back_as_it_was_written() {
    let bare = Commit { effective_at: None, actor: String::new(), ..commit() };
    for commit in [commit(), bare] {
        let record = Record::parse(&commit.encode_record(1, 2, 3)).unwrap();
        assert_eq!(record.header, Header { kind: Kind::Commit, epoch: 1, nonce: 2, seq: 3 });
        let Body::Commit(body) = record.body else { panic!("not a commit") };
        assert_eq!(Commit::decode(body).unwrap(), commit);
    }
    assert_eq!(commit().last_version(), 5);
}
