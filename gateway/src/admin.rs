//! AdminService: what operators ask of a running node.

mod parked;

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use shopstream_eventlog::{Cursor, Position};
use shopstream_projections::{Checkpoint, Difference, Digest, Keeper, Projection, RebuildError};
use shopstream_proto::Validate;
use shopstream_proto::admin::v1::admin_service_server::AdminService;
use shopstream_proto::admin::v1::verify_read_models_response::Event;
use shopstream_proto::admin::v1::{
    DescribeNodeRequest, DescribeNodeResponse, ExplainParkedAggregateRequest, ExplainParkedAggregateResponse,
    ListParkedAggregatesRequest, ListParkedAggregatesResponse, ListSkippedEventsRequest,
    ListSkippedEventsResponse, ReplayProgress, ReplayVerdict, RetryParkedAggregateRequest,
    RetryParkedAggregateResponse, SkipParkedEventRequest, SkipParkedEventResponse, VerifyReadModelsRequest,
    VerifyReadModelsResponse,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::failure::{Crowd, Failure};
use crate::shares::refused;
use crate::shop::Shop;

/// The epoch of tables that are only compared. Real ones count from 1.
const SCRATCH: u32 = 1_000_000;
/// Reports that wait for a slow client; the replay waits with them.
const REPORTS: usize = 16;
/// How long one waits for those who compare before it.
const TURN: Duration = Duration::from_secs(20);
/// How much of a row that differs is shown.
const ROW_CHARS: usize = 1_000;
/// What the verdict on the processes is named.
const PROCESSES: &str = "processes";
/// Between two looks at how far the processes are.
const LOOK: Duration = Duration::from_millis(50);

/// What a node says of itself.
pub type Describe = Arc<dyn Fn() -> DescribeNodeResponse + Send + Sync>;

/// The service.
pub(crate) struct Admin {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl AdminService for Admin {
    type VerifyReadModelsStream = BoxStream<'static, Result<VerifyReadModelsResponse, Status>>;

    async fn verify_read_models(
        &self,
        request: Request<VerifyReadModelsRequest>,
    ) -> Result<Response<Self::VerifyReadModelsStream>, Status> {
        let request = request.into_inner();
        request.validate().map_err(Failure::from)?;
        let projections = named(&request.names)?;
        let (reports, stream) = mpsc::channel(REPORTS);
        let shop = self.shop.clone();
        // All of them replay into the same tables.
        let turn = timeout(TURN, shop.replays.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            refused("stream", "replays");
            return Err(Failure::Crowded(Crowd::Replays).into());
        };
        tokio::spawn(async move {
            let _turn = turn;
            let ends = if request.to_the_end { ends(&shop).await.map(Some) } else { Ok(None) };
            let ends = match ends {
                Ok(ends) => ends,
                // Nobody may listen any more.
                Err(failure) => return drop(reports.send(Err(failure.into())).await),
            };
            if let Some(ends) = &ends {
                let verdict = processes(&shop, ends).await.map_err(Status::from);
                let failed = verdict.is_err();
                if reports.send(verdict.map(|verdict| named_response(PROCESSES, verdict))).await.is_err()
                    || failed
                {
                    return;
                }
            }
            for projection in projections {
                let verdict = verify(&shop, projection, ends.as_deref(), &reports).await;
                let failed = verdict.is_err();
                let answer = verdict
                    .map(|verdict| response(projection, Event::Verdict(verdict)))
                    .map_err(Status::from);
                // Nobody listens any more: the rest would be for nothing.
                if reports.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream).boxed()))
    }

    async fn list_parked_aggregates(
        &self,
        request: Request<ListParkedAggregatesRequest>,
    ) -> Result<Response<ListParkedAggregatesResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(parked::list(&self.shop, &call, request.into_inner()).await?))
    }

    async fn explain_parked_aggregate(
        &self,
        request: Request<ExplainParkedAggregateRequest>,
    ) -> Result<Response<ExplainParkedAggregateResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(parked::explain(&self.shop, &call, &request.into_inner()).await?))
    }

    async fn retry_parked_aggregate(
        &self,
        request: Request<RetryParkedAggregateRequest>,
    ) -> Result<Response<RetryParkedAggregateResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(parked::retry(&self.shop, &call, &request.into_inner()).await?))
    }

    async fn skip_parked_event(
        &self,
        request: Request<SkipParkedEventRequest>,
    ) -> Result<Response<SkipParkedEventResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(parked::skip(&self.shop, &call, request.into_inner()).await?))
    }

    async fn list_skipped_events(
        &self,
        request: Request<ListSkippedEventsRequest>,
    ) -> Result<Response<ListSkippedEventsResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(parked::skipped(&self.shop, &call, request.into_inner()).await?))
    }

    async fn describe_node(
        &self,
        request: Request<DescribeNodeRequest>,
    ) -> Result<Response<DescribeNodeResponse>, Status> {
        Call::of(request.metadata())?;
        Ok(Response::new((self.shop.means.describe)()))
    }
}

fn named(names: &[String]) -> Result<Vec<Projection>, Failure> {
    if names.is_empty() {
        return Ok(Projection::ALL.to_vec());
    }
    let named = |(index, name): (usize, &String)| {
        Projection::from_name(name).ok_or_else(|| {
            Failure::invalid(format!("names[{index}]"), format!("there is no read model {name:?}"))
        })
    };
    names.iter().enumerate().map(named).collect()
}

/// Where the log ends now, by partition.
async fn ends(shop: &Shop) -> Result<Vec<Cursor>, Failure> {
    let log = &shop.means.log;
    let mut ends = Vec::new();
    for partition in 0..log.partitions() {
        let next = log.end(partition).await.map_err(|_| Failure::Away { what: "the log" })?;
        ends.push(Cursor { next, ..log.start(partition) });
    }
    Ok(ends)
}

/// Whether the processes have read to the end, given some time.
async fn processes(shop: &Shop, ends: &[Cursor]) -> Result<ReplayVerdict, Failure> {
    let checkpoint = Checkpoint { reader: Keeper::Sagas.name(), epoch: 1 };
    let deadline = Instant::now() + shop.means.policy.catch_up;
    loop {
        let found = checkpoint.load(shop.database()?).await?;
        let next =
            |end: &Cursor| found.iter().find(|it| it.partition == end.partition).map_or(0, |it| it.next);
        let Some(end) = ends.iter().find(|end| next(end) < end.next) else {
            return Ok(ReplayVerdict { equal: true, ..ReplayVerdict::default() });
        };
        if Instant::now() >= deadline {
            let (partition, next, end) = (end.partition, next(end), end.next);
            let difference =
                format!("they have read partition {partition} up to offset {next}, and it ends at {end}");
            return Ok(ReplayVerdict { equal: false, difference, ..ReplayVerdict::default() });
        }
        sleep(LOOK).await;
    }
}

/// Replays a projection into tables of its own, up to where the live one is or to these `ends`, and compares the two.
async fn verify(
    shop: &Shop,
    projection: Projection,
    ends: Option<&[Cursor]>,
    reports: &mpsc::Sender<Result<VerifyReadModelsResponse, Status>>,
) -> Result<ReplayVerdict, Failure> {
    let database = shop.database()?;
    if let Some(ends) = ends {
        let last =
            |end: &Cursor| Some(Position { partition: end.partition, offset: end.next.checked_sub(1)? });
        let positions: Vec<Position> = ends.iter().filter_map(last).collect();
        let deadline = Instant::now() + shop.means.policy.catch_up;
        if let Err(behind) = shop.reads().wait_for(projection, &positions, deadline).await {
            return Ok(ReplayVerdict {
                equal: false,
                difference: behind.to_string(),
                ..ReplayVerdict::default()
            });
        }
    }
    // What an interrupted comparison left behind.
    database.drop_epoch(projection, SCRATCH).await?;
    let active = database.active_epoch(projection).await?;
    let mut live = database.digest(projection, active).await?;
    // A checkpoint may be behind its view over records of which the view keeps nothing.
    for end in ends.unwrap_or_default() {
        if let Some(cursor) =
            live.cursors.iter_mut().find(|it| it.partition == end.partition && it.next < end.next)
        {
            cursor.next = end.next;
        }
    }
    let total = records(&live.cursors);
    let report = |cursors: &[Cursor]| {
        let progress = ReplayProgress { done_count: records(cursors), total_count: total };
        // A full queue drops this report; the next one says more.
        let _ = reports.try_send(Ok(response(projection, Event::Progress(progress))));
    };
    database
        .rebuild(&shop.means.log, projection, SCRATCH, &live.cursors, report)
        .await
        .map_err(broken_off)?;
    let replayed = database.digest(projection, SCRATCH).await?;
    if ends.is_some() {
        live.cursors.clone_from(&replayed.cursors);
    }
    let mut difference = difference(&live, &replayed).unwrap_or_default();
    if live.tables != replayed.tables
        && let Some(first) = database.first_difference(projection, [active, SCRATCH]).await?
    {
        // The digests belong to one point of the log; the rows are those of now.
        difference.push_str(&describe(&first));
    }
    let set_aside = database.parked(Some(Keeper::View(projection)), None, 1).await?;
    if !set_aside.is_empty() && (!difference.is_empty() || ends.is_some()) {
        difference.push_str("; the live one has set aggregates aside, see `shopstream parked list`");
    }
    let difference = difference.trim_start_matches("; ").to_owned();
    database.drop_epoch(projection, SCRATCH).await?;
    let rows: u64 = live.tables.iter().map(|table| table.rows).sum();
    Ok(ReplayVerdict { equal: difference.is_empty(), row_count: rows as i64, difference })
}

/// What is not the same in two digests of one point of the log.
fn difference(live: &Digest, replayed: &Digest) -> Option<String> {
    if let Some((live, replayed)) = live.tables.iter().zip(&replayed.tables).find(|(a, b)| a != b) {
        return Some(format!(
            "table {}: {} rows live, {} replayed, contents differ",
            live.table, live.rows, replayed.rows
        ));
    }
    let missing = |cursor: &&Cursor| !live.cursors.iter().any(|live| live.partition == cursor.partition);
    if let Some(cursor) = replayed.cursors.iter().find(missing) {
        return Some(format!("there is no checkpoint of partition {}", cursor.partition));
    }
    let (live, replayed) = live.cursors.iter().zip(&replayed.cursors).find(|(a, b)| a != b)?;
    Some(format!(
        "the checkpoint of partition {} is {live:?}, and the log there comes to {replayed:?}",
        live.partition
    ))
}

/// The row in both forms, as far as a person reads.
fn describe(Difference { rows: [live, replayed], .. }: &Difference) -> String {
    let shown = |row: &Option<String>| match row {
        Some(row) => row.chars().take(ROW_CHARS).collect(),
        None => "missing".to_owned(),
    };
    format!("; the first that differs now: live {}; replayed {}", shown(live), shown(replayed))
}

fn records(cursors: &[Cursor]) -> i64 {
    cursors.iter().map(|cursor| cursor.next as i64).sum()
}

fn named_response(name: &str, verdict: ReplayVerdict) -> VerifyReadModelsResponse {
    VerifyReadModelsResponse { name: name.to_owned(), event: Some(Event::Verdict(verdict)) }
}

fn response(projection: Projection, event: Event) -> VerifyReadModelsResponse {
    VerifyReadModelsResponse { name: projection.name().to_owned(), event: Some(event) }
}

fn broken_off(error: RebuildError) -> Failure {
    match error {
        RebuildError::Away { .. } => Failure::Away { what: "the log" },
        RebuildError::Halted { partition, halt } => {
            Failure::LogHalted { partition, detail: halt.to_string() }
        }
        RebuildError::Checkpoint(error) => Failure::Internal(error.to_string()),
    }
}
