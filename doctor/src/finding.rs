//! Describes what a check has found.

use crate::check::Check;

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Nothing is wrong.
    Pass,
    /// The check did not run; it never counts as passed.
    Skipped,
    /// A defence is missing, or a function is impaired.
    Warn,
    /// Something does not work, or is unsafe.
    Fail,
}

/// One thing that a check has found. A check may return several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: &'static Check,
    /// The result.
    pub status: Status,
    /// What was found, in one sentence; for a skipped check, why it was skipped.
    pub finding: String,
    /// What to do, in one sentence.
    pub hint: Option<String>,
    /// What was observed: names and values. Never contains a secret.
    pub evidence: Vec<(&'static str, String)>,
}

/// What a run tells while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A check begins.
    Begins(&'static Check),
    /// A check has found this.
    Ended(&'a [Finding]),
}

impl Finding {
    fn new(check: &'static Check, status: Status, finding: impl Into<String>) -> Self {
        Self {
            check,
            status,
            finding: finding.into(),
            hint: None,
            evidence: Vec::new(),
        }
    }

    /// Nothing is wrong.
    pub fn pass(check: &'static Check, finding: impl Into<String>) -> Self {
        Self::new(check, Status::Pass, finding)
    }

    /// The check did not run.
    pub fn skipped(check: &'static Check, because: impl Into<String>) -> Self {
        Self::new(check, Status::Skipped, because)
    }

    /// A defence is missing, or a function is impaired.
    pub fn warn(check: &'static Check, finding: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, finding)
    }

    /// Something does not work, or is unsafe.
    pub fn fail(check: &'static Check, finding: impl Into<String>) -> Self {
        Self::new(check, Status::Fail, finding)
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what was observed.
    #[must_use]
    pub fn evidence(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.evidence.push((name, value.into()));
        self
    }
}
