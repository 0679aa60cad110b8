//! A well-behaved client beside the others: what it waits for its answers, and whether it gets them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use shopstream_proto::order::v1::GetOrderRequest;
use shopstream_server::client::Client;
use shopstream_tests::requests;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Status};

/// Between two of its calls.
const PACE: Duration = Duration::from_millis(20);
/// How long it waits for one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many of its errors are kept.
const KEPT: usize = 20;
/// What it sells and orders.
const SKU: &str = "CALM-1";

/// A client that asks for its own order and places a draft, in turn, one call after the other.
pub(crate) struct Neighbour {
    seen: Arc<Mutex<Seen>>,
    _calling: AbortOnDropHandle<()>,
}

/// What it saw for a while.
pub(crate) struct Seen {
    micros: Histogram<u64>,
    /// The first errors it was told.
    pub(crate) errors: Vec<String>,
    /// How many.
    pub(crate) failed: u64,
}

impl Default for Seen {
    fn default() -> Self {
        let micros = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds that hold together");
        Self { micros, errors: Vec::new(), failed: 0 }
    }
}

impl Seen {
    pub(crate) fn calls(&self) -> u64 {
        self.micros.len()
    }

    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.micros.value_at_quantile(quantile))
    }
}

impl Neighbour {
    /// Begins to call, after it has sold what it needs.
    ///
    /// # Errors
    /// The shop does not serve even an empty house.
    pub(crate) async fn move_in(client: Client, name: String) -> Result<Self> {
        requests::sell(&client, SKU, 1_000).await?;
        let order_id = format!("ord_calm_{name}");
        let order = requests::order(&order_id, SKU, 1, "tok_calm");
        requests::place(&client, order).await?;
        let seen = Arc::<Mutex<Seen>>::default();
        let calling = tokio::spawn(call(client, name, order_id, seen.clone()));
        Ok(Self { seen, _calling: AbortOnDropHandle::new(calling) })
    }

    /// What it saw since it was last asked.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn call(client: Client, name: String, order_id: String, seen: Arc<Mutex<Seen>>) {
    for number in 0_u64.. {
        let begun = Instant::now();
        let answer: Result<(), Status> = if number % 4 == 0 {
            let draft = shopstream_proto::order::v1::CreateOrderRequest {
                draft: true,
                ..requests::order(&format!("ord_calm_{name}_{number}"), SKU, 1, "tok_calm")
            };
            client.shop().orders.create_order(patient(draft)).await.map(drop)
        } else {
            let get = GetOrderRequest { order_id: order_id.clone(), ..GetOrderRequest::default() };
            client.shop().orders.get_order(patient(get)).await.map(drop)
        };
        note(&seen, begun.elapsed(), answer);
        tokio::time::sleep(PACE).await;
    }
}

fn note(seen: &Mutex<Seen>, took: Duration, answer: Result<(), Status>) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.micros.saturating_record(took.as_micros() as u64);
    if let Err(status) = answer {
        seen.failed += 1;
        if seen.errors.len() < KEPT {
            seen.errors.push(format!("{:?}: {}", status.code(), status.message()));
        }
    }
}

fn patient<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}
