//! Writes findings as text, JSON and JUnit XML.
//!
//! The JSON has the fields of FluxLit's doctor, so that its scripts can read it: `status`, `target`, `warnings_only`, and for
//! each check `name`, `status` and `detail`. The others are additions.

use std::fmt::Write as _;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Value, json};

use crate::finding::{Finding, Status};

/// Everything that was found about a target.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was checked: an app, a URL, a file.
    pub target: String,
    /// What was found, in the order of the checks.
    pub findings: Vec<Finding>,
    /// True if a warning counts as a failure.
    pub is_strict: bool,
    /// True if a failure counts as a warning, for FluxLit's `--warnings-only`.
    pub is_lenient: bool,
}

impl Report {
    /// Returns true if something has failed, as far as the options count it.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let limit = if self.is_strict {
            Status::Warn
        } else {
            Status::Fail
        };
        !self.is_lenient && self.findings.iter().any(|finding| finding.status >= limit)
    }

    /// Returns the report for a person, with colors if `is_colored`.
    #[must_use]
    pub fn text(&self, is_colored: bool) -> String {
        let mut text = String::new();
        let width = self
            .findings
            .iter()
            .map(|finding| title(finding).len())
            .max()
            .unwrap_or_default();
        for finding in &self.findings {
            let (word, color) = match finding.status {
                Status::Pass => ("ok  ", 32),
                Status::Skipped => ("skip", 36),
                Status::Warn => ("warn", 33),
                Status::Fail => ("fail", 31),
            };
            let word = if is_colored {
                format!("\u{1b}[{color}m{word}\u{1b}[0m")
            } else {
                word.to_owned()
            };
            let detail = detail(finding);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{word}  {:width$}  {detail}", title(finding));
            for (name, value) in &finding.evidence {
                let _ = writeln!(text, "      {:width$}  {name}: {value}", "");
            }
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "      {:width$}  hint: {hint}", "");
                let _ = writeln!(
                    text,
                    "      {:width$}  see {}",
                    "",
                    finding.check.documentation()
                );
            }
        }
        let count = |status| {
            self.findings
                .iter()
                .filter(|finding| finding.status == status)
                .count()
        };
        let _ = writeln!(
            text,
            "\n{}: {} passed, {} warnings, {} failed, {} skipped",
            self.target,
            count(Status::Pass),
            count(Status::Warn),
            count(Status::Fail),
            count(Status::Skipped)
        );
        text
    }

    /// Returns the report for a script.
    #[must_use]
    pub fn json(&self) -> Value {
        let worst = self.findings.iter().map(|finding| finding.status).max();
        let status = match worst {
            Some(Status::Fail) if !self.is_lenient => "fail",
            Some(Status::Warn) if self.has_failed() => "fail",
            Some(Status::Fail | Status::Warn) => "warn",
            _ => "pass",
        };
        let checks: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                let evidence: serde_json::Map<String, Value> = finding
                    .evidence
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())))
                    .collect();
                json!({
                    "id": finding.check.id,
                    "name": finding.check.name,
                    "status": word(finding.status),
                    "detail": finding.finding,
                    "hint": finding.hint,
                    "evidence": evidence,
                    "documentation": finding.check.documentation(),
                })
            })
            .collect();
        json!({
            "version": 1,
            "status": status,
            "target": self.target,
            "warnings_only": self.is_lenient,
            "checks": checks,
        })
    }

    /// Returns the report for a test system, as JUnit XML.
    ///
    /// # Errors
    ///
    /// If the XML cannot be written.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut report = quick_junit::Report::new("fluxlit-doctor");
        let mut suite = TestSuite::new(self.target.as_str());
        for finding in &self.findings {
            let mut status = match finding.status {
                Status::Pass => TestCaseStatus::success(),
                Status::Skipped => TestCaseStatus::skipped(),
                Status::Warn if !self.is_strict || self.is_lenient => TestCaseStatus::success(),
                Status::Fail if self.is_lenient => TestCaseStatus::success(),
                Status::Warn | Status::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
            };
            status.set_message(finding.finding.as_str());
            let mut case = TestCase::new(title(finding), status);
            case.set_classname("fluxlit-doctor");
            let hint = finding.hint.as_deref().unwrap_or_default();
            case.set_system_out(format!("{}\n{hint}", detail(finding)));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
        report.to_string()
    }
}

fn title(finding: &Finding) -> String {
    if finding.check.id == finding.check.name {
        finding.check.name.to_owned()
    } else {
        format!("{} {}", finding.check.id, finding.check.name)
    }
}

fn detail(finding: &Finding) -> String {
    if finding.status == Status::Skipped {
        format!("skipped (because {})", finding.finding)
    } else {
        finding.finding.clone()
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Pass => "PASS",
        Status::Skipped => "SKIPPED",
        Status::Warn => "WARN",
        Status::Fail => "FAIL",
    }
}
