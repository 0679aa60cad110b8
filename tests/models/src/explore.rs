//! Searches a model's states, all of them or until a rule is broken.

use std::fmt::{self, Debug};
use std::hash::Hash;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explored {
    /// States met, each once.
    pub states: usize,
    /// Steps taken, those to states met before among them.
    pub steps: usize,
    /// States on the longest of the shortest ways.
    pub depth: usize,
    /// Whether there are no more states.
    pub exhausted: bool,
    /// The shortest way to a broken promise, if there is one.
    pub broken: Option<Counterexample>,
    /// What should be reachable and was not met: where it is not empty, a promise may hold only because nothing
    /// happens.
    pub never: Vec<&'static str>,
}

/// A way to a broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// The promise.
    pub promise: &'static str,
    /// The steps, first to last.
    pub steps: Vec<String>,
}

/// Searches breadth first, until a promise is broken or there are no more states, or until `steps_max` steps were
/// taken (0: as many as it needs). The counterexample is then made as short as there is one.
pub fn explore<M>(model: M, steps_max: usize) -> Explored
where
    M: Model + Copy + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let mut explored = search(model, steps_max, None);
    while let Some(known) = &explored.broken {
        // The checker goes on a little after it found one, and keeps the last that it finds.
        match search(model, steps_max, Some(known.steps.len())).broken {
            Some(shorter) => explored.broken = Some(shorter),
            None => break,
        }
    }
    explored
}

/// Searches ways of less than `steps_below` steps.
fn search<M>(model: M, steps_max: usize, steps_below: Option<usize>) -> Explored
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
    M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
{
    let mut search = model.checker().finish_when(HasDiscoveries::AnyFailures);
    if steps_max > 0 {
        search = search.target_state_count(steps_max);
    }
    if let Some(steps) = steps_below {
        // The first state is at depth 1, and what is at the depth given is not looked at.
        search = search.target_max_depth(steps + 1);
    }
    let searched = search.spawn_bfs().join();
    let mut found = searched.discoveries();
    let (mut broken, mut never): (Option<Counterexample>, _) = (None, Vec::new());
    for property in searched.model().properties() {
        let is_example = matches!(property.expectation, Expectation::Sometimes);
        match found.remove(property.name) {
            None if is_example => never.push(property.name),
            Some(path) if !is_example => {
                let actions = path.into_actions();
                let steps: Vec<String> = actions.iter().map(|action| format!("{action:?}")).collect();
                if broken.as_ref().is_none_or(|known| steps.len() < known.steps.len()) {
                    broken = Some(Counterexample { promise: property.name, steps });
                }
            }
            Some(_) | None => {}
        }
    }
    let (states, steps) = (searched.unique_state_count(), searched.state_count());
    let exhausted = broken.is_none() && (steps_max == 0 || steps < steps_max);
    Explored { states, steps, depth: searched.max_depth(), exhausted, broken, never }
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, .. } = self;
        let end = if self.exhausted { "exhausted" } else { "not exhausted" };
        write!(f, "{states} states, {steps} steps, depth {depth}, {end}")?;
        if !self.never.is_empty() {
            write!(f, ", never: {}", self.never.join("; "))?;
        }
        match &self.broken {
            Some(broken) => write!(f, ", broken in {} steps: {}", broken.steps.len(), broken.promise),
            None => Ok(()),
        }
    }
}
