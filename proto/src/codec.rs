//! How messages come off the wire: their lists are counted before anything is made of them.
//!
//! A few kilobytes, compressed, are millions of elements. So a request's bytes are walked first, by the descriptors: a
//! list longer than its rule allows, or more elements than a message may have in all, is refused before the first of
//! them takes memory or is looked at. What is left is small, whatever was sent.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::LazyLock;

use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;

use crate::descriptors::{Field, IGNORE_ALWAYS, all_messages, requests};

/// The metadata key under which a status of [`BoundedCodec`] names the field that is wrong.
pub const FIELD_KEY: &str = "shopstream-field";

/// How many elements the lists of one request have in all.
pub const ELEMENTS_MAX: usize = 50_000;

/// How many elements a list has whose field has no rule of its own, such as the paths of a mask.
pub const LIST_MAX: u64 = 1_000;

/// Messages inside messages inside messages; what protobuf libraries allow.
const DEPTH_MAX: usize = 100;

/// Protobuf as gRPC has it, with requests bounded before they are decoded.
#[derive(Clone, Copy, Debug)]
pub struct BoundedCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for BoundedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for BoundedCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = PlainEncoder<T>;
    type Decoder = BoundedDecoder<U>;

    fn encoder(&mut self) -> PlainEncoder<T> {
        PlainEncoder(PhantomData)
    }

    fn decoder(&mut self) -> BoundedDecoder<U> {
        BoundedDecoder(PhantomData)
    }
}

/// Writes messages.
#[derive(Debug)]
pub struct PlainEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for PlainEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Reads messages; requests only within their bounds.
#[derive(Debug)]
pub struct BoundedDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for BoundedDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let size = bytes::Buf::remaining(buffer);
        let bytes = bytes::Buf::copy_to_bytes(buffer, size);
        check(&U::full_name(), &bytes)?;
        let message = U::decode(bytes);
        message.map(Some).map_err(|error| Excess::malformed(error.to_string()).into())
    }
}

/// Why a message is not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// The list, such as `orders[3].lines`; empty where the bytes are no such message at all.
    pub(crate) field: String,
    pub(crate) description: String,
}

impl Excess {
    fn malformed(detail: impl Into<String>) -> Self {
        Self { field: String::new(), description: format!("not a message of this method: {}", detail.into()) }
    }
}

impl From<Excess> for Status {
    fn from(excess: Excess) -> Self {
        let Excess { field, description } = excess;
        if field.is_empty() {
            return Self::invalid_argument(description);
        }
        let mut status = Self::invalid_argument(format!("{field}: {description}"));
        // Made of names of our own protos, so it is ASCII.
        if let Ok(field) = MetadataValue::try_from(field) {
            status.metadata_mut().insert(FIELD_KEY, field);
        }
        status
    }
}

/// Counts the lists of a message that is encoded in `bytes`. What is no request is let through: an answer is as long as
/// it is.
pub(crate) fn check(name: &str, bytes: &[u8]) -> Result<(), Excess> {
    match SHAPES.requests.get(name) {
        Some(shape) => Walk { elements: 0 }.message(*shape, bytes, true, &Path::Root, DEPTH_MAX),
        None => Ok(()),
    }
}

/// What the walk has to know of messages.
struct Shapes {
    all: Vec<HashMap<u32, Shape>>,
    requests: HashMap<String, usize>,
}

/// A field that is worth a look: a list, or a message.
struct Shape {
    name: String,
    /// How many elements at most; `None`: no list.
    max: Option<u64>,
    /// The elements of a list of numbers may be packed into one field.
    is_packable: bool,
    message: Option<usize>,
    /// Its elements are checked each for itself, later: a bad one is not an error of the whole.
    stands_apart: bool,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let messages = all_messages();
    let index: HashMap<String, usize> =
        messages.iter().enumerate().map(|(i, (name, _))| (name.clone(), i)).collect();
    let shape = |field: &Field| Shape {
        name: field.name.clone(),
        max: field.is_list().then(|| field.max_items().unwrap_or(LIST_MAX)),
        is_packable: field.is_packable(),
        message: index.get(field.type_name.trim_start_matches('.')).copied(),
        stands_apart: field.rules().is_some_and(|rules| rules.ignore == Some(IGNORE_ALWAYS)),
    };
    let all = messages.iter().map(|(_, message)| {
        let fields = message.field.iter().map(|field| (field.number.unsigned_abs(), shape(field)));
        fields.filter(|(_, shape)| shape.max.is_some() || shape.message.is_some()).collect()
    });
    let requests = requests().into_iter().filter_map(|name| Some((name.clone(), *index.get(&name)?)));
    Shapes { all: all.collect(), requests: requests.collect() }
});

/// Where the walk is; made into text only where something is wrong.
enum Path<'a> {
    Root,
    In { outer: &'a Path<'a>, field: &'a str, index: Option<u64> },
}

impl Path<'_> {
    fn to(&self, field: &str) -> String {
        match self {
            Path::Root => field.to_owned(),
            Path::In { outer, field: here, index: Some(index) } => {
                format!("{}[{index}].{field}", outer.to(here))
            }
            Path::In { outer, field: here, index: None } => format!("{}.{field}", outer.to(here)),
        }
    }
}

struct Walk {
    elements: usize,
}

impl Walk {
    /// `strict`: lists are held to their own bounds, not only to that of all together.
    fn message(
        &mut self,
        shape: usize,
        mut bytes: &[u8],
        strict: bool,
        path: &Path<'_>,
        depth: usize,
    ) -> Result<(), Excess> {
        let depth = depth.checked_sub(1).ok_or_else(|| Excess::malformed("recursion limit reached"))?;
        let mut counts: HashMap<u32, u64> = HashMap::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            let number = u32::try_from(key >> 3).map_err(|_| Excess::malformed("invalid tag value"))?;
            let value = match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    None
                }
                1 => take(&mut bytes, 8).map(|_| None)?,
                2 => {
                    let length = varint(&mut bytes)?;
                    Some(take(&mut bytes, length)?)
                }
                5 => take(&mut bytes, 4).map(|_| None)?,
                // Groups are older than any message here.
                _ => return Err(Excess::malformed("invalid wire type value")),
            };
            let Some(field) = SHAPES.all[shape].get(&number) else { continue };
            let index = match field.max {
                Some(max) => {
                    let count = counts.entry(number).or_default();
                    let first = *count;
                    // A packed number takes a byte at least.
                    *count += match value {
                        Some(packed) if field.is_packable => packed.len() as u64,
                        _ => 1,
                    };
                    self.elements += usize::try_from(*count - first).unwrap_or(usize::MAX);
                    let allowed = if self.elements > ELEMENTS_MAX {
                        Err(format!("a request has at most {ELEMENTS_MAX} elements in all its lists"))
                    } else if strict && *count > max {
                        Err(format!("must have at most {max} items"))
                    } else {
                        Ok(())
                    };
                    allowed.map_err(|description| Excess { field: path.to(&field.name), description })?;
                    Some(first)
                }
                None => None,
            };
            if let (Some(inner), Some(value)) = (field.message, value) {
                let path = Path::In { outer: path, field: &field.name, index };
                self.message(inner, value, strict && !field.stands_apart, &path, depth)?;
            }
        }
        Ok(())
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Excess> {
    prost::encoding::decode_varint(bytes).map_err(|error| Excess::malformed(error.to_string()))
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Excess> {
    let taken = usize::try_from(length).ok().and_then(|length| bytes.split_at_checked(length));
    let (taken, rest) = taken.ok_or_else(|| Excess::malformed("buffer underflow"))?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: &str = "shopstream.inventory.v1.ReserveStockRequest";
    const BULK: &str = "shopstream.order.v1.ProcessBulkOrdersRequest";

    fn field_of(name: &str, bytes: &[u8]) -> Option<String> {
        check(name, bytes).err().map(|excess| excess.field)
    }

    /// A length-delimited field.
    fn nested(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2];
        prost::encoding::encode_varint(bytes.len() as u64, &mut field);
        field.extend_from_slice(bytes);
        field
    }

    #[test]
    fn a_list_is_counted_before_its_elements_are_looked_at() {
        let lines = |count: usize| [&[0x0a, 2, b'a', b'b'][..], &[0x22, 0].repeat(count)].concat();
        assert_eq!(field_of(RESERVE, &lines(1_000)), None);
        for count in [1_001, 2_000_000] {
            assert_eq!(field_of(RESERVE, &lines(count)).as_deref(), Some("lines"), "{count}");
        }
        let status = Status::from(check(RESERVE, &lines(1_001)).expect_err("too many"));
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(status.metadata().get(FIELD_KEY).and_then(|field| field.to_str().ok()), Some("lines"));
    }

    #[test]
    fn every_list_of_every_request_has_a_bound() {
        for (name, shape) in &SHAPES.requests {
            for (number, field) in &SHAPES.all[*shape] {
                let Some(max) = field.max else { continue };
                let Ok(number) = u8::try_from(*number) else { panic!("{name}: write this with two bytes") };
                let one = if field.is_packable { vec![number << 3, 0] } else { vec![number << 3 | 2, 0] };
                assert_eq!(field_of(name, &one.repeat(max as usize)), None, "{name}.{}", field.name);
                let more = one.repeat(max as usize + 1);
                assert_eq!(field_of(name, &more).as_deref(), Some(&*field.name), "{name}");
            }
        }
        assert!(SHAPES.requests.len() > 30, "{}", SHAPES.requests.len());
    }

    #[test]
    fn a_mask_is_a_list_too() {
        let mask = nested(4, &[0x0a, 0].repeat(1_001));
        let update = "shopstream.catalog.v1.UpdateProductRequest";
        let number =
            SHAPES.all[SHAPES.requests[update]].iter().find(|(_, field)| field.name == "update_mask");
        let number = u8::try_from(*number.expect("a mask").0).expect("small");
        let mask = [vec![number << 3 | 2], mask[1..].to_vec()].concat();
        assert_eq!(field_of(update, &mask).as_deref(), Some("update_mask.paths"));
    }

    /// An order among many is judged by itself, but all of them together are bounded.
    #[test]
    fn an_order_among_many_is_no_error_of_the_message() {
        let order = |lines: usize| nested(1, &[0x32, 0].repeat(lines));
        assert_eq!(field_of(BULK, &[order(1), order(1_001)].concat()), None);
        assert_eq!(
            field_of(BULK, &[order(1), order(ELEMENTS_MAX)].concat()).as_deref(),
            Some("orders[1].lines")
        );
        assert_eq!(field_of(BULK, &order(0).repeat(1_001)).as_deref(), Some("orders"));
    }

    #[test]
    fn bytes_that_are_no_message_are_said_to_be_none() {
        for bytes in [&[0x0a, 5, 1][..], &[0x0b, 0x0c], &[0xff; 11], &[0x09, 1], &[0x0d, 1], &[0x0e]] {
            let excess = check(RESERVE, bytes).expect_err("no message");
            assert!(excess.field.is_empty() && excess.description.starts_with("not a message"), "{excess:?}");
        }
    }

    #[test]
    fn an_answer_is_as_long_as_it_is() {
        let events = [0x0a, 0].repeat(ELEMENTS_MAX + 1);
        assert_eq!(field_of("shopstream.event.v1.ReadResponse", &events), None);
    }
}
