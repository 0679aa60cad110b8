//! Clients that keep sending commands, and write down every answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shopstream_domain::Partition;
use shopstream_proto::r#type::v1::Position;
use shopstream_server::client::Client;
use shopstream_tests::requests;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

/// How long a client waits for one answer.
const DEADLINE: Duration = Duration::from_secs(8);
/// After a refusal.
const BREATH: Duration = Duration::from_millis(50);

/// A command that was acknowledged.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub sku: String,
    /// When it was sent, the last time.
    pub sent: Instant,
    pub position: Position,
}

/// Clients at work.
pub struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    heard: Arc<Mutex<Vec<Acknowledged>>>,
}

impl Load {
    /// One client for each of these SKUs, with one command under way each.
    pub fn start(client: &Client, skus: impl IntoIterator<Item = String>) -> Self {
        let (stop, heard) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Acknowledged>>>::default());
        let mut clients = JoinSet::new();
        for sku in skus {
            let (client, stop, heard) = (client.clone(), stop.clone(), heard.clone());
            clients.spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let sent = Instant::now();
                    match receive(&client, &sku, number).await {
                        Ok(position) => {
                            let answer = Acknowledged { sku: sku.clone(), sent, position };
                            heard.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                            number += 1;
                        }
                        // The same command again, as a good client does.
                        Err(_) => tokio::time::sleep(BREATH).await,
                    }
                }
            });
        }
        Self { clients, stop, heard }
    }

    /// How many commands were acknowledged so far.
    pub fn count(&self) -> usize {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets the clients come to an end.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("a client ends in order");
        }
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Receives one unit of a SKU under a request id of this number.
pub async fn receive(client: &Client, sku: &str, number: u32) -> Result<Position, Status> {
    let mut request = Request::new(requests::stock(&format!("{sku}:{number}"), sku, 1));
    request.set_timeout(DEADLINE);
    let answer = client.shop().inventory.update_stock(request).await?.into_inner();
    answer.position.ok_or_else(|| Status::new(Code::Internal, "an answer without a position"))
}

/// The partition of an acknowledged command.
pub fn place(position: &Position) -> (Partition, u64) {
    (position.partition as Partition, position.offset as u64)
}
