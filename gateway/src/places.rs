//! Places: how many calls are carried out at once, and how many wait.
//!
//! A call that is carried out has a place of work. One that only waits (for the rest of its message, for a view to come as
//! far as its caller has seen, for a process to settle something) has none, or gives it back, and counts among those who wait, which have a bound of
//! their own, each kind by itself: however many wait, and for whatever, there is room for who has something to do. Who comes
//! back from waiting queues among its like, so that a crowd that wakes at once takes nothing from those who come anew.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use metrics::{counter, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;

/// How many of each kind may wait for each one that may work.
const WAITS_PER_PLACE: usize = 4;
/// Between two lines of the log about waits that were refused.
const SAID_AGAIN: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// The place of the call that this task carries out.
    static CALL: Arc<Place>;
}

/// What a call waits for. Those who ask to wait, which anybody may, must not keep out the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A position that it names.
    Named,
    /// A moment, so that a query shows what was answered before.
    Unasked,
    /// What a command needs to know, or sets off.
    Command,
    /// The rest of its message, before anything is done for it.
    Message,
}

impl Wait {
    const ALL: [Self; 4] = [Self::Named, Self::Unasked, Self::Command, Self::Message];

    const fn word(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Unasked => "unasked",
            Self::Command => "command",
            Self::Message => "message",
        }
    }
}

/// The places of one node.
#[derive(Debug)]
pub struct Places {
    work: Arc<Semaphore>,
    waits: [Arc<Semaphore>; Wait::ALL.len()],
    back: Arc<Semaphore>,
    /// When a refused wait was last said in the log.
    said: Mutex<Option<Instant>>,
}

/// The place of one call.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    /// `None`: it needs none (a stream has bounds of its own), or waits.
    held: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Places {
    /// Room for `calls` at once.
    pub fn new(calls: usize) -> Arc<Self> {
        let room = |places: usize| Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self {
            work: room(calls),
            waits: Wait::ALL.map(|_| room(calls.saturating_mul(WAITS_PER_PLACE))),
            back: room(calls.div_ceil(2)),
            said: Mutex::new(None),
        })
    }

    /// A place for a call that works; `None` where all are taken.
    pub fn take(self: &Arc<Self>) -> Option<Arc<Place>> {
        let held = self.work.clone().try_acquire_owned().ok()?;
        Some(Arc::new(Place { places: self.clone(), held: Mutex::new(Some(held)) }))
    }

    /// For a call that takes none, but may have to wait.
    pub fn beside(self: &Arc<Self>) -> Arc<Place> {
        Arc::new(Place { places: self.clone(), held: Mutex::new(None) })
    }

    /// Waits for the message of a call that has no place yet. Where it is here, as mostly, there is nothing to wait for.
    ///
    /// # Errors
    /// [`Failure::Busy`] where too many wait so, and those of `message`.
    pub(crate) async fn message<T>(
        &self,
        message: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut message = pin!(message);
        if let Some(here) = message.as_mut().now_or_never() {
            return here;
        }
        let _waits = self.wait(Wait::Message).map_err(|_counted| Failure::Busy)?;
        message.await
    }

    fn wait(&self, kind: Wait) -> Result<Waiting, Failure> {
        let place = self.waits[kind as usize].clone().try_acquire_owned().map_err(|_| self.refuse(kind))?;
        Ok(Waiting::begin(kind, place))
    }

    fn refuse(&self, kind: Wait) -> Failure {
        counter!("shopstream_waits_refused_total", "kind" => kind.word()).increment(1);
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| now.duration_since(said) >= SAID_AGAIN) {
            *said = Some(now);
            let kind = kind.word();
            tracing::warn!(kind, "as many calls wait as may wait: further ones are refused until some go on");
        }
        Failure::TooManyWait
    }
}

impl Place {
    /// Carries `call` out in this place. It is free again when that ends.
    pub async fn carry_out<T>(self: Arc<Self>, call: impl Future<Output = T>) -> T {
        CALL.scope(self, call).await
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for something without a place of work, and takes one again, by `deadline`, where it came.
///
/// # Errors
/// [`Failure::TooManyWait`] at once, [`Failure::Busy`] where there is no place to go on, and those of `wait`.
pub(crate) async fn waiting<T>(
    kind: Wait,
    deadline: Instant,
    wait: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Nobody's call: a task of our own, or a stream that is under way.
    let Ok(place) = CALL.try_with(Arc::clone) else { return wait.await };
    let places = &place.places;
    let _waits = places.wait(kind)?;
    let worked = place.held().take().is_some();
    let came = wait.await?;
    if worked {
        let again = timeout_at(deadline, places.back.clone().acquire_owned()).await;
        *place.held() = Some(again.ok().and_then(Result::ok).ok_or(Failure::Busy)?);
    }
    Ok(came)
}

/// One more that waits, until it is dropped.
struct Waiting {
    kind: Wait,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    fn begin(kind: Wait, place: OwnedSemaphorePermit) -> Self {
        gauge!("shopstream_waits", "kind" => kind.word()).increment(1.0);
        Self { kind, _place: place }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!("shopstream_waits", "kind" => self.kind.word()).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::task::yield_now;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_holds_no_place_and_has_one_again_when_it_goes_on() {
        let places = Places::new(1);
        let (wake, woken) = tokio::sync::oneshot::channel();
        let place = places.take().expect("free");
        assert!(places.take().is_none(), "one works");
        let call = tokio::spawn(place.carry_out(async move {
            waiting(Wait::Named, soon(), async { woken.await.map_err(|_| Failure::Stopping) }).await?;
            Ok::<_, Failure>(CALL.with(|place| place.held().is_some()))
        }));
        yield_now().await;
        drop(places.take().expect("the one who waits holds none"));
        wake.send(()).expect("it waits");
        assert_eq!(call.await.expect("no panic"), Ok(true));
        assert_eq!(places.back.available_permits(), 1, "given back at the end");
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_have_a_bound_of_their_own() {
        let places = Places::new(1);
        let mut calls = Vec::new();
        for _ in 0..WAITS_PER_PLACE {
            let place = places.take().expect("nobody works");
            calls.push(tokio::spawn(place.carry_out(waiting(
                Wait::Named,
                soon(),
                pending::<Result<(), Failure>>(),
            ))));
            yield_now().await;
        }
        let one_more = places.take().expect("nobody works");
        let refused = one_more.carry_out(waiting(Wait::Named, soon(), ready(Ok(())))).await;
        assert_eq!(refused, Err(Failure::TooManyWait));
        for other in [Wait::Unasked, Wait::Command, Wait::Message] {
            let place = places.take().unwrap_or_else(|| places.beside());
            assert_eq!(place.carry_out(waiting(other, soon(), ready(Ok(())))).await, Ok(()), "{other:?}");
        }
        calls.pop().expect("some wait").abort();
        yield_now().await;
        let next = places.take().expect("nobody works");
        assert_eq!(next.carry_out(waiting(Wait::Named, soon(), ready(Ok(())))).await, Ok(()), "one has left");
    }

    #[tokio::test(start_paused = true)]
    async fn whose_message_is_here_waits_for_nobody_and_the_others_have_a_bound() {
        let places = Places::new(1);
        let waits = || places.message(pending::<Result<(), Failure>>());
        let mut waiting: Vec<_> = (0..WAITS_PER_PLACE).map(|_| Box::pin(waits())).collect();
        for wait in &mut waiting {
            assert!(wait.as_mut().now_or_never().is_none(), "it waits");
        }
        assert_eq!(waits().now_or_never(), Some(Err(Failure::Busy)));
        assert_eq!(places.message(ready(Ok(7))).now_or_never(), Some(Ok(7)));
        assert!(places.take().is_some(), "none of them works");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_fails_needs_no_place() {
        let places = Places::new(1);
        let place = places.take().expect("free");
        let all_back = places.back.clone().try_acquire_many_owned(1).expect("nobody came back");
        let failed =
            place.carry_out(waiting(Wait::Named, soon(), ready(Err::<(), _>(Failure::TooLate)))).await;
        assert_eq!(failed, Err(Failure::TooLate));
        drop(all_back);
    }
}
