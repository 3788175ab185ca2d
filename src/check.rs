//! `mso check`: whether the service could do its work with these settings. It asks the broker and the API server, before the service runs
//! or beside it, and changes nothing.

mod broker;
mod cluster;

use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::config::Config;

/// How good what was found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Good,
    /// The service does its work, or may, in a lesser way.
    Warning,
    /// It does not.
    Bad,
}

impl Grade {
    pub(crate) fn mark(self) -> char {
        match self {
            Self::Good => '✓',
            Self::Warning => '!',
            Self::Bad => '✗',
        }
    }

    /// Where there are colors, in that of this grade.
    pub(crate) fn paint(self, text: &impl fmt::Display, is_colored: bool) -> String {
        let color = match self {
            Self::Good => 32,
            Self::Warning => 33,
            Self::Bad => 31,
        };
        if is_colored { format!("\x1b[{color}m{text}\x1b[0m") } else { text.to_string() }
    }
}

/// In a terminal, and where nobody asked for none: <https://no-color.org>.
pub(crate) fn is_colored(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub grade: Grade,
    /// One word or two.
    pub subject: &'static str,
    pub text: String,
    /// What a person can type, or do. Empty where nothing is wrong.
    pub remedy: String,
}

impl Finding {
    pub fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self { grade: Grade::Good, subject, text: text.into(), remedy: String::new() }
    }

    pub fn warning(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Warning, subject, text: text.into(), remedy: remedy.into() }
    }

    pub fn bad(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade: Grade::Bad, subject, text: text.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:<14} {}", self.grade.mark(), self.subject, self.text)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n{:17}→ {}", "", self.remedy.replace('\n', &format!("\n{:19}", ""))) }
    }
}

/// Says each finding as it comes. The worst of all.
///
/// # Errors
/// The output is gone.
pub fn run(config: &Config) -> io::Result<Grade> {
    let mut output = io::stdout().lock();
    let is_colored = is_colored(&output);
    let mut worst = Grade::Good;
    let mut result = Ok(());
    let mut say = |finding: Finding| {
        worst = worst.max(finding.grade);
        let written = writeln!(output, "{}", finding.grade.paint(&finding, is_colored));
        result = std::mem::replace(&mut result, Ok(())).and(written).and(output.flush());
    };
    broker::check(&config.mqtt, &config.simulator, &mut say);
    cluster::check(config, &mut say);
    result.map(|()| worst)
}
