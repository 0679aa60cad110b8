//! What this node was granted, and until when, by its own clock.
//!
//! The clock is the monotonic one and a term is counted from before the question was sent, so it ends here no later
//! than the database's own. A node that was stopped for a while finds its terms over when it wakes.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{Duty, Grant};

/// The duties held.
#[derive(Debug)]
pub(super) struct Terms {
    length: Duration,
    held: BTreeMap<Duty, Term>,
}

#[derive(Debug)]
struct Term {
    epoch: u64,
    until: Instant,
    lost: CancellationToken,
}

impl Terms {
    /// None yet; each will last `length`.
    pub(super) const fn new(length: Duration) -> Self {
        Self { length, held: BTreeMap::new() }
    }

    /// The table granted `duty` under `epoch`, asked at `asked`.
    pub(super) fn granted(&mut self, duty: Duty, epoch: u64, asked: Instant) -> Grant {
        let lost = CancellationToken::new();
        self.held.insert(duty, Term { epoch, until: asked + self.length, lost: lost.clone() });
        Grant { epoch, lost }
    }

    /// The table was asked at `asked` to renew `wanted` and renewed `kept` of it: the rest is somebody else's.
    pub(super) fn renewed(&mut self, wanted: &[(Duty, u64)], kept: &[Duty], asked: Instant) {
        for (duty, epoch) in wanted {
            // Given back meanwhile, or given back and granted anew: this answer is not about that.
            let Some(term) = self.held.get_mut(duty).filter(|term| term.epoch == *epoch) else { continue };
            if kept.contains(duty) {
                term.until = asked + self.length;
            } else {
                term.lost.cancel();
                self.held.remove(duty);
            }
        }
    }

    /// What to renew, each with its epoch.
    pub(super) fn held(&self) -> Vec<(Duty, u64)> {
        self.held.iter().map(|(duty, term)| (*duty, term.epoch)).collect()
    }

    /// This node claimed `duty` with `epoch`, above what it was granted.
    pub(super) fn raise(&mut self, duty: Duty, epoch: u64) {
        if let Some(term) = self.held.get_mut(&duty) {
            term.epoch = term.epoch.max(epoch);
        }
    }

    /// `duty` was given back.
    pub(super) fn released(&mut self, duty: Duty) {
        self.held.remove(&duty);
    }

    /// Whether the term of `duty` lasts at `now`.
    pub(super) fn is_live(&self, duty: Duty, now: Instant) -> bool {
        self.held.get(&duty).is_some_and(|term| now < term.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(3);
    const DUTY: Duty = Duty::Partition(4);

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_term_counts_from_before_the_question_and_ends_by_itself() {
        let (mut terms, start) = (Terms::new(TERM), Instant::now());
        let grant = terms.granted(DUTY, 7, start);
        assert!(terms.is_live(DUTY, start + seconds(2.9)));
        assert!(!terms.is_live(DUTY, start + seconds(3.0)), "over, though nobody said so");
        assert!(!grant.lost.is_cancelled(), "nobody else may have it yet");
        terms.renewed(&[(DUTY, 7)], &[DUTY], start + seconds(5.0));
        assert!(terms.is_live(DUTY, start + seconds(7.9)));
        assert!(!terms.is_live(Duty::Sagas, start));
    }

    #[test]
    fn what_is_not_renewed_is_lost() {
        let (mut terms, start) = (Terms::new(TERM), Instant::now());
        let (lost, kept) = (terms.granted(DUTY, 7, start), terms.granted(Duty::Sagas, 1, start));
        terms.renewed(&terms.held(), &[Duty::Sagas], start + seconds(1.0));
        assert!(lost.lost.is_cancelled() && !kept.lost.is_cancelled());
        assert!(!terms.is_live(DUTY, start + seconds(1.0)));
        assert_eq!(terms.held(), [(Duty::Sagas, 1)]);
    }

    #[test]
    fn an_answer_about_an_earlier_grant_does_not_touch_the_present_one() {
        let (mut terms, start) = (Terms::new(TERM), Instant::now());
        terms.granted(DUTY, 7, start);
        let asked = terms.held();
        terms.released(DUTY);
        let again = terms.granted(DUTY, 8, start + seconds(1.0));
        terms.renewed(&asked, &[], start);
        assert!(!again.lost.is_cancelled() && terms.is_live(DUTY, start + seconds(3.9)));
    }

    #[test]
    fn a_claim_above_the_granted_epoch_raises_what_is_renewed() {
        let mut terms = Terms::new(TERM);
        terms.granted(DUTY, 7, Instant::now());
        terms.raise(DUTY, 9);
        terms.raise(DUTY, 8);
        assert_eq!(terms.held(), [(DUTY, 9)]);
    }
}
