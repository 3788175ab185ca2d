//! What the demonstration looks like: who speaks stands in front of each line; colours only where a person watches.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use devkit::feed::Feed;

/// Longer than any demonstration.
const FOR_EVER: Duration = Duration::from_secs(1 << 30);

#[derive(Clone, Copy)]
pub(crate) struct Screen {
    colours: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Style {
    Plain,
    Dim,
    Bold,
    Good,
    Bad,
    Out,
    In,
}

impl Screen {
    /// <https://no-color.org>
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: wanted && io::stdout().is_terminal() }
    }

    pub(crate) fn line(self, style: Style, text: &str) {
        let code = match style {
            Style::Plain => "",
            Style::Dim => "2",
            Style::Bold => "1",
            Style::Good => "32",
            Style::Bad => "1;31",
            Style::Out => "36",
            Style::In => "1;35",
        };
        // Nobody who does not take it has to be told.
        let _ = if self.colours && !code.is_empty() {
            writeln!(io::stdout(), "\x1b[{code}m{text}\x1b[0m")
        } else {
            writeln!(io::stdout(), "{text}")
        };
    }

    pub(crate) fn heading(self, text: &str) {
        self.line(Style::Plain, "");
        self.line(Style::Bold, text);
        self.line(Style::Plain, "");
    }

    /// Shows the service's log as it comes, from a thread of its own.
    ///
    /// # Errors
    /// The system gives no more threads.
    pub(crate) fn follow(self, log: Arc<Feed<String>>) -> Result<(), String> {
        let show = move || {
            for number in 0.. {
                let Some(line) = log.wait(FOR_EVER, |lines| lines.get(number).cloned()) else { return };
                self.line(Style::Dim, &format!("mso  │ {}", shortened(&line)));
            }
        };
        thread::Builder::new().name("log".to_owned()).spawn(show).map(drop).map_err(|error| format!("failed to start a thread: {error}"))
    }
}

/// A line of the service's log without its date and without where in the service it comes from, so that it fits a terminal.
fn shortened(line: &str) -> String {
    let parts = line.split_once("] ").and_then(|(from, message)| Some((from.split_once('T')?.1.split_once("Z ")?, message)));
    match parts {
        Some(((time, level), message)) => format!("{time} {} {message}", level.split('[').next().unwrap_or_default().trim_end()),
        None => line.to_owned(),
    }
}
