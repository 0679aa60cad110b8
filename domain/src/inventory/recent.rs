//! What is remembered for a while, then forgotten.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Duration, Timestamp};

/// A map whose entries are forgotten a fixed span after they were made. Looking up is O(log n); forgetting is paid for
/// by remembering.
#[derive(Debug, PartialEq)]
pub(super) struct Recent<K, V> {
    values: BTreeMap<K, V>,
    /// Every key of `values` once, in the order in which they were remembered.
    queue: VecDeque<(Timestamp, K)>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { values: BTreeMap::new(), queue: VecDeque::new() }
    }
}

impl<K: Ord + Clone, V> Recent<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key)
    }

    /// Remembers `key` from `at` on, unless it is remembered already.
    pub(super) fn remember(&mut self, key: &K, value: V, at: Timestamp) {
        if !self.values.contains_key(key) {
            self.values.insert(key.clone(), value);
            self.queue.push_back((at, key.clone()));
        }
    }

    /// Forgets what is older than `span` at `now`.
    pub(super) fn forget(&mut self, now: Timestamp, span: Duration) {
        while self.queue.front().is_some_and(|(at, _)| *at < now - span) {
            if let Some((_, key)) = self.queue.pop_front() {
                self.values.remove(&key);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }
}

impl<K: Ord + Serialize, V: Serialize> Serialize for Recent<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.queue.iter().map(|(at, key)| (at, key, self.values.get(key))))
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Recent<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut recent = Self::default();
        for (at, key, value) in Vec::<(Timestamp, K, V)>::deserialize(deserializer)? {
            recent.remember(&key, value, at);
        }
        Ok(recent)
    }
}
