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
        let mark = match self.grade {
            Grade::Good => '✓',
            Grade::Warning => '!',
            Grade::Bad => '✗',
        };
        write!(f, "{mark} {:<14} {}", self.subject, self.text)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n{:17}→ {}", "", self.remedy.replace('\n', &format!("\n{:19}", ""))) }
    }
}

/// Says each finding as it comes. The worst of all.
///
/// # Errors
/// The output is gone.
pub fn run(config: &Config) -> io::Result<Grade> {
    let mut output = io::stdout().lock();
    let is_colored = output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut worst = Grade::Good;
    let mut result = Ok(());
    let mut say = |finding: Finding| {
        worst = worst.max(finding.grade);
        let color = match finding.grade {
            Grade::Good => 32,
            Grade::Warning => 33,
            Grade::Bad => 31,
        };
        let written = if is_colored { writeln!(output, "\x1b[{color}m{finding}\x1b[0m") } else { writeln!(output, "{finding}") };
        result = std::mem::replace(&mut result, Ok(())).and(written).and(output.flush());
    };
    broker::check(&config.mqtt, &config.simulator, &mut say);
    cluster::check(config, &mut say);
    result.map(|()| worst)
}
