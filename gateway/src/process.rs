//! ProcessService: which processes wait for a person, and that one may go on or was seen to by hand.

use prost::Message;
use shopstream_command_handlers::CommandEnvelope;
use shopstream_domain::order::{CheckoutCommand, CheckoutNeedsAttention, Stage};
use shopstream_domain::returns::Command as ReturnCommand;
use shopstream_domain::{OrderId, ReturnId, StreamId};
use shopstream_projections::Projection;
use shopstream_projections::order::CheckoutStatus;
use shopstream_projections::returns::ReturnView;
use shopstream_proto::Validate;
use shopstream_proto::process::v1::process_service_server::ProcessService;
use shopstream_proto::process::v1::{
    ListStoppedProcessesRequest, ListStoppedProcessesResponse, ProcessKind, ProcessResolution,
    ResumeProcessRequest, ResumeProcessResponse, SettleProcessRequest, SettleProcessResponse, StoppedProcess,
};
use tonic::{Request, Response, Status};

use crate::call::Call;
use crate::command::Asked;
use crate::failure::Failure;
use crate::page::Page;
use crate::positions::position;
use crate::shop::Shop;
use crate::wire::{id, int, time};

#[cfg(test)]
mod tests;

/// The service.
pub(crate) struct Processes {
    pub(crate) shop: Shop,
}

#[tonic::async_trait]
impl ProcessService for Processes {
    async fn list_stopped_processes(
        &self,
        request: Request<ListStoppedProcessesRequest>,
    ) -> Result<Response<ListStoppedProcessesResponse>, Status> {
        let call = Call::of(request.metadata())?;
        Ok(Response::new(self.list(&call, request.into_inner()).await?))
    }

    async fn resume_process(
        &self,
        request: Request<ResumeProcessRequest>,
    ) -> Result<Response<ResumeProcessResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let reply = self.shop.submit(&call, resume(request.into_inner(), &call)?).await?;
        Ok(Response::new(ResumeProcessResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }

    async fn settle_process(
        &self,
        request: Request<SettleProcessRequest>,
    ) -> Result<Response<SettleProcessResponse>, Status> {
        let call = Call::of(request.metadata())?;
        let reply = self.shop.submit(&call, settle(request.into_inner(), &call)?).await?;
        Ok(Response::new(SettleProcessResponse {
            version: int(reply.version),
            position: Some(position(reply.position)),
        }))
    }
}

/// The last process of a page.
#[derive(Clone, PartialEq, Message)]
struct PageToken {
    /// Its id; those of returns are all after those of checkouts.
    #[prost(string, tag = "1")]
    process_id: String,
}

impl Processes {
    async fn list(
        &self,
        call: &Call,
        mut request: ListStoppedProcessesRequest,
    ) -> Result<ListStoppedProcessesResponse, Failure> {
        request.validate()?;
        let min_position = std::mem::take(&mut request.min_position);
        let page = Page::<PageToken>::asked("ListStoppedProcesses", &call.tenant, &mut request)?;
        let views = [Projection::SagaBoard, Projection::ReturnView];
        let after = page.after.as_ref().map_or("", |last| &last.process_id);
        let look = || async {
            self.shop.see_all(call, &views, &min_position).await?;
            self.stopped(call, after, page.look()).await
        };
        let mut processes = self.shop.reads().in_one_session(&views, look).await?;
        let next_page_token =
            page.cut(&mut processes, |last| PageToken { process_id: last.process_id.clone() });
        Ok(ListStoppedProcessesResponse { processes, next_page_token })
    }

    async fn stopped(&self, call: &Call, after: &str, limit: u32) -> Result<Vec<StoppedProcess>, Failure> {
        let (reads, tenant) = (self.shop.reads(), &call.tenant);
        // Those of checkouts that have been shown are before `after` in the order of ids too.
        let found =
            async { Ok(reads.checkouts_at(tenant, Stage::NeedsAttention, Some(after), limit).await?) };
        let checkouts = call.read_within(found).await?;
        let mut stopped: Vec<_> = checkouts.iter().filter_map(checkout).collect();
        let left = limit.saturating_sub(checkouts.len() as u32);
        let found = async { Ok(reads.stopped_returns(tenant, after, left).await?) };
        stopped.extend(call.read_within(found).await?.iter().filter_map(goods_return));
        Ok(stopped)
    }
}

/// `None` where it does not wait, which the query has seen to.
fn checkout(row: &CheckoutStatus) -> Option<StoppedProcess> {
    let CheckoutNeedsAttention { step, detail } = row.state.0.attention()?.clone();
    Some(StoppedProcess {
        process_id: row.checkout_id.clone(),
        kind: ProcessKind::Checkout.into(),
        order_id: row.order_id.as_str().to_owned(),
        step,
        detail,
        stop_time: Some(time(row.updated_at)),
        version: int(row.version),
        position: Some(position(row.position())),
    })
}

/// As [`checkout`].
fn goods_return(row: &ReturnView) -> Option<StoppedProcess> {
    Some(StoppedProcess {
        process_id: row.return_id.as_str().to_owned(),
        kind: ProcessKind::Return.into(),
        order_id: row.order_id.as_str().to_owned(),
        step: row.attention_step.clone()?,
        detail: row.attention_detail.clone().unwrap_or_default(),
        stop_time: Some(time(row.updated_at)),
        version: int(row.version),
        position: Some(position(row.position())),
    })
}

fn resume(mut request: ResumeProcessRequest, call: &Call) -> Result<CommandEnvelope, Failure> {
    let asked = Asked::of(&mut request)?;
    let ResumeProcessRequest { process_id, reason, .. } = request;
    Ok(match Process::of(&process_id, call)? {
        Process::Checkout(stream) => asked.envelope(call, stream, CheckoutCommand::Resume { reason }),
        Process::Return(stream) => asked.envelope(call, stream, ReturnCommand::Resume { reason }),
    })
}

fn settle(mut request: SettleProcessRequest, call: &Call) -> Result<CommandEnvelope, Failure> {
    let asked = Asked::of(&mut request)?;
    let (money, stock) = match request.resolution() {
        ProcessResolution::MoneyByHand => (true, false),
        ProcessResolution::StockByHand => (false, true),
        ProcessResolution::AllByHand => (true, true),
        // Validation has refused it already.
        ProcessResolution::Unspecified => return Err(Failure::invalid("resolution", "required")),
    };
    let SettleProcessRequest { process_id, reason, .. } = request;
    Ok(match Process::of(&process_id, call)? {
        Process::Checkout(stream) => {
            asked.envelope(call, stream, CheckoutCommand::Settle { money, stock, reason })
        }
        Process::Return(stream) => {
            asked.envelope(call, stream, ReturnCommand::Settle { money, stock, reason })
        }
    })
}

/// A process by its id.
enum Process {
    Checkout(StreamId),
    Return(StreamId),
}

impl Process {
    fn of(process_id: &str, call: &Call) -> Result<Self, Failure> {
        Ok(match OrderId::of_checkout(process_id) {
            Some(order_id) => Self::Checkout(order_id.checkout_stream(&call.tenant)),
            None => Self::Return(id(ReturnId::new(process_id), "process_id")?.stream(&call.tenant)),
        })
    }
}
