//! Which call comes when: each follows from the seed, its number and what the shop had at the start.

use std::fmt;

use anyhow::Result;
use bytes::Bytes;
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use shopstream_proto::r#type::v1::Position;

use super::Options;
use super::call::{self, Extra, Wire};
use super::seeds::{Catalogue, TENANT};
use super::values::{self, Spoilt};
use super::wire::{Method, Place, Schema, Tree, Value};

/// So many fields at most are spoilt at once.
const AT_ONCE_MAX: usize = 3;

/// All that can be called.
pub(crate) struct Plan {
    schema: Schema,
    catalogue: Catalogue,
    seed: u64,
    targets: Vec<Target>,
    calls: usize,
    /// One way to spoil one thing each; the worst first, the others as the seed shuffled them.
    systematic: Vec<Way>,
    /// What costs seconds where it is not refused before it is looked at: at the end, for it spoils what comes after.
    heavy: Vec<Way>,
    unknown: Vec<String>,
    metadata: Vec<(String, Extra)>,
    without: Vec<String>,
}

struct Target {
    method: Method,
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
enum Way {
    /// Of a target, a place, and what is done there.
    Field(usize, usize, usize),
    Body(usize, usize),
    Metadata(usize, usize),
}

/// A call to make.
pub(crate) struct Case {
    pub(crate) number: usize,
    pub(crate) method: Method,
    /// Which field, or what else, is spoilt.
    pub(crate) field: String,
    pub(crate) what: String,
    pub(crate) zipped: bool,
    pub(crate) metadata: Extra,
    pub(crate) is_heavy: bool,
    /// The call's own time may be so short that it is over first.
    pub(crate) may_run_out: bool,
    /// What a stream of the client begins with.
    before: Option<Vec<u8>>,
    body: Vec<u8>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zipped = if self.zipped { ", gzip" } else { "" };
        write!(f, "{} {}: {}{zipped}", self.method.path, self.field, self.what)
    }
}

impl Case {
    /// The bytes that are sent.
    pub(crate) fn frames(&self) -> Bytes {
        let spoilt = call::frame(&self.body, self.zipped);
        match &self.before {
            Some(before) => [call::frame(before, self.zipped), spoilt].concat().into(),
            None => spoilt,
        }
    }
}

impl Plan {
    pub(crate) fn new(schema: Schema, catalogue: Catalogue, seed: u64, options: &Options) -> Self {
        let Options { calls, method: only, without, .. } = options;
        let (calls, is_left_out) = (*calls, |what: &str| without.iter().any(|word| what.contains(word)));
        let mut plan = Self {
            schema,
            catalogue,
            seed,
            calls,
            targets: Vec::new(),
            systematic: Vec::new(),
            heavy: Vec::new(),
            unknown: Vec::new(),
            metadata: values::metadata(),
            without: without.clone(),
        };
        for method in plan.schema.methods.clone() {
            if only.as_ref().is_some_and(|only| !method.path.contains(only)) {
                continue;
            }
            if plan.catalogue.valid(&method, 0).is_none() {
                plan.unknown.push(method.path);
                continue;
            }
            let places = plan.schema.places(&method.input);
            plan.targets.push(Target { method, places });
        }
        let (mut worst, mut others, mut heavy) = (Vec::new(), Vec::new(), Vec::new());
        for (index, target) in plan.targets.iter().enumerate() {
            for (place, at) in target.places.iter().enumerate() {
                for (way, spoilt) in
                    values::spoilt(&plan.schema, at, None, &plan.catalogue.strangers).iter().enumerate()
                {
                    if is_left_out(&spoilt.what) {
                        continue;
                    }
                    let list = match (spoilt.is_heavy, spoilt.is_worst) {
                        (true, _) => &mut heavy,
                        (_, true) => &mut worst,
                        _ => &mut others,
                    };
                    list.push(Way::Field(index, place, way));
                }
            }
            others.extend((0..values::BODIES.len()).map(|body| Way::Body(index, body)));
            let kept = (0..plan.metadata.len()).filter(|metadata| !is_left_out(&plan.metadata[*metadata].0));
            others.extend(kept.map(|metadata| Way::Metadata(index, metadata)));
        }
        let mut chance = StdRng::seed_from_u64(seed);
        worst.shuffle(&mut chance);
        others.shuffle(&mut chance);
        heavy.shuffle(&mut chance);
        // A short run has a share of each.
        heavy.truncate(calls / 4);
        plan.systematic = worst;
        plan.systematic.extend(others);
        plan.heavy = heavy;
        plan
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    pub(crate) fn methods(&self) -> usize {
        self.targets.len()
    }

    pub(crate) fn fields(&self) -> usize {
        self.targets.iter().map(|target| target.places.len()).sum()
    }

    pub(crate) fn systematic(&self) -> usize {
        self.systematic.len() + self.heavy.len()
    }

    /// Methods that the catalogue does not know.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &String> {
        self.unknown.iter()
    }

    /// The call with this number.
    pub(crate) fn case(&self, number: usize) -> Case {
        let mut chance =
            StdRng::seed_from_u64(self.seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let light = self.calls.saturating_sub(self.heavy.len());
        let planned =
            if number < light { self.systematic.get(number) } else { self.heavy.get(number - light) };
        if let Some(way) = planned {
            return self.one(number, *way, &mut chance);
        }
        let target = chance.random_range(0..self.targets.len());
        let mut case = self.unspoilt(number, target, &mut chance);
        let target = &self.targets[target];
        let mut tree = self.tree(target, number);
        let (mut fields, mut whats) = (Vec::new(), Vec::new());
        for _ in 0..chance.random_range(2..=AT_ONCE_MAX) {
            let Some(place) = target.places.choose(&mut chance) else { break };
            let ways = self.ways(place, &mut tree);
            // What costs seconds is tried by itself.
            let is_wanted =
                |way: &Spoilt| !way.is_heavy && !self.without.iter().any(|word| way.what.contains(word));
            let light: Vec<_> = ways.into_iter().filter(is_wanted).collect();
            let Some(spoilt) = light.choose(&mut chance) else { continue };
            tree.enter(&place.steps).set(place.field.number, spoilt.values.clone());
            fields.push(place.name.clone());
            whats.push(spoilt.what.clone());
        }
        case.body = tree.encode();
        if chance.random_ratio(1, 10) {
            let what = values::BODIES.choose(&mut chance).expect("some");
            case.body = values::body(what, case.body, &mut chance);
            fields.push("the body".to_owned());
            whats.push((*what).to_owned());
        }
        (case.field, case.what) = (fields.join(", "), whats.join(", "));
        case
    }

    fn one(&self, number: usize, way: Way, chance: &mut StdRng) -> Case {
        match way {
            Way::Field(target, place, way) => {
                let mut case = self.unspoilt(number, target, chance);
                let target = &self.targets[target];
                let place = &target.places[place];
                let mut tree = self.tree(target, number);
                let mut ways = self.ways(place, &mut tree);
                let spoilt = ways.swap_remove(way);
                tree.enter(&place.steps).set(place.field.number, spoilt.values);
                (case.field, case.what) = (place.name.clone(), spoilt.what);
                case.body = tree.encode();
                case.is_heavy = spoilt.is_heavy;
                // As little on the wire as possible: that is what makes it an attack.
                case.zipped |= spoilt.is_heavy;
                case
            }
            Way::Body(target, body) => {
                let mut case = self.unspoilt(number, target, chance);
                let what = values::BODIES[body];
                case.body = values::body(what, std::mem::take(&mut case.body), chance);
                (case.field, case.what) = ("the body".to_owned(), what.to_owned());
                case
            }
            Way::Metadata(target, metadata) => {
                let mut case = self.unspoilt(number, target, chance);
                let (what, extra) = &self.metadata[metadata];
                let spoils = |name: &str| extra.iter().any(|(spoilt, _)| *spoilt == name);
                case.metadata.retain(|(name, _)| !spoils(name));
                case.metadata.extend(extra.iter().cloned());
                case.may_run_out = spoils("grpc-timeout");
                case.zipped &= !spoils("grpc-encoding");
                (case.field, case.what) = ("metadata".to_owned(), what.clone());
                case
            }
        }
    }

    /// A valid call.
    pub(crate) fn good(&self, number: usize) -> Case {
        let mut chance = StdRng::seed_from_u64(number as u64);
        // Other numbers than those of the spoilt ones: their request ids are their own.
        self.unspoilt(number + 1_000_000_000, number % self.targets.len(), &mut chance)
    }

    /// A valid call of each method that reads a view, which has to be past these positions.
    pub(crate) fn reads_at(&self, positions: &[Position]) -> Vec<Case> {
        let mut cases = Vec::new();
        for (index, target) in self.targets.iter().enumerate() {
            let Some(waits) = target.places.iter().find(|place| place.name == "min_position") else {
                continue;
            };
            let mut case = self.unspoilt(0, index, &mut StdRng::seed_from_u64(0));
            let mut tree = self.tree(target, 0);
            let named = positions.iter().map(|position| Value::Blob(position.encode_to_vec()));
            tree.set(waits.field.number, named.collect());
            (case.body, case.field, case.what) = (tree.encode(), "min_position".into(), "the end".into());
            cases.push(case);
        }
        cases
    }

    /// Releases these reservations, and those of the seeds.
    pub(crate) async fn give_back(&self, wire: &Wire, held: Vec<String>) -> Result<()> {
        self.catalogue.give_back(wire, &self.schema, held).await
    }

    fn unspoilt(&self, number: usize, target: usize, chance: &mut StdRng) -> Case {
        let method = self.targets[target].method.clone();
        let body = self.catalogue.valid(&method, number as u64).unwrap_or_default();
        // A good message first, under numbers that nobody else has.
        let first = number as u64 + (1 << 40);
        let before = if method.client_streaming { self.catalogue.valid(&method, first) } else { None };
        Case {
            number,
            method,
            field: "nothing".into(),
            what: "valid".into(),
            zipped: chance.random(),
            metadata: vec![("shopstream-tenant", TENANT.as_bytes().to_vec())],
            is_heavy: false,
            may_run_out: false,
            before,
            body,
        }
    }

    fn tree(&self, target: &Target, number: usize) -> Tree {
        let body = self.catalogue.valid(&target.method, number as u64).unwrap_or_default();
        self.schema.parse(&target.method.input, &body).expect("what prost wrote")
    }

    fn ways(&self, place: &Place, tree: &mut Tree) -> Vec<Spoilt> {
        let present = tree.enter(&place.steps).get(place.field.number).cloned();
        values::spoilt(&self.schema, place, present.as_ref(), &self.catalogue.strangers)
    }
}
