//! Which of several nodes should own a partition: the one whose hash with it is highest. Every node that sees the
//! same members comes to the same answer, and a member that comes or goes moves no partition between the others.

use shopstream_domain::Partition;
use xxhash_rust::xxh3::xxh3_64;

/// The member of `names` that should own `partition`; `None` where there are none. Names must differ.
pub(super) fn choose<'a>(names: impl Iterator<Item = &'a str>, partition: Partition) -> Option<&'a str> {
    names.max_by_key(|name| (weight(name, partition), *name))
}

fn weight(name: &str, partition: Partition) -> u64 {
    xxh3_64(&[&partition.to_le_bytes(), name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];

    fn owners(names: &[&'static str]) -> Vec<&'static str> {
        (0..1000).map(|partition| choose(names.iter().copied(), partition).expect("a member")).collect()
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let mut reversed = NODES;
        reversed.reverse();
        assert_eq!(owners(&NODES), owners(&reversed));
        assert_eq!(choose(std::iter::empty(), 0), None);
    }

    #[test]
    fn a_member_that_goes_moves_its_own_partitions_and_no_other() {
        let (before, after) = (owners(&NODES), owners(&NODES[..4]));
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *before == "e", "{before} lost a partition to {after}");
        }
    }

    #[test]
    fn everybody_has_a_fair_share() {
        let owners = owners(&NODES);
        for node in NODES {
            let share = owners.iter().filter(|owner| **owner == node).count();
            assert!((150..=250).contains(&share), "{node} owns {share} of 1000");
        }
    }
}
