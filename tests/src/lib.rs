//! Holds the running shop to its promises.
