//! The shard over a simulated log: real claims, real appends, faults on command.

mod requests;
mod snapshots;

use std::sync::Arc;

use async_trait::async_trait;
use shopstream_command_handlers::testing::{ManualClock, MemoryJournal, options};
use shopstream_command_handlers::{
    Clock, CommandEnvelope, CommandError, Commands, Options, Origin, PartitionState, Reply, Shards, body_hash,
};
use shopstream_domain::inventory::StockCommand;
use shopstream_domain::payment::Command as PaymentCommand;
use shopstream_domain::pricing::PriceCommand;
use shopstream_domain::{
    Currency, LocationId, OrderId, Partition, Quantity, RefusalFamily, ReservationId, Sku, StreamId,
    TenantId, Timestamp,
};
use shopstream_eventlog::raw::RawError;
use shopstream_eventlog::sim::SimLog;
use shopstream_eventlog::writer::Identity;
use shopstream_eventlog::{CommandId, CommitRecord, Cursor, Journal, JournalError, Log, LogId, Offset};
use tokio::sync::watch;

/// A shop of one partition over a simulated log.
struct Shop {
    sim: SimLog,
    log: Log,
    journal: Arc<MemoryJournal>,
    shards: Shards,
    commands: Commands,
}

impl Shop {
    async fn open() -> Self {
        Self::with(options()).await
    }

    async fn with(options: Options) -> Self {
        let sim = SimLog::new(1);
        let log = Log::create(Arc::new(sim.clone()), LogId(uuid::Uuid::from_u128(7)), 1).await.unwrap();
        let journal = MemoryJournal::follow(&log);
        Self::over(sim, log, journal, options).await
    }

    async fn over(sim: SimLog, log: Log, journal: Arc<MemoryJournal>, options: Options) -> Self {
        let shards = start(&log, &journal, &options);
        assert_eq!(shards.ready().await, []);
        let commands = shards.commands();
        Self { sim, log, journal, shards, commands }
    }

    /// Another process over the same log and journal, after this one stopped in order.
    async fn restart(self) -> Self {
        self.restart_with(options()).await
    }

    async fn restart_with(self, options: Options) -> Self {
        let Self { sim, log, journal, shards, .. } = self;
        shards.stop().await;
        Self::over(sim, log, journal, options).await
    }

    async fn send(&self, envelope: CommandEnvelope) -> Result<Reply, CommandError> {
        self.commands.submit(envelope).await
    }
}

fn start(log: &Log, journal: &Arc<MemoryJournal>, options: &Options) -> Shards {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_seconds(1_700_000_000)));
    let journal: Arc<dyn Journal> = journal.clone();
    let identity = Identity { node: "test".into(), address: "127.0.0.1:1".into() };
    Shards::start(log, &journal, &clock, &identity, options)
}

fn sku() -> Sku {
    Sku::new("85123A").unwrap()
}

fn envelope(request: &str, command: StockCommand) -> CommandEnvelope {
    let stream = sku().stock_stream(&TenantId::default_tenant(), &LocationId::main());
    let body_hash = body_hash(&serde_json::to_vec(&command).unwrap());
    let none: Arc<str> = "".into();
    let origin = Origin {
        actor: "test".into(),
        correlation_id: none.clone(),
        causation_id: none.clone(),
        traceparent: none,
    };
    CommandEnvelope {
        command_id: CommandId::derive(&[stream.as_str(), request]),
        stream,
        body_hash,
        expected_version: None,
        effective_at: None,
        origin,
        command: command.into(),
        request: None,
    }
}

fn receive(request: &str, units: i64) -> CommandEnvelope {
    let quantity = Quantity::new(units).unwrap();
    envelope(
        request,
        StockCommand::Receive { sku: sku(), location: LocationId::main(), quantity, reference: None },
    )
}

fn reserve(request: &str, reservation: &str, units: i64) -> CommandEnvelope {
    let (reservation_id, quantity) =
        (ReservationId::new(reservation).unwrap(), Quantity::new(units).unwrap());
    envelope(request, StockCommand::Reserve { reservation_id, quantity })
}

#[tokio::test(start_paused = true)]
async fn a_command_is_answered_with_its_version_place_and_outcome() {
    let shop = Shop::open().await;
    let received = shop.send(receive("r1", 10)).await.unwrap();
    assert_eq!((received.version, received.outcome, received.repeated), (1, Some("StockReceived"), false));
    let held = shop.send(reserve("r2", "res_1", 4)).await.unwrap();
    assert_eq!((held.version, held.outcome), (2, Some("StockReserved")));
    assert_eq!(held.position.offset, received.position.offset + 1);
    let short = shop.send(reserve("r3", "res_2", 7)).await.unwrap();
    assert_eq!(short.outcome, Some("StockReservationRejected"));
}

#[tokio::test(start_paused = true)]
async fn the_same_request_has_one_effect_and_the_same_answer() {
    let shop = Shop::open().await;
    let first = shop.send(receive("r1", 10)).await.unwrap();
    let again = shop.send(receive("r1", 10)).await.unwrap();
    assert_eq!(Reply { repeated: true, ..first }, again);
    let other = shop.send(receive("r1", 11)).await;
    assert!(matches!(other, Err(CommandError::RequestReused { .. })), "{other:?}");
    assert_eq!(shop.send(receive("r2", 1)).await.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_known_after_a_restart_and_after_many_other_commands() {
    let shop = Shop::open().await;
    let first = shop.send(receive("r0", 10)).await.unwrap();
    for n in 1..200 {
        shop.send(receive(&format!("r{n}"), 1)).await.unwrap();
    }
    // Beyond the 64 that are remembered exactly: the journal is asked.
    assert_eq!(shop.send(receive("r0", 10)).await.unwrap(), Reply { repeated: true, ..first });
    let shop = shop.restart().await;
    assert_eq!(shop.send(receive("r0", 10)).await.unwrap(), Reply { repeated: true, ..first });
    let reused = shop.send(receive("r0", 11)).await;
    assert!(matches!(reused, Err(CommandError::RequestReused { .. })), "{reused:?}");
    assert_eq!(shop.send(receive("r200", 1)).await.unwrap().version, 201);
}

#[tokio::test(start_paused = true)]
async fn a_cold_aggregate_is_loaded_from_journal_and_tail_together() {
    let shop = Shop::open().await;
    for n in 0..5 {
        shop.send(receive(&format!("a{n}"), 1)).await.unwrap();
    }
    // From here on the journal lags: these five are only in the owner's tail.
    shop.journal.pause();
    for n in 0..5 {
        shop.send(receive(&format!("b{n}"), 1)).await.unwrap();
    }
    let shop = shop.restart().await;
    let reply = shop.send(reserve("r", "res_1", 10)).await.unwrap();
    assert_eq!((reply.version, reply.outcome), (11, Some("StockReserved")));
}

/// A journal that answers about its streams, and with histories, when it is let.
struct Gated {
    journal: Arc<MemoryJournal>,
    streams: watch::Sender<bool>,
    loads: watch::Sender<bool>,
    asked: watch::Sender<bool>,
}

async fn open(gate: &watch::Sender<bool>) {
    // The sender lives in the journal that is asked.
    let _ = gate.subscribe().wait_for(|open| *open).await;
}

#[async_trait]
impl Journal for Gated {
    async fn load(&self, streams: &[StreamId]) -> Result<Vec<Vec<CommitRecord>>, JournalError> {
        let history = self.journal.load(streams).await;
        self.asked.send_replace(true);
        open(&self.loads).await;
        history
    }

    async fn find(&self, stream: &StreamId, id: CommandId) -> Result<Option<CommitRecord>, JournalError> {
        self.journal.find(stream, id).await
    }

    async fn cursor(&self, partition: Partition) -> Result<Option<Cursor>, JournalError> {
        self.journal.cursor(partition).await
    }

    async fn streams(
        &self,
        partition: Partition,
        each: &mut (dyn for<'s> FnMut(&'s str) + Send),
    ) -> Result<(), JournalError> {
        open(&self.streams).await;
        self.journal.streams(partition, each).await
    }

    fn progress(&self) -> watch::Receiver<Vec<Offset>> {
        self.journal.progress()
    }
}

/// Until nobody has anything more to do: only then does the clock of a test move on.
async fn idle() {
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_being_loaded_is_not_taken_for_new_meanwhile() {
    let Shop { sim, log, journal, shards, .. } = Shop::open().await;
    shards.stop().await;
    let shut = || watch::Sender::new(false);
    let gated = Arc::new(Gated { journal: journal.clone(), streams: shut(), loads: shut(), asked: shut() });
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_seconds(1_700_000_000)));
    let identity = Identity { node: "test".into(), address: "127.0.0.1:1".into() };
    let asked: Arc<dyn Journal> = gated.clone();
    let shards = Shards::start(&log, &asked, &clock, &identity, &options());
    assert_eq!(shards.ready().await, []);
    let send = || {
        let commands = shards.commands();
        tokio::spawn(async move { commands.submit(receive("r1", 10)).await.unwrap() })
    };
    let first = send();
    open(&gated.asked).await;
    gated.streams.send_replace(true);
    idle().await;
    sim.faults().pause(0);
    let again = send();
    idle().await;
    gated.loads.send_replace(true);
    idle().await;
    sim.faults().resume(0);
    let (first, again) = (first.await.unwrap(), again.await.unwrap());
    assert_eq!((first.version, first.repeated), (1, false));
    assert_eq!(again, Reply { repeated: true, ..first }, "one effect, and the same answer");
    shards.stop().await;
}

#[tokio::test(start_paused = true)]
async fn eviction_loses_nothing() {
    let shop = Shop::with(Options { cache_bytes: 1, ..options() }).await;
    for n in 0..20 {
        assert_eq!(shop.send(receive(&format!("r{n}"), 1)).await.unwrap().version, n + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_expected_version_is_told_the_real_one() {
    let shop = Shop::open().await;
    shop.send(receive("r1", 1)).await.unwrap();
    let stale = shop.send(CommandEnvelope { expected_version: Some(0), ..receive("r2", 1) }).await;
    assert!(matches!(stale, Err(CommandError::StaleVersion { expected: 0, actual: 1, .. })), "{stale:?}");
    let fresh = CommandEnvelope { expected_version: Some(1), ..receive("r3", 1) };
    assert_eq!(shop.send(fresh).await.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_error_that_appends_nothing() {
    let shop = Shop::open().await;
    let mut price = receive("r1", 1);
    price.stream = sku().price_stream(&TenantId::default_tenant(), Currency::GBP);
    let (amount_minor, currency) = (-1, Currency::GBP);
    price.command = PriceCommand::Set { sku: sku(), amount_minor, currency, reason: None }.into();
    let records = shop.sim.faults().records(0).len();
    let refused = shop.send(price).await;
    let Err(CommandError::Refused(refused)) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.family, RefusalFamily::Invalid);
    assert_eq!(shop.sim.faults().records(0).len(), records);
}

/// Whoever gave the command, and whether or not an aggregate looks at the text.
#[tokio::test(start_paused = true)]
async fn a_text_that_not_every_reader_of_the_log_holds_is_not_appended() {
    let shop = Shop::open().await;
    shop.send(receive("r1", 10)).await.unwrap();
    let payment_id = OrderId::new("ord_1").unwrap().payment(1);
    let payment = |request: &str, command: PaymentCommand| CommandEnvelope {
        stream: payment_id.stream(&TenantId::default_tenant()),
        command: command.into(),
        ..receive(request, 1)
    };
    let initiate = PaymentCommand::Initiate {
        payment_id: payment_id.clone(),
        order_id: OrderId::new("ord_1").unwrap(),
        amount_minor: 100,
        currency: Currency::GBP,
        method_token: "tok_approve".to_owned(),
    };
    shop.send(payment("r2", initiate)).await.unwrap();
    let records = shop.sim.faults().records(0).len();
    // The payment takes the reason as it is: the process that gives it has looked.
    let settle = PaymentCommand::Settle { reason: "paid\0by hand".to_owned() };
    let mut actor = receive("r4", 1);
    actor.origin.actor = "ann\0".into();
    let mut cause = receive("r5", 1);
    cause.origin.causation_id = "c\u{202E}".into();
    for (envelope, field) in [(payment("r3", settle), "command"), (actor, "actor"), (cause, "causation_id")] {
        let refused = shop.send(envelope).await;
        let Err(CommandError::Refused(refused)) = refused else { panic!("{field}: {refused:?}") };
        assert_eq!((&*refused.reason, refused.family), ("TEXT_INVALID", RefusalFamily::Invalid));
        assert_eq!(refused.field.as_deref(), Some(field));
    }
    assert_eq!(shop.sim.faults().records(0).len(), records);
    assert_eq!(shop.send(receive("r6", 1)).await.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_append_is_not_applied_and_its_retry_is() {
    let shop = Shop::open().await;
    shop.sim.faults().lose(0);
    assert_eq!(shop.send(receive("r1", 10)).await, Err(CommandError::NotApplied));
    let again = shop.send(receive("r1", 10)).await.unwrap();
    assert_eq!((again.version, again.repeated), (1, false));
}

#[tokio::test(start_paused = true)]
async fn an_append_whose_answer_was_lost_is_answered_with_success() {
    let shop = Shop::open().await;
    shop.sim.faults().lose_ack(0);
    let reply = shop.send(receive("r1", 10)).await.unwrap();
    assert_eq!((reply.version, reply.repeated), (1, false));
    assert!(shop.send(receive("r1", 10)).await.unwrap().repeated);
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_on_a_lost_append_is_lost_with_it() {
    let shop = Shop::open().await;
    shop.sim.faults().lose(0);
    let all = vec![receive("r1", 10), reserve("r2", "res_1", 4), reserve("r3", "res_2", 99)];
    let replies = shop.commands.submit_all(all).await;
    assert_eq!(replies, vec![Err(CommandError::NotApplied); 3]);
    let short = shop.send(reserve("r2", "res_1", 4)).await.unwrap();
    assert_eq!(short.outcome, Some("StockReservationRejected"), "the stock was never received");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_doubt_that_lasts_is_told_what_it_is() {
    let shop = Shop::open().await;
    let full = || RawError::DiskFull { path: "/log".to_owned() };
    // As many as there will be tries to claim, and more.
    (0..1_000).for_each(|_| shop.sim.faults().fail(0, full()));
    let commands = shop.commands.clone();
    let doubtful = tokio::spawn(async move { commands.submit(receive("r1", 1)).await });
    idle().await;
    for request in ["r2", "r3"] {
        let told = shop.send(receive(request, 1)).await;
        let names_the_way_out = |detail: &str| detail.contains("free some space");
        assert!(
            matches!(&told, Err(CommandError::Unavailable { detail, .. }) if names_the_way_out(detail)),
            "{told:?}"
        );
    }
    assert!(!doubtful.is_finished(), "nobody knows yet");
    shop.sim.faults().heal();
    assert_eq!(doubtful.await.unwrap(), Err(CommandError::NotApplied));
    assert_eq!(shop.send(receive("r2", 1)).await.unwrap().version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_owner_fences_the_first_which_then_says_who() {
    let shop = Shop::open().await;
    shop.send(receive("r1", 10)).await.unwrap();
    let successor = start(&shop.log, &shop.journal, &options());
    assert_eq!(successor.ready().await, []);
    let fenced = loop {
        // The first owner notices as soon as it reads the claim; until then it may still try, in vain.
        match shop.send(receive("r2", 1)).await {
            Err(CommandError::NotOwner { owner, .. }) => break owner,
            other => assert!(matches!(other, Err(CommandError::NotApplied)), "{other:?}"),
        }
    };
    assert_eq!(fenced.map(|owner| owner.to_string()).as_deref(), Some("test at 127.0.0.1:1"));
    assert!(matches!(shop.commands.status()[0].state, PartitionState::Fenced { .. }));
    let reply = successor.commands().submit(reserve("r3", "res_1", 10)).await.unwrap();
    assert_eq!((reply.version, reply.outcome), (2, Some("StockReserved")));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_log_halts_the_partition_and_nothing_is_acknowledged() {
    let shop = Shop::open().await;
    for n in 0..5 {
        shop.send(receive(&format!("r{n}"), 1)).await.unwrap();
    }
    let end = shop.sim.faults().records(0).len() as u64;
    let mut progress = shop.journal.progress();
    progress.wait_for(|next| next[0] == end).await.unwrap();
    let Shop { sim, log, journal, shards, .. } = shop;
    shards.stop().await;
    sim.faults().truncate(0, end - 3);
    let shards = start(&log, &journal, &options());
    let idle = shards.ready().await;
    assert!(matches!(idle[0].state, PartitionState::Halted { .. }), "{idle:?}");
    let refused = shards.commands().submit(receive("r9", 1)).await;
    assert!(matches!(refused, Err(CommandError::Halted { .. })), "{refused:?}");
}

/// The journal has not got as far as what is gone, so from where it is nothing seems to be missing.
#[tokio::test(start_paused = true)]
async fn a_log_truncated_behind_a_slow_journal_halts_the_partition() {
    let shop = Shop::open().await;
    shop.send(receive("r1", 1)).await.unwrap();
    let faults = shop.sim.faults();
    let mut progress = shop.journal.progress();
    let end = faults.records(0).len() as u64;
    progress.wait_for(|next| next[0] == end).await.unwrap();
    shop.journal.pause();
    for n in 2..5 {
        shop.send(receive(&format!("r{n}"), 1)).await.unwrap();
    }
    faults.truncate(0, end + 1);
    let refused = shop.send(receive("r9", 1)).await;
    assert!(matches!(refused, Err(CommandError::Halted { .. })), "{refused:?}");
    assert!(matches!(shop.commands.status()[0].state, PartitionState::Halted { .. }));
    assert_eq!(faults.records(0).len() as u64, end + 1, "nothing was appended behind the gap");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_is_away_refuses_cold_aggregates_and_serves_hot_ones() {
    let shop = Shop::open().await;
    shop.send(receive("r1", 10)).await.unwrap();
    let shop = shop.restart().await;
    shop.journal.set_away(true);
    let cold = shop.send(receive("r2", 1)).await;
    assert!(matches!(cold, Err(CommandError::Unavailable { .. })), "{cold:?}");
    shop.journal.set_away(false);
    assert_eq!(shop.send(receive("r2", 1)).await.unwrap().version, 2);
    shop.journal.set_away(true);
    assert_eq!(shop.send(receive("r3", 1)).await.unwrap().version, 3);
}

#[tokio::test(start_paused = true)]
async fn a_stop_answers_everybody() {
    let shop = Shop::open().await;
    let commands = shop.commands.clone();
    let waiting = tokio::spawn(async move {
        commands.submit_all((0..500).map(|n| receive(&format!("r{n}"), 1)).collect()).await
    });
    tokio::task::yield_now().await;
    shop.shards.stop().await;
    let replies = waiting.await.unwrap();
    let (done, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(Result::is_ok);
    assert!(refused.iter().all(|reply| {
        matches!(reply, Err(CommandError::Unavailable { .. } | CommandError::NotOwner { .. }))
    }));
    let counted = shop.journal.history(&receive("r0", 1).stream).len();
    assert!(counted >= done.len(), "{counted} commits count, {} were acknowledged", done.len());
}
