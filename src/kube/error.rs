//! How a call can fail. The API server's `Status` is kept whole, and asked.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

#[derive(Clone, Debug, PartialEq)]
pub enum Error {
    /// The API server, or a proxy before it, answered that it did not do what was asked.
    Refused(Box<Status>),
    /// No whole answer came: no connection, a time limit, an answer cut off. What was asked may have been done.
    Lost(String),
    /// An answer came that cannot be read: not JSON, not what the API describes, or over a limit.
    Unreadable(String),
}

impl Error {
    /// The HTTP status code, where an answer came.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status.code),
            Self::Lost(_) | Self::Unreadable(_) => None,
        }
    }

    /// 404: the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// 409: another object has the name, or this is another object than the one that was meant.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// 410: the resource version is too old to watch or to continue a list from.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "{status}"),
            Self::Lost(why) => write!(f, "no answer: {why}"),
            Self::Unreadable(why) => write!(f, "unreadable answer: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// A word for programs: `AlreadyExists`, `Forbidden`, `Expired`. Empty where a proxy answered.
    pub reason: String,
    pub message: String,
    pub details: Details,
    /// The Retry-After header.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Details {
    pub kind: String,
    pub causes: Vec<Cause>,
}

/// One field that the API server refused.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Cause {
    pub reason: String,
    pub field: String,
    pub message: String,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.reason)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        Ok(())
    }
}
