//! The only reader of a clock. The core has its time passed in as [`Now`]; what else needs the time asks here.

use std::fmt;
use std::time::{Instant, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timers: monotonic.
    pub instant: Instant,
    /// For dates: this machine's wall clock, which may be wrong by years on an edge node.
    pub unix: UnixTime,
}

/// Seconds since 1970 with a fraction.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct UnixTime(pub f64);

impl UnixTime {
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0 - earlier.0
    }

    pub fn plus_seconds(self, seconds: f64) -> Self {
        Self(self.0 + seconds)
    }
}

/// RFC 3339, to the second; its number where the calendar does not go that far.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = OffsetDateTime::from_unix_timestamp(self.0 as i64).ok().and_then(|date| date.format(&Rfc3339).ok());
        match date {
            Some(date) => f.write_str(&date),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for UnixTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<OffsetDateTime> for UnixTime {
    fn from(date: OffsetDateTime) -> Self {
        Self(date.unix_timestamp_nanos() as f64 / 1e9)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn now() -> Now {
    // A clock before 1970 cannot be told from one at 1970, and either is corrected by the API server's date.
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    Now { instant: Instant::now(), unix: UnixTime(unix) }
}
