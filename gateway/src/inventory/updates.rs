//! StreamStockUpdates: the present stock, then every change of it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;

use lru::LruCache;
use shopstream_domain::inventory::StockItem;
use shopstream_domain::model::Event;
use shopstream_domain::{Aggregate, LocationId, Sku, StreamId, StreamKind, TenantId, Version};
use shopstream_eventlog::{CommitRecord, EventData, Offset, schema};
use shopstream_projections::Projection;
use shopstream_projections::inventory::StockLevel;
use shopstream_proto::Validate;
use shopstream_proto::inventory::v1::{StreamStockUpdatesRequest, StreamStockUpdatesResponse};
use tokio::time::timeout;

use super::view::stock_level;
use crate::call::Call;
use crate::failure::Failure;
use crate::follow::{Delivery, Follow};
use crate::shop::Shop;
use crate::stream::{HEARTBEAT, Messages, Source, messages};
use crate::token::{Resume, Scope};
use crate::wire::id;

/// Rows per query.
const PAGE: u32 = 500;
/// How many stock items one stream keeps in memory; what is not among them is folded from the journal again.
const FOLDED: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

/// Opens the stream.
pub(super) async fn stream(
    shop: &Shop,
    call: &Call,
    mut request: StreamStockUpdatesRequest,
) -> Result<Messages<StreamStockUpdatesResponse>, Failure> {
    request.validate()?;
    shop.see(call, Projection::StockLevel, &std::mem::take(&mut request.min_position)).await?;
    let token = std::mem::take(&mut request.resume_token);
    let scope = Scope::new("StreamStockUpdates", "resume_token", &call.tenant, &request);
    let filter = Filter::of(&call.tenant, &request)?;
    let resume = Resume::of(&token, scope, shop.means.commands.partitions())?;
    let present = match &resume {
        Some(resume) if resume.present_after.is_empty() => None,
        Some(resume) => Some(Some(key_of(&resume.present_after)?)),
        None => Some(None),
    };
    // Where the rows are at least; what they have beyond it comes again and is left out then.
    let from = resume
        .map_or_else(|| shop.reads().progress().watch(Projection::StockLevel).borrow().clone(), |r| r.next);
    let follow = Follow::from(&shop.live, from.clone()).await?;
    let updates = Updates {
        shop: shop.clone(),
        filter,
        scope,
        present,
        from,
        follow,
        shown: HashMap::new(),
        folded: LruCache::new(FOLDED),
        ready: VecDeque::new(),
    };
    Ok(messages(&shop.live, updates))
}

type Key = (Sku, LocationId);

struct Updates {
    shop: Shop,
    filter: Filter,
    scope: Scope,
    /// `Some`: the present state is still to be sent, after this key.
    present: Option<Option<Key>>,
    /// By partition, the offset behind what was made into messages.
    from: Vec<Offset>,
    follow: Follow,
    /// Rows that were sent with a version which the log will show again. Few: those that changed meanwhile.
    shown: HashMap<StreamId, Version>,
    folded: LruCache<StreamId, (Version, StockItem)>,
    /// Made of one page or one delivery.
    ready: VecDeque<StreamStockUpdatesResponse>,
}

impl Source for Updates {
    type Message = StreamStockUpdatesResponse;

    async fn next(&mut self) -> Result<Option<Self::Message>, Failure> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            if let Some(after) = self.present.take() {
                self.show_present(after).await?;
                continue;
            }
            match timeout(HEARTBEAT, self.follow.next()).await {
                Ok(delivery) => self.show_changes(&delivery?).await?,
                Err(_) => return Ok(Some(self.message(None))),
            }
        }
    }
}

impl Updates {
    async fn show_present(&mut self, after: Option<Key>) -> Result<(), Failure> {
        let Filter { tenant, skus, .. } = &self.filter;
        let after = after.as_ref().map(|(sku, location)| (sku, location));
        let rows = self.shop.reads().stock_levels(tenant, skus, after, PAGE).await?;
        if rows.len() == PAGE as usize {
            self.present = rows.last().map(|last| Some((last.sku.clone(), last.location.clone())));
        }
        for row in rows {
            if !self.filter.wants_location(&row.location) {
                continue;
            }
            if self.from.get(usize::from(row.partition)).is_some_and(|from| row.offset >= *from) {
                self.shown.insert(row.sku.stock_stream(&row.tenant_id, &row.location), row.version);
            }
            let present_after = format!("{}@{}", row.sku, row.location);
            let resume_token = self.scope.seal(&Resume { next: self.from.clone(), present_after });
            self.ready.push_back(StreamStockUpdatesResponse { stock: Some(stock_level(row)), resume_token });
        }
        Ok(())
    }

    async fn show_changes(&mut self, delivery: &Delivery) -> Result<(), Failure> {
        for record in delivery.commits() {
            if let Some(key) = self.filter.wants(&record.commit.stream) {
                self.change(record, key).await?;
            }
        }
        self.from = self.follow.resume().next;
        Ok(())
    }

    async fn change(&mut self, record: &CommitRecord, (sku, location): Key) -> Result<(), Failure> {
        let stream = &record.commit.stream;
        let (mut version, mut item) = self.before(record).await?;
        for data in &record.commit.events {
            version += 1;
            evolve(&mut item, data)?;
            if version == record.commit.last_version() {
                // Only the last message of a commit leads behind it; a resume must not lose the others.
                self.from[usize::from(record.position.partition)] = record.position.offset + 1;
            }
            if self.shown.get(stream).is_some_and(|shown| version <= *shown) {
                continue;
            }
            let level = StockLevel {
                tenant_id: self.filter.tenant.clone(),
                sku: sku.clone(),
                location: location.clone(),
                on_hand: item.on_hand(),
                available: item.available(),
                reserved: item.reserved(),
                committed: item.committed(),
                updated_at: record.commit.recorded_at,
                version,
                partition: record.position.partition,
                offset: record.position.offset,
            };
            let message = self.message(Some(level));
            self.ready.push_back(message);
        }
        self.folded.put(stream.clone(), (version, item));
        Ok(())
    }

    /// The stock item just before `record`.
    async fn before(&mut self, record: &CommitRecord) -> Result<(Version, StockItem), Failure> {
        let wanted = record.commit.first_version - 1;
        match self.folded.pop(&record.commit.stream) {
            Some((version, item)) if version == wanted => return Ok((version, item)),
            Some(_) | None if wanted == 0 => return Ok((0, StockItem::default())),
            Some(_) | None => {}
        }
        let mut item = StockItem::default();
        for data in self.shop.history_before(record).await?.iter().flat_map(|earlier| &earlier.commit.events)
        {
            evolve(&mut item, data)?;
        }
        Ok((wanted, item))
    }

    fn message(&self, level: Option<StockLevel>) -> StreamStockUpdatesResponse {
        let resume = Resume { next: self.from.clone(), present_after: String::new() };
        StreamStockUpdatesResponse { stock: level.map(stock_level), resume_token: self.scope.seal(&resume) }
    }
}

fn evolve(item: &mut StockItem, data: &EventData) -> Result<(), Failure> {
    match schema::decode(StreamKind::Stock, data) {
        Ok(Event::Stock(event)) => item.evolve(&event),
        Ok(other) => return Err(Failure::Internal(format!("a {} on a stock stream", other.event_type()))),
        Err(error) => return Err(Failure::Internal(error.to_string())),
    }
    Ok(())
}

/// Which stock a stream is about.
#[derive(Debug)]
struct Filter {
    tenant: TenantId,
    /// Empty: all.
    skus: Vec<Sku>,
    wanted: HashSet<Sku>,
    /// Empty: all.
    locations: HashSet<LocationId>,
}

impl Filter {
    fn of(tenant: &TenantId, request: &StreamStockUpdatesRequest) -> Result<Self, Failure> {
        let skus = request.skus.iter().enumerate().map(|(i, sku)| id(Sku::new(sku), &format!("skus[{i}]")));
        let skus = skus.collect::<Result<Vec<_>, _>>()?;
        let locations = request.locations.iter().enumerate();
        let locations = locations.map(|(i, name)| id(LocationId::new(name), &format!("locations[{i}]")));
        Ok(Self {
            tenant: tenant.clone(),
            wanted: skus.iter().cloned().collect(),
            skus,
            locations: locations.collect::<Result<_, _>>()?,
        })
    }

    fn wants_location(&self, location: &LocationId) -> bool {
        self.locations.is_empty() || self.locations.contains(location)
    }

    fn wants(&self, stream: &StreamId) -> Option<Key> {
        if stream.kind() != StreamKind::Stock || stream.tenant_str() != self.tenant.as_str() {
            return None;
        }
        let key = key_of(stream.id()).ok()?;
        (self.wants_location(&key.1) && (self.wanted.is_empty() || self.wanted.contains(&key.0)))
            .then_some(key)
    }
}

/// The SKU and location of `SKU@location`.
fn key_of(text: &str) -> Result<Key, Failure> {
    let (sku, location) = text.split_once('@').unwrap_or((text, ""));
    Ok((id(Sku::new(sku), "resume_token")?, id(LocationId::new(location), "resume_token")?))
}
