//! Producers that are warm before somebody needs them.
//!
//! A new producer's first record takes 510 ms, because librdkafka asks for its producer id on a timer of 500 ms. A
//! producer that has fetched metadata and is 600 ms old sends its first record in 2 ms (`event-log.md` §5). Claims
//! after a hand-over or in doubt must not wait, so a few are kept ready. A spare has written nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rdkafka::producer::Producer;
use tracing::{debug, warn};

use super::error::from_kafka;
use super::producer::{self, Fresh};
use super::{Options, PATIENCE};
use crate::raw::RawError;

/// Between two tries while no broker answers.
const RETRY: Duration = Duration::from_secs(1);

/// The pool. Clones share it; with the last one its thread ends.
#[derive(Clone)]
pub(super) struct Spares {
    pool: Arc<Pool>,
}

struct Pool {
    options: Arc<Options>,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// The oldest first.
    ready: VecDeque<Fresh>,
    ended: bool,
}

impl Spares {
    pub(super) fn start(options: Arc<Options>) -> Self {
        let state = Arc::new((Mutex::default(), Condvar::new()));
        let pool = Arc::new(Pool { options, state: state.clone() });
        let weak = Arc::downgrade(&pool);
        let keeper = move || keep(&weak, &state);
        if let Err(error) = thread::Builder::new().name("kafka-spares".into()).spawn(keeper) {
            warn!("no thread to keep spare producers warm, claims will take half a second: {error}");
        }
        Self { pool }
    }

    /// The oldest spare, or a cold producer where there is none. Blocks for some milliseconds.
    pub(super) fn take(&self) -> Result<Fresh, RawError> {
        let Pool { options, state } = &*self.pool;
        let spare = lock(&state.0).ready.pop_front();
        state.1.notify_one();
        spare.map_or_else(|| producer::create(options), Ok)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.state.0).ended = true;
        self.state.1.notify_one();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the pool is gone: makes spares as they are taken.
fn keep(pool: &Weak<Pool>, state: &(Mutex<State>, Condvar)) {
    while let Some(options) = pool.upgrade().map(|pool| pool.options.clone()) {
        let enough = |state: &mut State| !state.ended && state.ready.len() >= options.spares;
        let waited = state.1.wait_while(lock(&state.0), enough);
        if waited.unwrap_or_else(PoisonError::into_inner).ended {
            return;
        }
        match warm(&options) {
            Ok(spare) => lock(&state.0).ready.push_back(spare),
            Err(error) => {
                debug!("no spare producer: {error}");
                let ended = |state: &mut State| !state.ended;
                drop(state.1.wait_timeout_while(lock(&state.0), RETRY, ended));
            }
        }
    }
}

fn warm(options: &Options) -> Result<Fresh, RawError> {
    let spare = producer::create(options)?;
    spare.client().fetch_metadata(Some(&options.topic), PATIENCE).map_err(from_kafka)?;
    Ok(spare)
}
