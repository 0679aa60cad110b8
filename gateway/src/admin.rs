//! AdminService: what operators ask of a running node.

use futures::StreamExt;
use futures::stream::BoxStream;
use shopstream_eventlog::Cursor;
use shopstream_projections::{Digest, Projection, RebuildError};
use shopstream_proto::Validate;
use shopstream_proto::admin::v1::admin_service_server::AdminService;
use shopstream_proto::admin::v1::verify_read_models_response::Event;
use shopstream_proto::admin::v1::{
    ReplayProgress, ReplayVerdict, VerifyReadModelsRequest, VerifyReadModelsResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::failure::Failure;
use crate::shop::Shop;

/// The epoch of tables that are only compared. Real ones count from 1.
const SCRATCH: u32 = 1_000_000;
/// Reports that wait for a slow client; the replay waits with them.
const REPORTS: usize = 16;

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
        let views = named(&request.names)?;
        let (reports, stream) = mpsc::channel(REPORTS);
        let shop = self.shop.clone();
        tokio::spawn(async move {
            for view in views {
                let verdict = verify(&shop, view, &reports).await;
                let failed = verdict.is_err();
                let answer =
                    verdict.map(|verdict| response(view, Event::Verdict(verdict))).map_err(Status::from);
                // Nobody listens any more: the rest would be for nothing.
                if reports.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream).boxed()))
    }
}

fn named(names: &[String]) -> Result<Vec<Projection>, Failure> {
    if names.is_empty() {
        return Ok(Projection::views().collect());
    }
    let view = |(index, name): (usize, &String)| {
        Projection::views().find(|view| view.name() == name).ok_or_else(|| {
            Failure::invalid(format!("names[{index}]"), format!("there is no read model {name:?}"))
        })
    };
    names.iter().enumerate().map(view).collect()
}

/// Replays a view into tables of its own, up to where the live one is, and compares the two.
async fn verify(
    shop: &Shop,
    view: Projection,
    reports: &mpsc::Sender<Result<VerifyReadModelsResponse, Status>>,
) -> Result<ReplayVerdict, Failure> {
    let database = &shop.means.database;
    // What an interrupted comparison left behind.
    database.drop_epoch(view, SCRATCH).await?;
    let active = database.active_epoch(view).await?;
    let live = database.digest(view, active).await?;
    let total = records(&live.cursors);
    let report = |cursors: &[Cursor]| {
        let progress = ReplayProgress { done_count: records(cursors), total_count: total };
        // A full queue drops this report; the next one says more.
        let _ = reports.try_send(Ok(response(view, Event::Progress(progress))));
    };
    database.rebuild(&shop.means.log, view, SCRATCH, &live.cursors, report).await.map_err(broken_off)?;
    let replayed = database.digest(view, SCRATCH).await?;
    let difference = if live.tables == replayed.tables { String::new() } else { describe(&live, &replayed) };
    database.drop_epoch(view, SCRATCH).await?;
    let rows: u64 = live.tables.iter().map(|table| table.rows).sum();
    Ok(ReplayVerdict { equal: difference.is_empty(), row_count: rows as i64, difference })
}

fn describe(live: &Digest, replayed: &Digest) -> String {
    let differ = live.tables.iter().zip(&replayed.tables).find(|(live, replayed)| live != replayed);
    differ.map_or_else(String::new, |(live, replayed)| {
        format!("table {}: {} rows live, {} replayed, contents differ", live.table, live.rows, replayed.rows)
    })
}

fn records(cursors: &[Cursor]) -> i64 {
    cursors.iter().map(|cursor| cursor.next as i64).sum()
}

fn response(view: Projection, event: Event) -> VerifyReadModelsResponse {
    VerifyReadModelsResponse { name: view.name().to_owned(), event: Some(event) }
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
