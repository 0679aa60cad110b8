//! What can happen in a state, and what it leads to.

use std::collections::BTreeSet;

use super::log::{Body, Fold, Record};
use super::node::{Answers, Node, Role};
use super::{Action, Flaw, Ownership, State};

impl Ownership {
    pub(super) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, node) in (0..).zip(&state.nodes) {
            self.possible_for(state, index, node, actions);
        }
        for &record in &state.way {
            let heard = state.nodes.iter().any(|node| node.listens_for(&record));
            let arrive = |reported, again| Action::Arrive { record, reported, again };
            actions.push(arrive(false, false));
            if heard {
                actions.push(arrive(true, false));
            }
            if state.left.duplicates > 0 {
                actions.push(arrive(false, true));
            }
            if heard && state.left.duplicates > 0 {
                actions.push(arrive(true, true));
            }
        }
        if state.left.damages > 0 {
            actions.extend((0..state.log.len()).map(|end| Action::Truncate { end: end as u8 }));
        }
    }

    fn possible_for(&self, state: &State, node: u8, it: &Node, actions: &mut Vec<Action>) {
        let may_claim = state.left.claims > 0;
        // Idle nodes are alike, so one of them stands for all.
        let is_first_idle =
            state.nodes.iter().position(|it| it.role == Role::Idle) == Some(usize::from(node));
        match &it.role {
            Role::Idle if may_claim && is_first_idle => {
                let epochs = self.epochs(&state.log);
                actions.extend(epochs.into_iter().map(|epoch| Action::Claim { node, epoch: epoch + 1 }));
            }
            Role::Idle | Role::Halted => {}
            Role::Claiming { .. } => {
                actions.extend([Action::ReadToClaim { node }, Action::Crash { node }]);
                if may_claim {
                    actions.push(Action::ClaimAgain { node });
                }
            }
            Role::Owning(_) => {
                actions.push(Action::Crash { node });
                if it.can_read(&state.log) {
                    actions.push(Action::Read { node });
                }
                if state.left.commits > 0 {
                    // And so are the commands that nobody has sent yet.
                    let sent = state.way.iter().chain(&state.log).chain(&state.counted);
                    let sent = sent.filter_map(Record::command).max();
                    let known = sent.map_or(0, |last| last + 1).min(self.bounds.commands - 1);
                    let wanted = (0..=known).filter(|command| it.wants(*command, self.flaw));
                    actions.extend(wanted.map(|command| Action::Append { node, command }));
                }
                if may_claim && !it.pending.is_empty() {
                    actions.push(Action::Doubt { node });
                }
                if self.bounds.releases && it.pending.is_empty() {
                    actions.push(Action::Release { node });
                }
            }
            Role::Assigned { .. } => actions.push(Action::Restart { node }),
        }
    }

    /// The epochs that a look at the log could have shown at some time, and none.
    fn epochs(&self, log: &[Record]) -> BTreeSet<u8> {
        (0..=log.len()).map(|end| Fold::of(&log[..end], self.flaw).epoch).collect()
    }

    /// Takes a step; `None` where nothing comes of it.
    pub(super) fn take(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Claim { node, epoch } => state.claim(node, epoch),
            Action::ClaimAgain { node } => state.claim(node, state.next_epoch(node)),
            Action::ReadToClaim { node } => {
                let answers = state.nodes[usize::from(node)].read_to_claim(&state.log, self.flaw)?;
                state.answer(answers);
            }
            Action::Append { node, command } => {
                let record = state.nodes[usize::from(node)].append(command)?;
                state.left.commits -= 1;
                state.way.insert(record);
            }
            Action::Arrive { record, reported, again } => self.arrive(state, record, reported, again),
            Action::Read { node } => {
                let answers = state.nodes[usize::from(node)].read(&state.log, self.flaw)?;
                state.answer(answers);
            }
            Action::Doubt { node } => {
                if self.flaw == Some(Flaw::DenyOnError) {
                    let answers = state.nodes[usize::from(node)].settle();
                    state.answer(answers);
                }
                state.claim(node, state.next_epoch(node));
            }
            Action::Release { node } => {
                let it = std::mem::take(&mut state.nodes[usize::from(node)]);
                let Role::Owning(owner) = it.role else { return None };
                let body = Body::Release { seq: owner.next_seq };
                state.way.insert(Record { epoch: owner.epoch, nonce: owner.nonce, body });
            }
            Action::Crash { node } => {
                let it = std::mem::take(&mut state.nodes[usize::from(node)]);
                if let (Role::Owning(owner), Some(Flaw::EpochPerAssignment)) = (it.role, self.flaw) {
                    let assigned = Role::Assigned { epoch: owner.epoch, nonce: owner.nonce };
                    state.nodes[usize::from(node)].role = assigned;
                }
            }
            Action::Restart { node } => self.restart(&state.log, &mut state.nodes[usize::from(node)]),
            Action::Truncate { end } => {
                state.left.damages -= 1;
                state.log.truncate(usize::from(end));
            }
        }
        Some(())
    }

    fn arrive(&self, state: &mut State, record: Record, reported: bool, again: bool) {
        let offset = state.log.len();
        state.log.push(record);
        if again {
            state.left.duplicates -= 1;
        } else {
            state.way.remove(&record);
        }
        state.counted.extend(Fold::of(&state.log, self.flaw).counted);
        if reported && let Some(node) = state.nodes.iter_mut().find(|node| node.listens_for(&record)) {
            let answers = node.reported(&record, offset, self.flaw);
            state.answer(answers);
        }
    }

    /// Under the assignment of before the crash, if the log still shows it.
    fn restart(&self, log: &[Record], node: &mut Node) {
        let Role::Assigned { epoch, nonce } = node.role else { return };
        *node = Node { fold: Fold::of(log, self.flaw), ..Node::default() };
        if node.fold.is_open(epoch, nonce) {
            node.own(epoch, nonce);
        } else {
            *node = Node::default();
        }
    }
}

impl State {
    /// Appends a claim of this node with this epoch and a nonce of its own.
    fn claim(&mut self, node: u8, epoch: u8) {
        // Counted down, so every claim has another.
        let nonce = self.left.claims;
        self.left.claims -= 1;
        self.way.insert(Record { epoch, nonce, body: Body::Claim });
        self.nodes[usize::from(node)].role = Role::Claiming { epoch, nonce };
    }

    /// Above the node's own epoch and every one that it has read.
    fn next_epoch(&self, node: u8) -> u8 {
        let it = &self.nodes[usize::from(node)];
        let own = match &it.role {
            Role::Claiming { epoch, .. } | Role::Assigned { epoch, .. } => *epoch,
            Role::Owning(owner) => owner.epoch,
            Role::Idle | Role::Halted => 0,
        };
        own.max(it.fold.epoch) + 1
    }

    fn answer(&mut self, answers: Answers) {
        self.acknowledged.extend(answers.acknowledged);
        self.denied.extend(answers.denied);
    }
}
