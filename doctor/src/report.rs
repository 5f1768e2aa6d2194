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
    /// Returns true if something has failed, as far as the options count it, or if no check could run.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let limit = if self.is_strict {
            Status::Warn
        } else {
            Status::Fail
        };
        let has_problem = self.findings.iter().any(|finding| finding.status >= limit);
        !self.is_lenient && (has_problem || !self.has_result())
    }

    /// Returns true if a check has passed or found something.
    fn has_result(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.status != Status::Skipped)
    }

    /// Returns the report for a person, with colors if `is_colored`: first what is wrong, and checks that are skipped for the
    /// same reason in one line.
    #[must_use]
    pub fn text(&self, is_colored: bool) -> String {
        let mut text = String::new();
        let lines = self.lines();
        let width = lines.iter().map(|line| line.title.len()).max();
        let width = width.unwrap_or_default();
        for Line {
            finding,
            title,
            detail,
        } in lines
        {
            let (word, color) = status(finding.status);
            let word = if is_colored {
                format!("\u{1b}[{color}m{word}\u{1b}[0m")
            } else {
                word.to_owned()
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{word}  {title:width$}  {detail}");
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
            "\n{}: {} passed, {} warnings, {} failed, {} skipped{}",
            self.target,
            count(Status::Pass),
            count(Status::Warn),
            count(Status::Fail),
            count(Status::Skipped),
            if self.has_result() {
                ""
            } else {
                ": nothing could be checked"
            }
        );
        text
    }

    /// Returns the lines of the text, in their order.
    fn lines(&self) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = Vec::new();
        for finding in &self.findings {
            let is_same = |other: &&Finding| {
                other.status == Status::Skipped && other.finding == finding.finding
            };
            let same: Vec<&Finding> = self.findings.iter().filter(is_same).collect();
            let mut line = Line {
                finding,
                title: title(finding),
                detail: detail(finding),
            };
            if finding.status == Status::Skipped && same.len() > 1 {
                if same
                    .first()
                    .is_none_or(|first| !std::ptr::eq(*first, finding))
                {
                    continue;
                }
                let ids: Vec<&str> = same.iter().map(|finding| finding.check.id).collect();
                line.title = format!("{} checks", same.len());
                line.detail = format!("{}: {}", line.detail, ids.join(", "));
            }
            lines.push(line);
        }
        lines.sort_by_key(|line| match line.finding.status {
            Status::Fail => 0,
            Status::Warn => 1,
            Status::Pass | Status::Skipped => 2,
        });
        lines
    }

    /// Returns the report for a script.
    #[must_use]
    pub fn json(&self) -> Value {
        let worst = self.findings.iter().map(|finding| finding.status).max();
        let status = match worst {
            _ if self.has_failed() => "fail",
            Some(Status::Pass) => "pass",
            _ => "warn",
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

/// Why nothing was checked.
#[derive(Debug, Clone)]
pub struct ErrorReport {
    /// What should have been checked.
    pub target: String,
    /// Why it was not, as standard error says it.
    pub error: String,
    /// As in [`Report`].
    pub is_lenient: bool,
}

impl ErrorReport {
    /// Returns the report for a script: with the fields of [`Report::json`], no checks, and the error.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "version": 1,
            "status": "error",
            "target": self.target,
            "warnings_only": self.is_lenient,
            "checks": [],
            "error": self.error,
        })
    }

    /// Returns the report for a test system, as JUnit XML: one test that could not run.
    ///
    /// # Errors
    ///
    /// If the XML cannot be written.
    pub fn junit(&self) -> Result<String, quick_junit::SerializeError> {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message(self.error.as_str());
        let mut case = TestCase::new("doctor", status);
        case.set_classname("fluxlit-doctor");
        let mut suite = TestSuite::new(self.target.as_str());
        suite.add_test_case(case);
        let mut report = quick_junit::Report::new("fluxlit-doctor");
        report.add_test_suite(suite);
        report.to_string()
    }
}

/// Returns a line about a check that has ended, without a line break: the worst that it has found. The report has the rest.
#[must_use]
pub fn progress(findings: &[Finding]) -> Option<String> {
    let worst = findings.iter().max_by_key(|finding| finding.status)?;
    let (word, _) = status(worst.status);
    let found = match worst.status {
        Status::Pass | Status::Skipped => String::new(),
        Status::Warn | Status::Fail => format!(": {}", worst.finding),
    };
    Some(format!("{word}  {}{found}", title(worst)))
}

/// A line of the text.
struct Line<'a> {
    /// The first one, if there are several.
    finding: &'a Finding,
    title: String,
    detail: String,
}

/// Returns the word for a status, and its color.
fn status(status: Status) -> (&'static str, u8) {
    match status {
        Status::Pass => ("ok  ", 32),
        Status::Skipped => ("skip", 36),
        Status::Warn => ("warn", 33),
        Status::Fail => ("fail", 31),
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
