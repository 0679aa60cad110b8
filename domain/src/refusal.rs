//! A refusal by a rule, in the one form that travels: to the caller, to another node, into a log line.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who must act on a refusal, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalFamily {
    /// The request is wrong by itself, whatever the state: mend the named field.
    Invalid,
    /// The request is fine but the state does not allow it.
    Precondition,
    /// What the request is about does not exist.
    NotFound,
    /// What the request wants to create exists already.
    AlreadyExists,
}

/// Implemented by every context's `Error`: a rule that stood in the way.
pub trait Refusal: std::error::Error {
    /// A stable word in UPPER_SNAKE_CASE that programs may branch on.
    fn reason(&self) -> &'static str;

    /// Who must act.
    fn family(&self) -> RefusalFamily;

    /// The request field that is wrong, as a path such as `lines[3].quantity`.
    fn field(&self) -> Option<String> {
        None
    }

    /// The same refusal, without its type.
    fn refused(&self) -> Refused {
        Refused {
            reason: Cow::Borrowed(self.reason()),
            family: self.family(),
            field: self.field(),
            detail: self.to_string(),
        }
    }
}

/// A refusal without the type of its context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// See [`Refusal::reason`].
    pub reason: Cow<'static, str>,
    /// See [`Refusal::family`].
    pub family: RefusalFamily,
    /// See [`Refusal::field`].
    pub field: Option<String>,
    /// The error's text, for people.
    pub detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Refused {}
