//! What all services share, and the few things that all of them do with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shopstream_command_handlers::{Clock, CommandEnvelope, Commands, Reply};
use shopstream_domain::{Partition, Sku, StreamId, Timestamp};
use shopstream_eventlog::writer::Fenced;
use shopstream_eventlog::{CommitRecord, Journal, Log, Position};
use shopstream_projections::catalog::ProductStatus;
use shopstream_projections::{Behind, Database, Projection, ReadModels};
use shopstream_proto::r#type::v1 as wire;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::Call;
use crate::failure::Failure;
use crate::health::ReadSide;
use crate::live::Live;
use crate::offers::{ListPrice, Offer, Offers};
use crate::positions::min_positions;
use crate::reservations::StockReservations;

/// What the gateway stands on; made by the server.
#[derive(Clone)]
pub struct Means {
    /// The way to change something.
    pub commands: Commands,
    /// The way to see something.
    pub reads: ReadModels,
    /// What the views are kept in, for whoever checks them.
    pub database: Database,
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
    /// How long things take by policy.
    pub policy: Policy,
    /// Whether clients are served; otherwise only the other nodes are.
    pub takes_calls: bool,
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
}

impl Default for Policy {
    fn default() -> Self {
        Self { hold_seconds: 30 * 60, hold_seconds_max: 24 * 60 * 60, calls_max: 1024 }
    }
}

/// The shop behind the services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) means: Arc<Means>,
    pub(crate) live: Live,
    offers: Arc<Offers>,
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
        Self { means: Arc::new(means), live, offers }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.means.clock.now()
    }

    pub(crate) fn reads(&self) -> &ReadModels {
        &self.means.reads
    }

    /// Carries one command out.
    pub(crate) async fn submit(&self, call: &Call, envelope: CommandEnvelope) -> Result<Reply, Failure> {
        let commands = self.means.commands.until(call.answer_by());
        call.within(async { Ok(commands.submit(envelope).await?) }).await
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

    /// Waits until a view has what the caller has seen.
    pub(crate) async fn see(
        &self,
        call: &Call,
        projection: Projection,
        min_position: &[wire::Position],
    ) -> Result<(), Failure> {
        let positions = min_positions(min_position, self.means.commands.partitions())?;
        self.wait_for(call, projection, &positions).await
    }

    /// Waits until a view has everything that was confirmed when this is called, by whichever node: what it does not
    /// show afterwards did not happen before.
    pub(crate) async fn catch_up(&self, call: &Call, projection: Projection) -> Result<(), Failure> {
        let confirmed = self.confirmed(call, 0..self.means.commands.partitions()).await?;
        self.wait_for(call, projection, &confirmed).await
    }

    /// As [`Shop::catch_up`], for what this stream's partition holds.
    pub(crate) async fn catch_up_on(
        &self,
        call: &Call,
        projection: Projection,
        stream: &StreamId,
    ) -> Result<(), Failure> {
        let partition = stream.partition(self.means.commands.partitions());
        let confirmed = self.confirmed(call, [partition]).await?;
        self.wait_for(call, projection, &confirmed).await
    }

    async fn confirmed(
        &self,
        call: &Call,
        partitions: impl IntoIterator<Item = Partition>,
    ) -> Result<Vec<Position>, Failure> {
        let commands = self.means.commands.until(call.answer_by());
        call.read_within(async { Ok(commands.confirmed(partitions).await?) }).await
    }

    pub(crate) async fn wait_for(
        &self,
        call: &Call,
        projection: Projection,
        positions: &[Position],
    ) -> Result<(), Failure> {
        Ok(self.reads().wait_for(projection, positions, call.answer_by()).await?)
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

    /// Whether this command was carried out before, so that its stored answer is the one to give.
    pub(crate) async fn done_before(&self, call: &Call, command: &CommandEnvelope) -> Result<bool, Failure> {
        self.catch_up_on(call, Projection::Journal, &command.stream).await?;
        let journal = &self.means.journal;
        let found = async { Ok(journal.find(&command.stream, command.command_id).await?) };
        Ok(call.read_within(found).await?.is_some())
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
        self.catch_up(call, Projection::ProductView).await?;
        let found = self.read_offers(call, skus.to_vec()).await?;
        Ok(skus.iter().map(|sku| found.get(sku).cloned()).collect())
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
        // Whoever changed a price is charged that price.
        self.wait_for(call, Projection::ProductView, &self.offers.changes()).await?;
        let view = self.reads().progress().watch(Projection::ProductView).borrow().clone();
        let rows = call.read_within(async { Ok(self.reads().offers(&call.tenant, &wanted).await?) }).await?;
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
