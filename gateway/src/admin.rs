//! AdminService: what operators ask of a running node.

mod parked;

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use shopstream_eventlog::Cursor;
use shopstream_projections::{Difference, Digest, Keeper, Projection, RebuildError};
use shopstream_proto::Validate;
use shopstream_proto::admin::v1::admin_service_server::AdminService;
use shopstream_proto::admin::v1::verify_read_models_response::Event;
use shopstream_proto::admin::v1::{
    DescribeNodeRequest, DescribeNodeResponse, ExplainParkedAggregateRequest, ExplainParkedAggregateResponse, ListParkedAggregatesRequest,
    ListParkedAggregatesResponse, ListSkippedEventsRequest, ListSkippedEventsResponse, ReplayProgress,
    ReplayVerdict, RetryParkedAggregateRequest, RetryParkedAggregateResponse, SkipParkedEventRequest,
    SkipParkedEventResponse, VerifyReadModelsRequest, VerifyReadModelsResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::failure::Failure;
use crate::shop::Shop;

/// The epoch of tables that are only compared. Real ones count from 1.
const SCRATCH: u32 = 1_000_000;
/// Reports that wait for a slow client; the replay waits with them.
const REPORTS: usize = 16;
/// How much of a row that differs is shown.
const ROW_CHARS: usize = 1_000;

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
        tokio::spawn(async move {
            for projection in projections {
                let verdict = verify(&shop, projection, &reports).await;
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

/// Replays a projection into tables of its own, up to where the live one is, and compares the two.
async fn verify(
    shop: &Shop,
    projection: Projection,
    reports: &mpsc::Sender<Result<VerifyReadModelsResponse, Status>>,
) -> Result<ReplayVerdict, Failure> {
    let database = &shop.means.database;
    // What an interrupted comparison left behind.
    database.drop_epoch(projection, SCRATCH).await?;
    let active = database.active_epoch(projection).await?;
    let live = database.digest(projection, active).await?;
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
    let mut difference = difference(&live, &replayed).unwrap_or_default();
    if live.tables != replayed.tables
        && let Some(first) = database.first_difference(projection, [active, SCRATCH]).await?
    {
        // The digests belong to one point of the log; the rows are those of now.
        difference.push_str(&describe(&first));
    }
    let set_aside = database.parked(Some(Keeper::View(projection)), None, 1).await?;
    if !difference.is_empty() && !set_aside.is_empty() {
        difference.push_str("; the live one has set aggregates aside, see `shopstream parked list`");
    }
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
