//! Whose turn it is to carry out operations of a payment, and who is woken when it is over.
//!
//! A payment has one operation open at a time, so whoever wants another waits for that one. Waiting by the clock would
//! let many who want the same payment meet again and again; here the end of a turn wakes the one who has waited. Where
//! nobody of this process has the turn, the clock does it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::{FxHashMap, FxHashSet};
use shopstream_domain::StreamId;
use tokio::sync::Notify;

/// The turns of one process of the operating system. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// Payments whose turn somebody has.
    taken: FxHashSet<StreamId>,
    /// Who waits for which payment: as many at most as there are processes that rest.
    waiting: FxHashMap<StreamId, BTreeSet<StreamId>>,
    /// Whose wait is over.
    woken: BTreeSet<StreamId>,
}

impl Turns {
    /// The turn of a payment, until it is dropped; `None` where somebody has it.
    pub(crate) fn take(&self, payment: &StreamId) -> Option<Turn> {
        let taken = self.state().taken.insert(payment.clone());
        taken.then(|| Turn { payment: payment.clone(), turns: self.clone() })
    }

    /// Whether somebody has the turn of a payment.
    pub(crate) fn is_taken(&self, payment: &StreamId) -> bool {
        self.state().taken.contains(payment)
    }

    /// Has the process of `waiter` woken once: when a turn of the payment is over.
    pub(crate) fn wait(&self, payment: &StreamId, waiter: &StreamId) {
        self.state().waiting.entry(payment.clone()).or_default().insert(waiter.clone());
    }

    /// Whoever is awake waits no more: it would be woken in the place of another.
    pub(crate) fn is_awake(&self, payment: &StreamId, waiter: &StreamId) {
        let mut state = self.state();
        let Some(waiting) = state.waiting.get_mut(payment) else { return };
        waiting.remove(waiter);
        if waiting.is_empty() {
            state.waiting.remove(payment);
        }
    }

    /// Wakes the first who waits for the payment, as the end of a turn does.
    pub(crate) fn pass_on(&self, payment: &StreamId) {
        let mut state = self.state();
        let Some(waiting) = state.waiting.get_mut(payment) else { return };
        let first = waiting.pop_first();
        if waiting.is_empty() {
            state.waiting.remove(payment);
        }
        state.woken.extend(first);
        drop(state);
        self.0.news.notify_one();
    }

    /// Those whose wait is over, at least one. Cancel-safe; for one caller at a time.
    pub(crate) async fn woken(&self) -> BTreeSet<StreamId> {
        loop {
            let woken = std::mem::take(&mut self.state().woken);
            if !woken.is_empty() {
                return woken;
            }
            self.0.news.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while operations of a payment are being carried out.
pub(crate) struct Turn {
    payment: StreamId,
    turns: Turns,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.state().taken.remove(&self.payment);
        self.turns.pass_on(&self.payment);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn stream(name: &str) -> StreamId {
        format!("default/{name}").parse().expect("a stream")
    }

    #[test]
    fn the_end_of_a_turn_wakes_one_of_those_who_wait() {
        let (turns, payment) = (Turns::default(), stream("payment/pay_1.1"));
        let turn = turns.take(&payment).expect("a turn");
        assert!(turns.take(&payment).is_none());
        for waiter in ["return/ret_b", "return/ret_a", "return/ret_b"] {
            turns.wait(&payment, &stream(waiter));
        }
        assert!(turns.woken().now_or_never().is_none());
        drop(turn);
        assert_eq!(turns.woken().now_or_never(), Some([stream("return/ret_a")].into()));
        drop(turns.take(&payment).expect("a turn"));
        assert_eq!(turns.woken().now_or_never(), Some([stream("return/ret_b")].into()));
        drop(turns.take(&payment).expect("a turn"));
        assert!(turns.woken().now_or_never().is_none());
        turns.wait(&payment, &stream("return/ret_a"));
        turns.is_awake(&payment, &stream("return/ret_a"));
        drop(turns.take(&payment).expect("a turn"));
        assert!(turns.woken().now_or_never().is_none());
        assert!(turns.state().waiting.is_empty());
    }
}
