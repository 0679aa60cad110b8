//! What has hurt programs before: values for a field of each kind.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::wire::{Field, Kind, Place, Schema, Tree, Value};

/// More than a message may hold, in a list whose entries cost two bytes each.
const BOMB: usize = 2_000_000;

/// One way to spoil a field.
pub(crate) struct Spoilt {
    /// In a word or two.
    pub(crate) what: String,
    /// What stands there instead.
    pub(crate) values: Vec<Value>,
    /// What once stopped a shop: tried before anything else.
    pub(crate) is_worst: bool,
    /// Costs the client too: few at once.
    pub(crate) is_heavy: bool,
}

/// Values that are true somewhere else.
#[derive(Default)]
pub(crate) struct Strangers {
    /// Ids of every type, of this tenant and of others.
    pub(crate) ids: Vec<String>,
    /// Tokens of pages and streams, of every method.
    pub(crate) tokens: Vec<String>,
}

/// All ways to spoil the field at `place`; `present` is what a valid request holds there.
pub(crate) fn spoilt(
    schema: &Schema,
    place: &Place,
    present: Option<&Value>,
    strangers: &Strangers,
) -> Vec<Spoilt> {
    let field = &place.field;
    let mut all = Vec::new();
    for (what, value) in singles(schema, field, strangers) {
        let is_worst = what == "NUL";
        all.push(Spoilt { what, values: vec![value], is_worst, is_heavy: false });
    }
    let mut add = |what: &str, values, is_worst, is_heavy| {
        all.push(Spoilt { what: what.to_owned(), values, is_worst, is_heavy });
    };
    add("absent", Vec::new(), false, false);
    let good = present.cloned().unwrap_or_else(|| plain(&field.kind));
    let empty = Value::Blob(Vec::new());
    if field.is_list {
        for (what, times) in
            [("2 of it", 2), ("1001 of it", 1001), ("10^4 of it", 10_000), ("10^5 of it", 100_000)]
        {
            add(what, vec![good.clone().many(times)], false, times > 10_000);
        }
        add("10^5 empty entries", vec![empty.clone().many(100_000)], false, true);
        add("2*10^6 empty entries", vec![empty.many(BOMB)], true, true);
    } else {
        add("twice", vec![good.clone(), good], false, false);
    }
    // Another wire type than the field's.
    let other = match field.kind {
        Kind::Text | Kind::Blob | Kind::Message(_) => Value::Int(7),
        _ => Value::text("seven"),
    };
    add("another wire type", vec![other], false, false);
    all
}

fn plain(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Blob => Value::text("x"),
        Kind::Int | Kind::Bool | Kind::Enum(_) => Value::Int(1),
        Kind::Message(_) => Value::Message(Tree::default()),
    }
}

fn singles(schema: &Schema, field: &Field, strangers: &Strangers) -> Vec<(String, Value)> {
    match &field.kind {
        Kind::Text | Kind::Blob => texts(field, strangers),
        Kind::Int => named(INTS.iter().map(|(what, int)| (*what, Value::Int(*int as u64)))),
        Kind::Bool => named([0, 1, 2, u64::MAX].map(|int| ("a bool", Value::Int(int)))),
        Kind::Enum(name) => {
            let declared =
                schema.numbers(name).iter().map(|number| ("a declared enum", Value::Int(*number as u64)));
            let unknown = [-1_i64, 5, 55, i64::from(i32::MAX), i64::from(i32::MIN), 1 << 40];
            named(
                declared.chain(unknown.iter().map(|number| ("an unknown enum", Value::Int(*number as u64)))),
            )
        }
        Kind::Message(name) => messages(name),
    }
}

fn named(values: impl IntoIterator<Item = (&'static str, Value)>) -> Vec<(String, Value)> {
    values.into_iter().map(|(what, value)| (what.to_owned(), value)).collect()
}

const INTS: &[(&str, i64)] = &[
    ("0", 0),
    ("1", 1),
    ("-1", -1),
    ("the largest i64", i64::MAX),
    ("the smallest i64", i64::MIN),
    ("i64::MAX - 1", i64::MAX - 1),
    ("i32::MAX", i32::MAX as i64),
    ("i32::MIN", i32::MIN as i64),
    ("u32::MAX", u32::MAX as i64),
    ("2^32", 1 << 32),
    ("2^40", 1 << 40),
    ("2^53 + 1", (1 << 53) + 1),
    ("10^9 + 1", 1_000_000_001),
    ("65536", 65_536),
    ("999", 999),
];

fn messages(name: &str) -> Vec<(String, Value)> {
    let mut all = named([
        ("an empty message", Value::Message(Tree::default())),
        ("a truncated message", Value::Blob(vec![0x0a, 0x7f, 0x61])),
        ("no message", Value::Blob(vec![0xff; 9])),
        ("unknown fields", Value::Message(Tree(vec![(536_870_911, Value::text("x")), (99, Value::Int(1))]))),
        ("field number 0", Value::Blob(vec![0x00, 0x01])),
        (
            "a varint without end",
            Value::Blob(vec![0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
    ]);
    if name == "google.protobuf.Timestamp" {
        let times: [(&str, i64, i64); 10] = [
            ("year 0", -62_135_596_801, 0),
            ("year 1", -62_135_596_800, 0),
            ("2^63 seconds", i64::MAX, 999_999_999),
            ("-2^63 seconds", i64::MIN, 0),
            ("year 10000", 253_402_300_800, 0),
            ("the end of year 9999", 253_402_300_799, 999_999_999),
            ("2^55 seconds", 1 << 55, 0),
            ("nanos of -1", 1, -1),
            ("10^9 nanos", 1, 1_000_000_000),
            ("1970", 0, 1),
        ];
        all.extend(times.map(|(what, seconds, nanos)| {
            let fields = vec![(1, Value::Int(seconds as u64)), (2, Value::Int(nanos as u64))];
            (what.to_owned(), Value::Message(Tree(fields)))
        }));
    }
    all
}

fn texts(field: &Field, strangers: &Strangers) -> Vec<(String, Value)> {
    let mut all = named([
        ("an empty text", Value::text("")),
        ("NUL", Value::text("a\0b")),
        ("NUL", Value::text("\0")),
        ("one blank", Value::text(" ")),
        ("blanks around", Value::text("  x \t")),
        ("line breaks", Value::text("a\r\nset-cookie: b\n\nc")),
        ("right to left", Value::text("\u{202e}abc\u{2066}def\u{2069}")),
        ("combining", Value::text(format!("e{}", "\u{301}".repeat(200)))),
        ("4-byte", Value::text("𝒳🦀👩‍👩‍👧‍👦")),
        ("a path", Value::text("../../../../etc/passwd")),
        ("SQL", Value::text("'; DROP TABLE product_view; --")),
        ("SQL wildcards", Value::text("%_\\")),
        ("escape codes", Value::text("\x1b[2J\x1b]0;owned\x07")),
        ("C1 controls", Value::text("a\u{85}\u{9b}31mb")),
        ("DEL", Value::text("a\x7fb")),
        ("full-width digits", Value::text("１２３")),
        ("a mark of byte order", Value::text("\u{feff}x")),
        ("no character", Value::text("\u{fffe}\u{ffff}\u{10ffff}")),
        ("the mark of what cannot be read", Value::text("\u{fffd}")),
        ("line separators", Value::text("a\u{2028}b\u{2029}c")),
        ("a format", Value::text("%s%n{}{0}${x}{{7*7}}")),
        ("JSON", Value::text("{\"a\":\"\\u0000\\ud800\"}")),
        ("null", Value::text("null")),
        ("a number", Value::text("-1e309")),
        ("a slash", Value::text("default/order/ord_1")),
        ("an at sign", Value::text("A@main")),
        ("65 characters", Value::text("x".repeat(65))),
        ("129 characters", Value::text("x".repeat(129))),
        ("257 characters", Value::text("x".repeat(257))),
        ("301 characters", Value::text("x".repeat(301))),
        ("501 characters", Value::text("x".repeat(501))),
        ("4097 characters", Value::text("x".repeat(4097))),
        ("10001 4-byte characters", Value::text("🦀".repeat(10_001))),
        ("300 4-byte characters", Value::text("🦀".repeat(300))),
        ("a million characters", Value::text("x".repeat(1_000_000))),
        ("wrong UTF-8", Value::Blob(vec![b'a', 0xff, 0xfe])),
        ("half a character", Value::Blob("🦀".as_bytes()[..3].to_vec())),
        ("a surrogate", Value::Blob(vec![0xed, 0xa0, 0x80])),
        ("an overlong NUL", Value::Blob(vec![0xc0, 0x80])),
    ]);
    if field.name.ends_with("_id") || field.name.ends_with("_ids") {
        all.extend(strangers.ids.iter().map(|id| ("an id of something else".to_owned(), Value::text(id))));
        for prefix in ["prd_", "ord_", "pay_", "res_", "ret_", "chk_"] {
            all.push(("only a prefix".to_owned(), Value::text(prefix)));
            all.push(("a prefix and NUL".to_owned(), Value::text(format!("{prefix}\0"))));
        }
    }
    if field.name.ends_with("_token") {
        for token in &strangers.tokens {
            let half = &token[..token.len() / 2];
            let mut flipped = token.clone().into_bytes();
            if let Some(byte) = flipped.get_mut(token.len() / 3) {
                *byte = if *byte == b'A' { b'B' } else { b'A' };
            }
            all.push(("a token of something else".to_owned(), Value::text(token)));
            all.push(("half a token".to_owned(), Value::text(half)));
            all.push(("a forged token".to_owned(), Value::Blob(flipped)));
            all.push(("a token twice".to_owned(), Value::text(format!("{token}{token}"))));
        }
    }
    all
}

/// What can be wrong with the bytes of a whole request.
pub(crate) const BODIES: [&str; 11] = [
    "no bytes",
    "cut short",
    "random bytes",
    "a flipped bit",
    "bytes behind the end",
    "an unknown field",
    "groups in groups",
    "messages in messages",
    "a length beyond the end",
    "a length of 2^63",
    "zeros",
];

/// Spoils the bytes of a request so.
pub(crate) fn body(what: &str, good: Vec<u8>, chance: &mut StdRng) -> Vec<u8> {
    let mut bytes = good;
    match what {
        "no bytes" => bytes.clear(),
        "cut short" => {
            let length = bytes.len();
            bytes.truncate(if length > 1 { chance.random_range(1..length) } else { 0 });
        }
        "random bytes" => {
            let length = chance.random_range(1..200);
            bytes = (0..length).map(|_| chance.random()).collect();
        }
        "a flipped bit" => {
            let length = bytes.len();
            if length > 0 {
                bytes[chance.random_range(0..length)] ^= 1 << chance.random_range(0..8);
            }
        }
        "bytes behind the end" => bytes.extend_from_slice(&[0xff, 0x07]),
        "an unknown field" => bytes.extend(Tree(vec![(19_000, Value::text("x"))]).encode()),
        "groups in groups" => bytes.extend(std::iter::repeat_n(0xfb, 100_000)),
        "messages in messages" => {
            let mut inner = Tree::default();
            for _ in 0..500 {
                inner = Tree(vec![(1, Value::Message(inner))]);
            }
            bytes = inner.encode();
        }
        "a length beyond the end" => bytes.extend_from_slice(&[0x0a, 0xff, 0x7f, 0x61]),
        "a length of 2^63" => {
            bytes.extend_from_slice(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        }
        _ => bytes = vec![0; *[1, 2, 10_000].choose(chance).expect("some")],
    }
    bytes
}

/// The metadata of a call: names and values.
pub(crate) type Metadata = Vec<(&'static str, Vec<u8>)>;

/// What can be wrong with the metadata of a call, each with what is said of it.
pub(crate) fn metadata() -> Vec<(String, Metadata)> {
    let one = |what: &str, name: &'static str, value: &[u8]| (what.to_owned(), vec![(name, value.to_vec())]);
    let long = |count: usize| "x".repeat(count).into_bytes();
    let mut all = Vec::new();
    for name in ["shopstream-tenant", "shopstream-actor", "traceparent"] {
        for (what, value) in [
            ("empty", Vec::new()),
            ("4000 characters", long(4_000)),
            ("a slash", b"a/b".to_vec()),
            ("blanks", b" a b ".to_vec()),
            ("not ASCII", "é🦀".as_bytes().to_vec()),
            ("bytes", vec![0xff, 0xfe, 0x80]),
            ("SQL", b"'; DROP TABLE product_view; --".to_vec()),
            ("a path", b"../../etc".to_vec()),
            ("a process", b"process:checkout".to_vec()),
            ("a tab", b"a\tb".to_vec()),
        ] {
            all.push(one(&format!("{name}: {what}"), name, &value));
        }
        all.push((format!("{name}: twice"), vec![(name, b"fuzz".to_vec()), (name, b"other".to_vec())]));
        all.push((
            format!("{name}: the same twice"),
            vec![(name, b"fuzz".to_vec()), (name, b"fuzz".to_vec())],
        ));
    }
    let good = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    all.push(one("traceparent: a good one", "traceparent", good));
    for timeout in ["", "0S", "1n", "99999999H", "123456789S", "-1S", "1x", "S", "1", "5 S", "1e3S"] {
        all.push(one(&format!("grpc-timeout: {timeout:?}"), "grpc-timeout", timeout.as_bytes()));
    }
    let twice = vec![("grpc-timeout", b"5S".to_vec()), ("grpc-timeout", b"1H".to_vec())];
    all.push(("grpc-timeout: twice".to_owned(), twice));
    for encoding in ["br", "deflate", "gzip,gzip", "identity", ""] {
        all.push(one(&format!("grpc-encoding: {encoding:?}"), "grpc-encoding", encoding.as_bytes()));
    }
    all.push(one("unknown metadata, 3 kB", "x-any", &long(3_000)));
    all.push(one("unknown metadata, 15 kB", "x-any", &long(15_000)));
    all.push(one("metadata in bytes that are not base64", "x-any-bin", b"!!!"));
    all
}
