//! The log on standard output: lines for people, or JSON for machines.

use std::io::{self, Write};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};
use simple_logger::SimpleLogger;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::macros::format_description;

use crate::clock;
use crate::config::{LogFormat, LogSettings};

/// Our own lines begin with this target; libraries have less to say.
const OURS: &str = "mso";
const LIBRARIES: LevelFilter = LevelFilter::Warn;

const TIME: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// # Errors
/// A logger is set already.
pub fn init(settings: LogSettings) -> Result<(), SetLoggerError> {
    match settings.format {
        LogFormat::Text => {
            let libraries = LIBRARIES.min(settings.level);
            SimpleLogger::new().with_level(libraries).with_module_level(OURS, settings.level).with_threads(true).init()?;
        }
        LogFormat::Json => {
            log::set_max_level(settings.level);
            log::set_boxed_logger(Box::new(JsonLogger { level: settings.level }))?;
        }
    }
    // Not to the log: a closed standard output may be what the panic is about.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let _ = writeln!(io::stderr(), "thread {}: {panic}", thread.name().unwrap_or("?"));
    }));
    Ok(())
}

struct JsonLogger {
    level: LevelFilter,
}

impl Log for JsonLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with(OURS);
        metadata.level() <= if is_ours { self.level } else { LIBRARIES.min(self.level) }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = OffsetDateTime::from_unix_timestamp_nanos((clock::now().unix.0 * 1e9) as i128).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            // There is nowhere to say that the log cannot be written.
            let _ = writeln!(io::stdout(), "{}", line(now, record.level(), record.target(), &record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

fn line(now: OffsetDateTime, level: Level, target: &str, message: &str) -> String {
    let time = now.format(TIME).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("?");
    serde_json::json!({"time": time, "level": level.as_str(), "thread": thread, "target": target, "message": message}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_machines_is_one_line_of_json_whatever_the_message_holds() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_000_000_000_123_456_789).unwrap();
        let line = line(time, Level::Warn, "mso::state", "two\nlines and a \" quote");
        assert!(!line.contains('\n'), "{line}");
        let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(fields["time"], "2001-09-09T01:46:40.123Z");
        assert_eq!(fields["level"], "WARN");
        assert_eq!(fields["target"], "mso::state");
        assert_eq!(fields["message"], "two\nlines and a \" quote");
        assert!(fields["thread"].as_str().unwrap().contains("a_line_for_machines"));
    }
}
