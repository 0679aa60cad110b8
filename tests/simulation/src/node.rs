//! One node: its way to the log, its shards, its projector, its processes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use shopstream_command_handlers::{Clock, Commands, Options, Origin, PartitionState, Shards};
use shopstream_domain::inventory::{Allocation, ReleaseReason};
use shopstream_domain::{ReservationId, TenantId};
use shopstream_eventlog::sim::SimLog;
use shopstream_eventlog::writer::Identity;
use shopstream_eventlog::{Journal, Log, LogError};
use shopstream_gateway::{Gateway, Hold, Means, Policy, ReservationError, StockReservations};
use shopstream_projections::{Progress, ReadModels};
use shopstream_proto::admin::v1::DescribeNodeResponse;
use shopstream_sagas::{HoldRequest, Parts, Sagas, Settings, Status, StockError, StockFanOut};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::callers::{Door, Entrance};
use crate::database::{Database, Reader, follow, tell};
use crate::gate::{Gate, GatedLog};
use crate::provider::Provider;

/// Between two looks at whether the partitions are claimed.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What outlives a node, and how nodes are set up.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) log: SimLog,
    pub(crate) database: Database,
    pub(crate) provider: Provider,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    /// Bytes that journal and views read at once.
    pub(crate) batch_bytes: usize,
}

pub(crate) struct Node {
    number: u32,
    pub(crate) gate: Gate,
    shards: Shards,
    projector: Vec<JoinHandle<()>>,
    door: Arc<OnceLock<Door>>,
    processes: JoinHandle<()>,
    running: Arc<Mutex<Option<Running>>>,
    restart: Arc<Notify>,
    stop: CancellationToken,
}

/// The processes, once they have begun.
#[derive(Clone)]
struct Running {
    status: tokio::sync::watch::Receiver<Status>,
    stock: StockFanOut,
}

impl Node {
    /// Starts a node, which claims every partition as soon as it can.
    ///
    /// # Errors
    /// The log is not one.
    pub(crate) async fn start(number: u32, around: &Surroundings) -> Result<Self, LogError> {
        let gate = Gate::default();
        let log = Log::open(Arc::new(GatedLog { log: around.log.clone(), gate: gate.clone() })).await?;
        let journal: Arc<dyn Journal> = Arc::new(around.database.clone());
        let identity = Identity { node: format!("n{number}"), address: String::new() };
        let shards = Shards::start(&log, &journal, &around.clock, &identity, &around.options);
        let mut projector: Vec<_> = Reader::FOLLOWERS
            .map(|who| tokio::spawn(follow(around.database.clone(), log.clone(), who, around.batch_bytes)))
            .into();
        let (running, restart, stop) = (Arc::default(), Arc::<Notify>::default(), CancellationToken::new());
        let progress = Progress::new(log.partitions());
        projector.extend(
            Reader::FOLLOWERS.map(|who| tokio::spawn(tell(around.database.clone(), who, progress.clone()))),
        );
        let gateway = Gateway::new(Means {
            commands: shards.commands(),
            reads: ReadModels::in_memory(Arc::new(around.database.clone()), progress),
            database: None,
            journal: journal.clone(),
            log: log.clone(),
            backend: "sim",
            reservations: Arc::new(Reservations(Arc::clone(&running))),
            clock: around.clock.clone(),
            read_side: Arc::new(|| true),
            describe: Arc::new(DescribeNodeResponse::default),
            policy: Policy::default(),
            takes_calls: true,
            has_peers: false,
            stop: stop.clone(),
        });
        let door = Arc::new(OnceLock::new());
        let opens = door.clone();
        projector.push(tokio::spawn(async move {
            let gateway = gateway.expect("the services of this program");
            // Nobody else opens it.
            let _ = opens.set(gateway.in_process().await);
        }));
        let parts = Parts {
            log,
            commands: shards.commands(),
            journal,
            store: Arc::new(around.database.clone()),
            provider: Arc::new(around.provider.clone()),
            clock: around.clock.clone(),
            settings: around.settings.clone(),
        };
        let processes = Processes { parts, running: Arc::clone(&running), restart: restart.clone() };
        let processes = tokio::spawn(processes.run(stop.clone()));
        Ok(Self { number, gate, shards, projector, door, processes, running, restart, stop })
    }

    /// Where callers come in; empty until it opens.
    pub(crate) fn entrance(&self) -> Entrance {
        Entrance { node: self.number, door: self.door.clone() }
    }

    pub(crate) fn commands(&self) -> Commands {
        self.shards.commands()
    }

    /// Breaks off the processes alone and starts them again.
    pub(crate) fn restart_processes(&self) {
        self.restart.notify_one();
    }

    /// How the processes are; `None` before they have begun.
    pub(crate) fn processes(&self) -> Option<Status> {
        self.running().map(|running| running.status.borrow().clone())
    }

    /// The fan-out over stock items; `None` before the processes have begun.
    pub(crate) fn stock(&self) -> Option<StockFanOut> {
        self.running().map(|running| running.stock)
    }

    fn running(&self) -> Option<Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn serves_everything(&self) -> bool {
        self.commands().status().iter().all(|partition| partition.state == PartitionState::Serving)
    }

    pub(crate) fn is_fenced(&self) -> bool {
        let fenced = |state: &PartitionState| matches!(state, PartitionState::Fenced { .. });
        self.commands().status().iter().any(|partition| fenced(&partition.state))
    }

    /// What must never be seen, whatever the log loses or doubles.
    pub(crate) fn is_halted(&self) -> Option<String> {
        self.commands().status().into_iter().find_map(|partition| match partition.state {
            PartitionState::Halted { cause } => Some(format!("partition {}: {cause}", partition.partition)),
            _ => None,
        })
    }

    /// Everything in memory is gone at once.
    pub(crate) async fn crash(self) {
        self.stop.cancel();
        self.projector.iter().for_each(JoinHandle::abort);
        self.shards.crash().await;
        // It ends by the token; a panic in there is told by the work that stays undone.
        let _ = self.processes.await;
    }

    /// Stops in order.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let _ = self.processes.await;
        self.shards.stop().await;
        self.projector.iter().for_each(JoinHandle::abort);
    }
}

/// The gateway's way to the processes that hold stock.
struct Reservations(Arc<Mutex<Option<Running>>>);

impl Reservations {
    fn stock(&self) -> Result<StockFanOut, ReservationError> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let away = || ReservationError::Unavailable { detail: "no processes run here".to_owned() };
        running.map(|running| running.stock).ok_or_else(away)
    }
}

#[async_trait]
impl StockReservations for Reservations {
    async fn reserve(&self, hold: Hold, origin: Origin) -> Result<Allocation, ReservationError> {
        let Hold { tenant, reservation_id, keys, hold_seconds, hard_max_seconds } = hold;
        let request = HoldRequest { tenant, reservation_id, keys, hold_seconds, hard_max_seconds };
        self.stock()?.reserve(request, &origin).await.map_err(reservation_error)
    }

    async fn release(
        &self,
        tenant: TenantId,
        reservation_id: ReservationId,
        reason: ReleaseReason,
        origin: Origin,
    ) -> Result<(), ReservationError> {
        self.stock()?.release(&tenant, &reservation_id, reason, &origin).await.map_err(reservation_error)
    }
}

fn reservation_error(error: StockError) -> ReservationError {
    match error {
        StockError::Refused(refused) => ReservationError::Refused(refused),
        StockError::Unavailable { detail } => ReservationError::Unavailable { detail },
    }
}

/// The processes of a node, as the server drives them: once the partitions are claimed, until another node owns one.
struct Processes {
    parts: Parts,
    running: Arc<Mutex<Option<Running>>>,
    restart: Arc<Notify>,
}

impl Processes {
    async fn run(self, stop: CancellationToken) {
        let claimed = async {
            while self.parts.commands.status().iter().any(|it| it.state == PartitionState::Claiming) {
                sleep(LOOK_AGAIN).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = claimed => {}
        }
        loop {
            let sagas = Sagas::start(self.parts.clone());
            self.set(Some(Running { status: sagas.status(), stock: sagas.stock() }));
            let again = tokio::select! {
                biased;
                () = stop.cancelled() => false,
                _ = self.parts.commands.fenced() => false,
                () = self.restart.notified() => true,
            };
            sagas.stop().await;
            if !again {
                return self.set(None);
            }
        }
    }

    fn set(&self, running: Option<Running>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }
}
