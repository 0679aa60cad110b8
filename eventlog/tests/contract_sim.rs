//! The simulated log keeps the promises of every backend, and those that need faults on command.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use shopstream_eventlog::contract::{self, Backend};
use shopstream_eventlog::raw::RawLog;
use shopstream_eventlog::sim::{Faults, SimLog};

#[derive(Default)]
struct Sim {
    last: Mutex<Option<SimLog>>,
}

#[async_trait(?Send)]
impl Backend for Sim {
    fn name(&self) -> &'static str {
        "sim"
    }

    async fn fresh(&self, partitions: u16) -> Arc<dyn RawLog> {
        let log = SimLog::new(partitions);
        *self.last.lock().unwrap() = Some(log.clone());
        Arc::new(log)
    }

    async fn reopen(&self) -> Arc<dyn RawLog> {
        Arc::new(self.last.lock().unwrap().clone().expect("a log was made"))
    }

    fn capacity(&self) -> Option<usize> {
        Some(4 << 20)
    }

    fn faults(&self) -> Option<Faults> {
        self.last.lock().unwrap().as_ref().map(SimLog::faults)
    }
}

#[tokio::test(start_paused = true)]
async fn contract() {
    contract::run(&Sim::default()).await;
}
