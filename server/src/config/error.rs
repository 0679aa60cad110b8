//! What is wrong with the settings, said to the person who made them: which, what came, what it takes, and where it
//! was set.

use std::fmt;
use std::path::PathBuf;

use figment::error::Kind;
use figment::{Figment, Metadata};

/// The name of the source that the flags are.
pub(super) const FLAGS: &str = "flags";
/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "SHOPSTREAM_";

/// Settings that a node cannot run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such setting.
    #[error("{key} is no setting ({place}): {}there are {known}", meant(nearest.as_deref()))]
    Unknown {
        /// What it was called.
        key: String,
        /// Where it was set.
        place: Place,
        /// The one that was probably meant.
        nearest: Option<String>,
        /// All there are.
        known: String,
    },
    /// A setting does not take this value.
    #[error("{key} is {found} ({place}), but it takes {allowed}")]
    Value {
        /// The setting.
        key: String,
        /// What came, as JSON; never a secret.
        found: String,
        /// Where it was set.
        place: Place,
        /// What it takes.
        allowed: &'static str,
    },
    /// A source cannot be read at all.
    #[error("{place}: {detail}")]
    Unreadable {
        /// Which.
        place: Place,
        /// What the parser says.
        detail: String,
    },
}

/// Where a setting was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the command line.
    Flag(String),
    /// In the environment, by a variable of this name.
    Variable(String),
    /// In a file.
    File(PathBuf),
    /// Nowhere.
    Default,
}

impl Place {
    fn of(metadata: Option<&Metadata>, key: &str) -> Self {
        let Some(metadata) = metadata else { return Self::Default };
        if let Some(path) = metadata.source.as_ref().and_then(|source| source.file_path()) {
            return Self::File(path.into());
        }
        match &*metadata.name {
            FLAGS => Self::Flag(format!("--{key}")),
            // The library's name for all of them together.
            name if name.contains("environment") => Self::Variable(format!("{PREFIX}{}", key.to_uppercase())),
            _ => Self::Default,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

impl ConfigError {
    /// What the library found first.
    pub(super) fn found(settings: &Figment, error: figment::Error) -> Self {
        match (error.kind, error.path.first()) {
            (Kind::UnknownField(key, known), _) => {
                let place = Place::of(settings.find_metadata(&key), &key);
                let nearest = nearest(&key, known).map(str::to_owned);
                Self::Unknown { key, place, nearest, known: known.join(", ") }
            }
            (_, Some(key)) => Self::value(settings, key),
            (kind, None) => {
                Self::Unreadable { place: Place::of(error.metadata.as_ref(), ""), detail: kind.to_string() }
            }
        }
    }

    /// The value of this setting is not one that it takes.
    pub(super) fn value(settings: &Figment, key: &str) -> Self {
        let value = || settings.find_value(key).ok()?.deserialize::<serde_json::Value>().ok();
        // It may be a password that only lost its quotes.
        let found =
            if key == "database" { None } else { value() }.map_or_else(|| "*****".into(), |v| v.to_string());
        let place = Place::of(settings.find_metadata(key), key);
        Self::Value { key: key.to_owned(), found, place, allowed: allowed(key) }
    }
}

/// Whether somebody has set this.
pub(super) fn is_named(settings: &Figment, key: &str) -> bool {
    Place::of(settings.find_metadata(key), key) != Place::Default
}

/// The name that is so much like `key` that it was probably meant.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |name: &&str| strsim::damerau_levenshtein(key, name);
    let nearest = known.iter().copied().min_by_key(likeness)?;
    (likeness(&nearest) <= 1 + key.len() / 5).then_some(nearest)
}

fn meant(nearest: Option<&str>) -> String {
    nearest.map(|nearest| format!("did you mean {nearest}? ")).unwrap_or_default()
}

/// What a setting takes.
pub(super) fn allowed(key: &str) -> &'static str {
    match key {
        "data" => "a folder",
        "listen" | "admin" => "an address such as 127.0.0.1:50051",
        "advertise" => "a host and a port such as shop-1:50051",
        "log" => "`local` or `kafka://HOST:PORT,…/TOPIC`",
        "database" => "a URL such as postgres://USER@HOST/NAME",
        "roles" => {
            "all of [gateway, commands, projections, sagas], or some where log and database are shared by nodes"
        }
        "provider" => "a URL such as http://127.0.0.1:50053",
        "node" => "a name, in quotes where it is a number",
        "partitions" => "a whole number from 1 to 1024",
        "snapshot_events" => "a whole number from 1 to 1000000",
        "log_watch_seconds" => "a whole number from 1 to 86400",
        "hold_seconds" => "a whole number from 1 to hold_max_seconds",
        "hold_max_seconds" => "a whole number from hold_seconds on",
        "provider_timeout_seconds" => "a whole number from 1 to 600",
        "answer_timeout_seconds" => "a whole number from 1 to 3600",
        "peer_percent" => "a whole number from 1 to 100",
        "behind_seconds" => "a whole number from 1 to 3600",
        "tries_max" => "a whole number from 0 to 100",
        "cache_mb" | "tail_mb" => "a whole number from 1 to 1048576",
        "queue" | "calls" | "connections" | "streams" => "a whole number from 1 to 1000000",
        _ => "another value",
    }
}
