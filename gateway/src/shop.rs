//! What all services share, and the few things that all of them do with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shopstream_command_handlers::{Clock, CommandEnvelope, Commands, Reply};
use shopstream_domain::{Partition, Sku, StreamId, Timestamp};
use shopstream_eventlog::writer::Fenced;
use shopstream_eventlog::{CommitRecord, EventData, Journal, Log, Offset, Position};
use shopstream_projections::catalog::ProductStatus;
use shopstream_projections::inventory::StockLevel;
use shopstream_projections::order::OrderSummary;
use shopstream_projections::{Behind, Database, Projection, ReadModels};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::Describe;
use crate::call::Call;
use crate::failure::Failure;
use crate::health::ReadSide;
use crate::keys;
use crate::live::Live;
use crate::offers::{ListPrice, Offer, Offers};
use crate::recent::{About, Recent};
use crate::reservations::StockReservations;
use crate::shares::Limits;
use crate::updates::Folded;

mod reading;

/// What the gateway stands on; made by the server.
#[derive(Clone)]
pub struct Means {
    /// The way to change something.
    pub commands: Commands,
    /// The way to see something.
    pub reads: ReadModels,
    /// What the views are kept in, for whoever checks them; `None` where they are kept in memory.
    pub database: Option<Database>,
    /// The history by stream.
    pub journal: Arc<dyn Journal>,
    /// The log itself.
    pub log: Log,
    /// Its kind: `local`, `kafka` or `sim`.
    pub backend: &'static str,
    /// Holds stock over several shards.
    pub reservations: Arc<dyn StockReservations>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Whether the projections run.
    pub read_side: ReadSide,
    /// What this node says of itself.
    pub describe: Describe,
    /// How long things take by policy.
    pub policy: Policy,
    /// Whether clients are served; otherwise only the other nodes are.
    pub takes_calls: bool,
    /// Whether other nodes of the shop may send their commands here.
    pub has_peers: bool,
    /// Ends all streams.
    pub stop: CancellationToken,
}

/// How long a stream waits for the journal to get what the live feed has already.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(30);

/// The shop's policy, as far as requests leave it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long stock is held for a request that does not say.
    pub hold_seconds: u32,
    /// How long at most, extensions included.
    pub hold_seconds_max: u32,
    /// Calls that are carried out at once; more are refused with the advice to come again.
    pub calls_max: usize,
    /// Connections at once; more are closed as they come.
    pub connections_max: usize,
    /// Streams at once; one that reads the log or takes in orders counts for eight.
    pub streams_max: usize,
    /// How much of connections and streams, and of calls while others are connected, one address may have, in percent.
    pub peer_percent: usize,
    /// How long a read model or the processes may need to read to the end of the log where somebody compares up to there. A
    /// reader of Kafka may wait a minute for the answer of a broker that hung before it asks again.
    pub catch_up: Duration,
}

impl Policy {
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            connections: self.connections_max,
            streams: self.streams_max,
            calls: self.calls_max,
            peer_percent: self.peer_percent,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            hold_seconds: 30 * 60,
            hold_seconds_max: 24 * 60 * 60,
            calls_max: 1024,
            connections_max: 4096,
            streams_max: 1024,
            peer_percent: 50,
            catch_up: Duration::from_secs(120),
        }
    }
}

/// The shop behind the services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) means: Arc<Means>,
    pub(crate) live: Live,
    offers: Arc<Offers>,
    recent: Arc<Recent>,
    ends: Arc<Semaphore>,
    /// For all streams of order updates.
    pub(crate) order_rows: Arc<Folded<OrderSummary>>,
    /// For all streams of stock updates.
    pub(crate) stock_rows: Arc<Folded<StockLevel>>,
    /// One comparison of read models at a time.
    pub(crate) replays: Arc<Semaphore>,
}

impl Shop {
    /// Starts to follow the log for streams and offers.
    pub(crate) fn open(means: Means) -> Self {
        let commands = means.commands.clone();
        let on_claim =
            Arc::new(move |partition, by: Fenced| commands.coordinator().learn(partition, by.into()));
        let live = Live::start(means.log.clone(), means.journal.clone(), on_claim, means.stop.clone());
        let offers = Arc::new(Offers::new(means.log.partitions()));
        tokio::spawn(offers.clone().follow(live.clone()));
        let recent = Arc::new(Recent::new(means.log.partitions()));
        let ends = Arc::new(Semaphore::new(reading::ENDS_ASKED));
        Self {
            means: Arc::new(means),
            live,
            offers,
            recent,
            ends,
            order_rows: Arc::default(),
            stock_rows: Arc::default(),
            replays: Arc::new(Semaphore::new(1)),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.means.clock.now()
    }

    pub(crate) fn reads(&self) -> &ReadModels {
        &self.means.reads
    }

    /// What the views are kept in.
    pub(crate) fn database(&self) -> Result<&Database, Failure> {
        self.means.database.as_ref().ok_or(Failure::Away { what: "the database" })
    }

    /// What comes of `about` is read from now on with everything up to `position`, of which somebody is told.
    pub(crate) fn note(&self, about: About, position: Position) {
        self.recent.note(about, position, || self.slowest(position.partition));
    }

    /// As [`Shop::note`], where it was read in one view: the others may not have it yet.
    pub(crate) fn note_shown(&self, about: About, position: Position) {
        if self.slowest(position.partition) <= position.offset {
            self.note(about, position);
        }
    }

    /// The next offset that the slowest view wants.
    fn slowest(&self, partition: Partition) -> Offset {
        let progress = self.reads().progress();
        Projection::views().map(|view| progress.next(view, partition)).min().unwrap_or(0)
    }

    /// As [`Shop::note`], where a process of this node changed these streams and only knows that it did.
    pub(crate) fn note_changed(&self, streams: &[StreamId]) {
        let commands = &self.means.commands;
        for stream in streams {
            let partition = stream.partition(commands.partitions());
            if let Some(offset) = commands.written_here(partition).checked_sub(1) {
                self.note(About::stream(stream), Position { partition, offset });
            }
        }
    }

    /// Carries one command out, under a key that stands for it.
    pub(crate) async fn submit(&self, call: &Call, envelope: CommandEnvelope) -> Result<Reply, Failure> {
        let commands = self.means.commands.until(call.answer_by());
        let about = About::stream(&envelope.stream);
        let reply = call.within(async { Ok(keys::carry_out(&commands, envelope).await?) }).await?;
        self.note(about, reply.position);
        Ok(reply)
    }

    /// Claims a command's key for it: for requests that do something else before.
    pub(crate) async fn claimed(
        &self,
        call: &Call,
        envelope: CommandEnvelope,
    ) -> Result<CommandEnvelope, Failure> {
        let commands = self.means.commands.until(call.answer_by());
        call.within(async { Ok(keys::claimed(&commands, envelope).await?) }).await
    }

    /// The first answer to a request that was carried out before, which `recall` asks for: it wins over whatever the
    /// state says now. `None` where it was not, and its key is free.
    ///
    /// # Errors
    /// Its key was used for something else.
    pub(crate) async fn recall(
        &self,
        call: &Call,
        recall: CommandEnvelope,
    ) -> Result<Option<Reply>, Failure> {
        let commands = self.means.commands.until(call.answer_by());
        call.read_within(async { Ok(keys::recall(&commands, recall).await?) }).await
    }

    /// As [`Shop::recall`], of one of several things that the request may have been about: whatever else its key was used
    /// for is not looked at.
    ///
    /// # Errors
    /// It was used there, for something else.
    pub(crate) async fn recall_here(
        &self,
        call: &Call,
        mut recall: CommandEnvelope,
    ) -> Result<Option<Reply>, Failure> {
        if let Some(request) = &mut recall.request {
            request.key = None;
        }
        self.recall(call, recall).await
    }

    /// What comes before a refusal: the first answer to the same request, or that its key was used for something else.
    ///
    /// # Errors
    /// That, or the refusal.
    pub(crate) async fn recalled_or(
        &self,
        call: &Call,
        recall: CommandEnvelope,
        refused: Failure,
    ) -> Result<Reply, Failure> {
        self.recall(call, recall).await?.ok_or(refused)
    }

    /// As [`Shop::submit`], for what an offer is made of.
    pub(crate) async fn submit_offer(
        &self,
        call: &Call,
        envelope: CommandEnvelope,
    ) -> Result<Reply, Failure> {
        let stream = envelope.stream.clone();
        let reply = self.submit(call, envelope).await?;
        self.offers.changed(&stream, reply.position);
        Ok(reply)
    }

    /// What came before `record` on its stream, from the journal.
    pub(crate) async fn history_before(&self, record: &CommitRecord) -> Result<Vec<CommitRecord>, Failure> {
        let stream = &record.commit.stream;
        let deadline = Instant::now() + JOURNAL_PATIENCE;
        self.reads().wait_for(Projection::Journal, &[record.position], deadline).await?;
        let mut history =
            self.means.journal.load(std::slice::from_ref(stream)).await?.pop().unwrap_or_default();
        history.retain(|earlier| earlier.commit.first_version < record.commit.first_version);
        Ok(history)
    }

    /// Carries out several commands, each under a key that stands for it, and answers each in its place. Waits where a
    /// queue is full.
    pub(crate) async fn submit_claimed(
        &self,
        call: &Call,
        all: Vec<CommandEnvelope>,
    ) -> Vec<Result<Reply, Failure>> {
        let commands = self.means.commands.until(call.answer_by());
        let claimed = keys::all_claimed(&commands, all).await;
        let mut refused = Vec::new();
        let mut free = Vec::with_capacity(claimed.len());
        for (index, claimed) in claimed.into_iter().enumerate() {
            match claimed {
                Ok(envelope) => free.push(envelope),
                Err(error) => refused.push((index, error)),
            }
        }
        let mut answers = commands.submit_all(free).await;
        // In order, so that each is put where it belongs among those before it.
        for (index, error) in refused {
            answers.insert(index, Err(error));
        }
        answers.into_iter().map(|answer| answer.map_err(Failure::from)).collect()
    }

    /// The last event that this command led to, from the journal; `None` where it led to none.
    pub(crate) async fn led_to(
        &self,
        call: &Call,
        command: &CommandEnvelope,
        reply: &Reply,
    ) -> Result<Option<EventData>, Failure> {
        self.wait_for(call, Projection::Journal, &[reply.position]).await?;
        let journal = &self.means.journal;
        let found = async { Ok(journal.find(&command.stream, command.command_id).await?) };
        Ok(call.read_within(found).await?.and_then(|mut record| record.commit.events.pop()))
    }

    /// What each of these SKUs is sold for, in their order; `None` where no product is known to have it.
    pub(crate) async fn offers(&self, call: &Call, skus: &[Sku]) -> Result<Vec<Option<Arc<Offer>>>, Failure> {
        let mut offers = self.offers.of(&call.tenant, skus.iter());
        let missing = skus.iter().zip(&offers).filter(|(_, offer)| offer.is_none()).map(|(sku, _)| sku);
        let found = self.read_offers(call, missing.cloned().collect()).await?;
        for (sku, offer) in skus.iter().zip(&mut offers) {
            if offer.is_none() {
                *offer = found.get(sku).cloned();
            }
        }
        Ok(offers)
    }

    /// As [`Shop::offers`], from a catalogue that has everything that was answered before this call: whoever is told
    /// that a SKU does not exist must not have been told before that it does.
    pub(crate) async fn offers_now(
        &self,
        call: &Call,
        skus: &[Sku],
    ) -> Result<Vec<Option<Arc<Offer>>>, Failure> {
        let look = || async {
            self.catch_up(call, Projection::ProductView).await?;
            self.read_offers(call, skus.to_vec()).await
        };
        let found = self.reads().in_one_session(&[Projection::ProductView], look).await?;
        Ok(skus.iter().map(|sku| found.get(sku).cloned()).collect())
    }

    /// Waits until the catalogue has every change that this node knows of.
    pub(crate) async fn see_own_offers(&self, call: &Call) -> Result<(), Failure> {
        self.see_unasked(call, &[Projection::ProductView], &self.offers.changes()).await
    }

    async fn read_offers(
        &self,
        call: &Call,
        mut wanted: Vec<Sku>,
    ) -> Result<HashMap<Sku, Arc<Offer>>, Failure> {
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let reads = self.reads();
        let look = || async {
            // Whoever changed a price is charged that price.
            self.wait_for(call, Projection::ProductView, &self.offers.changes()).await?;
            let view = reads.progress().watch(Projection::ProductView).borrow().clone();
            let read = async { Ok(reads.offers(&call.tenant, &wanted).await?) };
            Ok::<_, Failure>((call.read_within(read).await?, view))
        };
        let (rows, view) = reads.in_one_session(&[Projection::ProductView], look).await?;
        let found: HashMap<_, _> =
            rows.into_iter().map(|row| (row.sku.clone(), Arc::new(Offer::from(row)))).collect();
        let keep = found.iter().map(|(sku, offer)| ((call.tenant.clone(), sku.clone()), offer.clone()));
        self.offers.keep(keep, &view);
        Ok(found)
    }
}

impl From<shopstream_projections::catalog::Offer> for Offer {
    fn from(row: shopstream_projections::catalog::Offer) -> Self {
        let price = |price: shopstream_projections::catalog::ListPrice| ListPrice {
            currency: price.currency,
            amount_minor: price.amount_minor,
            version: price.version,
        };
        Self {
            product_id: row.product_id,
            on_sale: row.status == ProductStatus::Published,
            prices: row.prices.into_iter().map(price).collect(),
        }
    }
}

impl From<Behind> for Failure {
    fn from(behind: Behind) -> Self {
        Self::Behind { model: behind.projection.name(), wanted: behind.wanted, reached: behind.next }
    }
}
