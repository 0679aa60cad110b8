//! Protobuf by its descriptors alone: messages as trees that can be taken apart, spoilt and put together again, also
//! into what no generated type could write.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use prost::encoding::decode_varint;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};

/// How deep fields of fields are spoilt; a message is not entered twice on one path.
const DEPTH_MAX: usize = 4;

/// Everything that the public protos say.
pub(crate) struct Schema {
    messages: HashMap<String, Vec<Field>>,
    enums: HashMap<String, Vec<i32>>,
    /// In the order of the protos.
    pub(crate) methods: Vec<Method>,
}

/// A method of a public service.
#[derive(Clone, Debug)]
pub(crate) struct Method {
    /// `/package.Service/Method`.
    pub(crate) path: String,
    /// The full name of the request.
    pub(crate) input: String,
    pub(crate) client_streaming: bool,
    pub(crate) server_streaming: bool,
}

/// A field of a message.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) is_list: bool,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Blob,
    Int,
    Bool,
    /// By its full name.
    Enum(String),
    /// By its full name.
    Message(String),
}

/// Where a field is: the numbers of the messages that lead to it, and itself.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) steps: Vec<u32>,
    /// As a person writes it: `lines.unit_price.amount_minor`.
    pub(crate) name: String,
    pub(crate) field: Field,
}

impl Schema {
    /// Of the descriptors that the program serves by reflection.
    pub(crate) fn public() -> Result<Self> {
        let set = FileDescriptorSet::decode(shopstream_proto::FILE_DESCRIPTOR_SET)?;
        let mut schema = Self { messages: HashMap::new(), enums: HashMap::new(), methods: Vec::new() };
        for file in &set.file {
            let package = file.package();
            for message in &file.message_type {
                schema.add(package, message)?;
            }
            for each in &file.enum_type {
                let numbers = each.value.iter().map(|value| value.number()).collect();
                schema.enums.insert(format!("{package}.{}", each.name()), numbers);
            }
            if !package.starts_with("shopstream.") {
                continue;
            }
            for service in &file.service {
                for method in &service.method {
                    schema.methods.push(Method {
                        path: format!("/{package}.{}/{}", service.name(), method.name()),
                        input: method.input_type().trim_start_matches('.').to_owned(),
                        client_streaming: method.client_streaming(),
                        server_streaming: method.server_streaming(),
                    });
                }
            }
        }
        Ok(schema)
    }

    fn add(&mut self, within: &str, message: &prost_types::DescriptorProto) -> Result<()> {
        let name = format!("{within}.{}", message.name());
        let known = |field: &&prost_types::FieldDescriptorProto| {
            name.starts_with("shopstream.") || field.r#type() != Type::Group
        };
        let fields: Result<Vec<_>> = message.field.iter().filter(known).map(field_of).collect();
        for nested in &message.nested_type {
            self.add(&name, nested)?;
        }
        for each in &message.enum_type {
            let numbers = each.value.iter().map(|value| value.number()).collect();
            self.enums.insert(format!("{name}.{}", each.name()), numbers);
        }
        // What only rules are made of may hold other kinds of fields; nobody sends those.
        if let Ok(fields) = fields {
            self.messages.insert(name, fields);
        } else if name.starts_with("shopstream.") {
            fields.with_context(|| name.clone())?;
        }
        Ok(())
    }

    /// The fields of a message.
    pub(crate) fn fields(&self, message: &str) -> &[Field] {
        self.messages.get(message).map_or(&[], Vec::as_slice)
    }

    /// The declared numbers of an enum.
    pub(crate) fn numbers(&self, name: &str) -> &[i32] {
        self.enums.get(name).map_or(&[], Vec::as_slice)
    }

    /// Every field that a message has, and every field of those.
    pub(crate) fn places(&self, message: &str) -> Vec<Place> {
        let mut places = Vec::new();
        self.walk(message, &mut vec![message.to_owned()], &mut Vec::new(), "", &mut places);
        places
    }

    fn walk(
        &self,
        message: &str,
        entered: &mut Vec<String>,
        steps: &mut Vec<u32>,
        prefix: &str,
        places: &mut Vec<Place>,
    ) {
        for field in self.fields(message) {
            let name = format!("{prefix}{}", field.name);
            places.push(Place { steps: steps.clone(), name: name.clone(), field: field.clone() });
            if let Kind::Message(inner) = &field.kind
                && steps.len() < DEPTH_MAX
                && !entered.contains(inner)
            {
                entered.push(inner.clone());
                steps.push(field.number);
                self.walk(inner, entered, steps, &format!("{name}."), places);
                steps.pop();
                entered.pop();
            }
        }
    }

    /// Takes the bytes of a message apart.
    pub(crate) fn parse(&self, message: &str, mut bytes: &[u8]) -> Result<Tree> {
        let mut tree = Tree::default();
        while !bytes.is_empty() {
            let key = decode_varint(&mut bytes)?;
            let number = u32::try_from(key >> 3)?;
            let value = match key & 7 {
                0 => Value::Int(decode_varint(&mut bytes)?),
                2 => {
                    let length = usize::try_from(decode_varint(&mut bytes)?)?;
                    let (inside, rest) = bytes.split_at_checked(length).context("cut short")?;
                    bytes = rest;
                    let field = self.fields(message).iter().find(|field| field.number == number);
                    match field.map(|field| &field.kind) {
                        Some(Kind::Message(inner)) => Value::Message(self.parse(inner, inside)?),
                        _ => Value::Blob(inside.to_vec()),
                    }
                }
                other => bail!("field {number} of {message} has wire type {other}"),
            };
            tree.0.push((number, value));
        }
        Ok(tree)
    }
}

fn field_of(field: &prost_types::FieldDescriptorProto) -> Result<Field> {
    let type_name = field.type_name().trim_start_matches('.').to_owned();
    let kind = match field.r#type() {
        Type::String => Kind::Text,
        Type::Bytes => Kind::Blob,
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Sint32 | Type::Sint64 => Kind::Int,
        Type::Bool => Kind::Bool,
        Type::Enum => Kind::Enum(type_name),
        Type::Message => Kind::Message(type_name),
        other => bail!("{} is a {other:?}, which this program cannot spoil yet", field.name()),
    };
    let number = u32::try_from(field.number())?;
    Ok(Field { number, name: field.name().to_owned(), kind, is_list: field.label() == Label::Repeated })
}

/// A message: fields by number, in the order in which they are written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(pub(crate) Vec<(u32, Value)>);

/// What stands in a field once.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(u64),
    Blob(Vec<u8>),
    Message(Tree),
    /// The same, so many times.
    Many(Box<Value>, usize),
}

impl Value {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Blob(text.into().into_bytes())
    }

    pub(crate) fn many(self, times: usize) -> Self {
        Self::Many(Box::new(self), times)
    }
}

impl Tree {
    /// What stands in a field, if anything.
    pub(crate) fn get(&self, number: u32) -> Option<&Value> {
        self.0.iter().rev().find(|(known, _)| *known == number).map(|(_, value)| value)
    }

    /// Replaces all that a field holds. Written last, so that of a `oneof` it is this that counts.
    pub(crate) fn set(&mut self, number: u32, values: Vec<Value>) {
        self.0.retain(|(known, _)| *known != number);
        self.0.extend(values.into_iter().map(|value| (number, value)));
    }

    /// The message that these steps lead to; where one is missing it is made.
    pub(crate) fn enter(&mut self, steps: &[u32]) -> &mut Self {
        let Some((step, rest)) = steps.split_first() else { return self };
        let found =
            self.0.iter().rposition(|(number, value)| number == step && matches!(value, Value::Message(_)));
        let index = found.unwrap_or_else(|| {
            self.0.push((*step, Value::Message(Self::default())));
            self.0.len() - 1
        });
        match &mut self.0[index].1 {
            Value::Message(inner) => inner.enter(rest),
            _ => unreachable!("a message was looked for"),
        }
    }

    /// As it goes over the wire.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.iter().for_each(|(number, value)| write(*number, value, &mut out));
        out
    }
}

/// How many bytes a list is at most, but for its first entry.
const MANY_BYTES: usize = 16 * 1024 * 1024;

fn write(number: u32, value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Int(int) => {
            varint(u64::from(number) << 3, out);
            varint(*int, out);
        }
        Value::Blob(bytes) => delimited(number, bytes, out),
        Value::Message(tree) => delimited(number, &tree.encode(), out),
        Value::Many(value, times) => {
            let mut once = Vec::new();
            write(number, value, &mut once);
            // Four times what a node takes is as good as ten gigabytes, which only the client would suffer from.
            let times = (*times).min(MANY_BYTES / once.len().max(1)).max(1);
            out.reserve(once.len() * times);
            (0..times).for_each(|_| out.extend_from_slice(&once));
        }
    }
}

fn delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(value: u64, out: &mut Vec<u8>) {
    prost::encoding::encode_varint(value, out);
}
