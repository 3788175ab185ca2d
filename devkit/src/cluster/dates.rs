//! Dates as Kubernetes, HTTP and mso's log write them.

use mso::clock::UnixTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use time::format_description::well_known::Rfc3339;

/// As a `Time` of the API: RFC 3339 in whole seconds, which are cut and not rounded.
pub(super) fn rfc3339(time: UnixTime) -> String {
    date(time).format(&Rfc3339).expect("a date of four digits has this form")
}

/// As mso's log has it: RFC 3339 with milliseconds, which are cut as well.
pub(super) fn rfc3339_with_milliseconds(time: UnixTime) -> String {
    let milliseconds = (time.0.fract() * 1000.0) as u32;
    rfc3339(time).replace('Z', &format!(".{milliseconds:03}Z"))
}

/// As the header `Date`.
pub(super) fn http_date(time: UnixTime) -> String {
    let text = date(time).format(&Rfc2822).expect("a date of four digits has this form");
    text.replace("+0000", "GMT")
}

/// Of the years that both forms can write.
fn date(time: UnixTime) -> OffsetDateTime {
    const YEAR_2900: f64 = 29_348_006_400.0;
    OffsetDateTime::from_unix_timestamp(time.0.clamp(0.0, YEAR_2900) as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
