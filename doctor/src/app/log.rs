//! Reads the log of a gateway: where it listens, and why the app does not start.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// The last lines of a log, which grows while it is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<VecDeque<String>>>);

/// Why an app does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// One sentence.
    pub(crate) finding: String,
    /// What to do, if the gateway knows it.
    pub(crate) hint: Option<String>,
}

impl Log {
    /// Adds a line.
    pub(crate) fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// Returns what the log says about the end of the gateway or of one of its programs, if it says anything.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        of_gateway(&lines).or_else(|| of_program(&lines))
    }
}

/// Reads the error with which the gateway has ended: a line, then the last lines of a program, then a hint.
fn of_gateway(lines: &[&str]) -> Option<Cause> {
    let start = lines.iter().rposition(|line| line.starts_with(ERROR))?;
    let (first, rest) = lines.get(start..)?.split_first()?;
    let finding = first.strip_prefix(ERROR)?;
    // The last line of an exception in Python has its type and message.
    let said = rest.iter().rfind(|line| line.starts_with("  "));
    Some(Cause {
        finding: match (finding.strip_suffix(LAST_LINES), said) {
            (Some(finding), Some(said)) => format!("{finding}: {}", said.trim()),
            _ => finding.to_owned(),
        },
        hint: rest
            .iter()
            .find_map(|line| line.strip_prefix("hint: "))
            .map(str::to_owned),
    })
}

/// Reads that a program has ended, and what it has written before.
fn of_program(lines: &[&str]) -> Option<Cause> {
    let ended = lines.iter().rposition(|line| line.contains(" ERROR "))?;
    let (before, rest) = lines.split_at_checked(ended)?;
    let (_, finding) = rest.first()?.split_once(" ERROR ")?;
    let said = before.iter().rev().find_map(|line| {
        line.strip_prefix("[streamlit] ")
            .or_else(|| line.strip_prefix("[api] "))
    });
    Some(Cause {
        finding: match said {
            Some(said) => format!("{finding}: {}", said.trim()),
            None => finding.to_owned(),
        },
        hint: None,
    })
}

/// Returns the address in the line that says where the gateway listens.
pub(crate) fn listening(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http")?;
    let address = rest.strip_prefix('s').unwrap_or(rest).strip_prefix("://")?;
    address
        .split_whitespace()
        .next()?
        .trim_end_matches('/')
        .parse()
        .ok()
}

/// How the program begins its last message.
const ERROR: &str = "error: ";

/// How that message introduces the lines of a program.
const LAST_LINES: &str = "; its last lines were:";

/// More than the longest message of a gateway.
const MAX_LINES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_log() {
        let address = |line| listening(line).map(|address| address.to_string());
        assert_eq!(
            address("INFO listening on http://127.0.0.1:8000"),
            Some("127.0.0.1:8000".into())
        );
        assert_eq!(
            address("INFO listening on https://[::1]:80"),
            Some("[::1]:80".into())
        );
        assert_eq!(
            address("INFO listening for operators on http://127.0.0.1:1"),
            None
        );
        assert_eq!(address("warning"), None);
    }

    #[test]
    fn the_cause_is_the_last_error_with_the_last_line_of_the_program() {
        for (lines, finding, hint) in [
            (
                "INFO importing app:app\nerror: `python3` cannot import `app:app`; its last lines were:\n  Traceback\n  \
                 ImportError: no\n\nhint: correct it",
                "`python3` cannot import `app:app`: ImportError: no",
                Some("correct it"),
            ),
            (
                "error: Streamlit has ended 5 times in a row, the last time with exit code 0; it has written nothing",
                "Streamlit has ended 5 times in a row, the last time with exit code 0; it has written nothing",
                None,
            ),
            (
                "[streamlit] ValueError: no\n2026-01-01T00:00:00Z ERROR Streamlit has ended with exit code 1\n[api] INFO: ready",
                "Streamlit has ended with exit code 1: ValueError: no",
                None,
            ),
            (
                "2026-01-01T00:00:00Z ERROR Streamlit has ended with exit code 0",
                "Streamlit has ended with exit code 0",
                None,
            ),
        ] {
            let log = Log::default();
            lines.lines().for_each(|line| log.push(line.to_owned()));
            let expected = Cause {
                finding: finding.to_owned(),
                hint: hint.map(str::to_owned),
            };
            assert_eq!(log.cause(), Some(expected), "{lines}");
        }
        let log = Log::default();
        log.push("2026-01-01T00:00:00Z  INFO listening on http://127.0.0.1:8000".to_owned());
        assert_eq!(log.cause(), None);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let log = Log::default();
        log.push("error: old".to_owned());
        for number in 0..MAX_LINES {
            log.push(format!("line {number}"));
        }
        assert_eq!(log.cause(), None);
    }
}
