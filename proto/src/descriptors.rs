//! The descriptors, as far as bounds are read from them.
//!
//! `prost_types` drops custom options, and with them the rules, so these few messages are written out with the fields
//! that matter, by the numbers of `descriptor.proto` and of `buf/validate/validate.proto`.

use std::collections::HashSet;

use prost::Message;

use crate::FILE_DESCRIPTOR_SET;

/// `buf.validate.Ignore`.
pub(crate) const IGNORE_ALWAYS: i32 = 3;

#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "4")]
    message_type: Vec<MessageType>,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

#[derive(Clone, PartialEq, Message)]
struct Method {
    #[prost(string, tag = "2")]
    input_type: String,
}

/// A message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct MessageType {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) field: Vec<Field>,
    #[prost(message, repeated, tag = "3")]
    nested_type: Vec<MessageType>,
}

/// A field of a message.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Field {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "3")]
    pub(crate) number: i32,
    #[prost(int32, tag = "4")]
    label: i32,
    #[prost(int32, tag = "5")]
    kind: i32,
    #[prost(string, tag = "6")]
    pub(crate) type_name: String,
    #[prost(message, optional, tag = "8")]
    options: Option<Options>,
}

#[derive(Clone, PartialEq, Message)]
struct Options {
    #[prost(message, optional, tag = "1159")]
    rules: Option<Rules>,
}

/// The rules of one field.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Rules {
    #[prost(message, optional, tag = "4")]
    pub(crate) int64: Option<Integers>,
    #[prost(message, optional, tag = "14")]
    pub(crate) string: Option<Texts>,
    #[prost(message, optional, tag = "18")]
    pub(crate) repeated: Option<Lists>,
    #[prost(int32, optional, tag = "27")]
    pub(crate) ignore: Option<i32>,
}

/// Rules of a text.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Texts {
    #[prost(uint64, optional, tag = "3")]
    pub(crate) max_len: Option<u64>,
    #[prost(string, optional, tag = "6")]
    pub(crate) pattern: Option<String>,
}

/// Rules of a number.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Integers {
    #[prost(int64, optional, tag = "3")]
    pub(crate) lte: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    pub(crate) gte: Option<i64>,
}

/// Rules of a list.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Lists {
    #[prost(uint64, optional, tag = "2")]
    pub(crate) max_items: Option<u64>,
    #[prost(message, optional, boxed, tag = "4")]
    items: Option<Box<Rules>>,
}

impl Field {
    pub(crate) fn is_list(&self) -> bool {
        self.label == prost_types::field_descriptor_proto::Label::Repeated as i32
    }

    /// A number, a truth or a word of an enumeration.
    pub(crate) fn is_packable(&self) -> bool {
        use prost_types::field_descriptor_proto::Type;
        let whole = [Type::String, Type::Bytes, Type::Message, Type::Group];
        !whole.iter().any(|kind| *kind as i32 == self.kind)
    }

    pub(crate) fn rules(&self) -> Option<&Rules> {
        self.options.as_ref()?.rules.as_ref()
    }

    pub(crate) fn max_items(&self) -> Option<u64> {
        self.rules()?.repeated.as_ref()?.max_items
    }
}

/// Every message with its full name, those inside others too.
pub(crate) fn all_messages() -> Vec<(String, MessageType)> {
    let mut found = Vec::new();
    for file in set().file {
        for message in file.message_type {
            collect(&file.package, message, &mut found);
        }
    }
    found
}

fn collect(outer: &str, message: MessageType, found: &mut Vec<(String, MessageType)>) {
    let name = format!("{outer}.{}", message.name);
    for inner in message.nested_type.clone() {
        collect(&name, inner, found);
    }
    found.push((name, message));
}

/// The full names of everything that a method takes.
pub(crate) fn requests() -> HashSet<String> {
    let methods = set().file.into_iter().flat_map(|file| file.service).flat_map(|service| service.method);
    methods.map(|method| method.input_type.trim_start_matches('.').to_owned()).collect()
}

fn set() -> Set {
    // Our own build wrote it: what does not parse here, parses nowhere.
    Set::decode(FILE_DESCRIPTOR_SET).expect("the descriptors that protoc wrote")
}

/// What the rules of a field say, for whoever has the same bound elsewhere and compares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The most characters of a text.
    pub max_len: Option<u64>,
    /// What a text looks like.
    pub pattern: Option<String>,
    /// The most elements of a list.
    pub max_items: Option<u64>,
    /// The least number.
    pub min: Option<i64>,
    /// The greatest number.
    pub max: Option<i64>,
}

/// The bound of a field, named as `shopstream.order.v1.CreateOrderRequest.lines`; `None` where there is no such field.
pub fn bound_of(field: &str) -> Option<Bound> {
    let (message, field) = field.rsplit_once('.')?;
    let (_, message) = all_messages().into_iter().find(|(name, _)| name == message)?;
    let field = message.field.into_iter().find(|known| known.name == field)?;
    let rules = field.rules().cloned().unwrap_or_default();
    let (string, int64) = (rules.string.unwrap_or_default(), rules.int64.unwrap_or_default());
    Some(Bound {
        max_len: string.max_len,
        pattern: string.pattern,
        max_items: rules.repeated.and_then(|lists| lists.max_items),
        min: int64.gte,
        max: int64.lte,
    })
}

/// Every pattern that the rules ask of a text, once.
pub fn patterns() -> std::collections::BTreeSet<String> {
    let fields = all_messages().into_iter().flat_map(|(_, message)| message.field);
    let texts = fields.filter_map(|field| {
        let rules = field.rules()?;
        let items = rules.repeated.as_ref().and_then(|lists| lists.items.as_deref());
        [Some(rules), items].into_iter().flatten().find_map(|rules| rules.string.as_ref()?.pattern.clone())
    });
    texts.collect()
}
