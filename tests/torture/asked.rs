//! What clients beside the load ask, and what they are told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shopstream_proto::order::v1::GetOrderRequest;
use shopstream_server::client::Client;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// What becomes of a call that cannot be served now.
pub(crate) const AGAIN: &str = "told to come again";
/// And of one that is.
pub(crate) const ANSWERED: &str = "answered";
/// How long a client waits for one answer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

/// What they were told since the last look.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<Answers>>);

/// The answers of a while.
#[derive(Default)]
pub(crate) struct Answers {
    /// By what was asked and what became of it.
    pub(crate) counts: BTreeMap<String, u64>,
    /// What must not be said to a client who did nothing wrong.
    pub(crate) wrong: Vec<String>,
}

impl Asked {
    pub(crate) fn take(&self) -> Answers {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes an answer, and whether it is one.
    pub(crate) fn hear<A>(&self, what: &str, answer: Result<A, Status>) -> bool {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &answer {
            Ok(_) => ANSWERED,
            Err(status) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => {
                "unanswered in time"
            }
            Err(status) if status.get_details_retry_info().is_some() => AGAIN,
            Err(status) => {
                heard.wrong.push(format!("{what}: {status:?}"));
                "told something else"
            }
        };
        *heard.counts.entry(format!("{what} {outcome}")).or_default() += 1;
        answer.is_ok()
    }
}

/// Asks for an order again and again.
pub(crate) async fn read(client: Client, order_id: &'static str, asked: Asked, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let get = GetOrderRequest { min_position: Vec::new(), order_id: order_id.into() };
        let mut request = Request::new(get);
        request.set_timeout(DEADLINE);
        if !asked.hear("queries", client.shop().orders.get_order(request).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
