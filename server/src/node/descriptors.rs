//! File descriptors: as many as the system grants, and how many of them clients may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Kept back for everything that is no client: the log, the database, health and metrics, other nodes, the provider.
const KEPT: u64 = 256;

/// Raises the limit of this process as far as it may, which services are seldom started with; answers what it is then.
pub(super) fn raise() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return KEPT };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return hard;
    }
    soft
}

/// How many connections of clients there may be where so many are wished for.
pub(super) fn for_clients(wished: usize, limit: u64) -> usize {
    let left = limit - KEPT.min(limit / 2);
    let most = usize::try_from(left).unwrap_or(usize::MAX);
    if wished > most {
        tracing::warn!(
            wished,
            most,
            "the limit of {limit} descriptors leaves room for {most} connections: raise it (`ulimit -n`)"
        );
    }
    wished.min(most)
}

#[cfg(test)]
mod tests {
    use super::for_clients;

    #[test]
    fn some_descriptors_are_never_a_clients() {
        assert_eq!(for_clients(4096, 1_048_576), 4096);
        assert_eq!(for_clients(4096, 1024), 768);
        assert_eq!(for_clients(4096, 256), 128);
        assert_eq!(for_clients(4096, 0), 0);
    }
}
