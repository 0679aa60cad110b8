//! The local log keeps the promises of every backend.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use shopstream_eventlog::contract::{self, Backend};
use shopstream_eventlog::local::{LocalLog, Options};
use shopstream_eventlog::raw::RawLog;
use tempfile::TempDir;

#[derive(Default)]
struct Local {
    /// Directories live as long as the test, so that a log may still be open when the next one is made.
    made: Mutex<Vec<(TempDir, u16)>>,
}

const IN_FLIGHT_BYTES: usize = 4 << 20;

impl Local {
    fn open_last(&self) -> Arc<dyn RawLog> {
        let made = self.made.lock().unwrap();
        let (dir, partitions) = made.last().expect("a log was made");
        let options = Options {
            segment_bytes: 16 << 20,
            in_flight_bytes: IN_FLIGHT_BYTES,
            ..Options::new(dir.path().join("log"), *partitions)
        };
        Arc::new(LocalLog::open(options).unwrap())
    }
}

#[async_trait(?Send)]
impl Backend for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn fresh(&self, partitions: u16) -> Arc<dyn RawLog> {
        self.made.lock().unwrap().push((tempfile::tempdir().unwrap(), partitions));
        self.open_last()
    }

    async fn reopen(&self) -> Arc<dyn RawLog> {
        self.open_last()
    }

    fn capacity(&self) -> Option<usize> {
        Some(IN_FLIGHT_BYTES)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contract() {
    contract::run(&Local::default()).await;
}
