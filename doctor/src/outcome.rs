//! Collects what a check has found, and turns it into findings.

use crate::check::Check;
use crate::finding::Finding;

/// Something wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    /// One sentence that names the place.
    pub(crate) finding: String,
    /// What to write, and where.
    pub(crate) hint: String,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// A defence is missing or a function is impaired.
    Warn,
    /// Requests pass unfiltered, or the app does not work.
    Fail,
}

/// What a check has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) problems: Vec<Problem>,
    /// What is right, in one sentence each.
    pub(crate) right: Vec<String>,
    /// What could not be checked, with the reason.
    pub(crate) skipped: Vec<String>,
}

impl Outcome {
    pub(crate) fn fail(&mut self, finding: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Fail, finding.into(), hint.into());
    }

    pub(crate) fn warn(&mut self, finding: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warn, finding.into(), hint.into());
    }

    /// Returns true if nothing was looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.problems.is_empty() && self.right.is_empty() && self.skipped.is_empty()
    }

    /// Returns one finding for each problem and each skipped part; if there are none, that the check has passed. A check that has
    /// looked at nothing is skipped.
    pub(crate) fn findings(self, check: &'static Check) -> Vec<Finding> {
        let problems = self.problems.into_iter().map(|problem| {
            let finding = match problem.severity {
                Severity::Warn => Finding::warn(check, problem.finding),
                Severity::Fail => Finding::fail(check, problem.finding),
            };
            finding.hint(problem.hint)
        });
        let mut findings: Vec<Finding> = problems.collect();
        findings.extend(
            self.skipped
                .into_iter()
                .map(|reason| Finding::skipped(check, reason)),
        );
        if findings.is_empty() {
            findings.push(if self.right.is_empty() {
                Finding::skipped(check, "there was nothing to look at")
            } else {
                Finding::pass(check, self.right.join("; "))
            });
        }
        findings
    }

    fn add(&mut self, severity: Severity, finding: String, hint: String) {
        let problem = Problem {
            severity,
            finding,
            hint,
        };
        // Filter chains of one listener often share their configuration.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    pub(crate) fn right(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if !self.right.contains(&sentence) {
            self.right.push(sentence);
        }
    }

    pub(crate) fn skip(&mut self, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.skipped.contains(&reason) {
            self.skipped.push(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::LINT;
    use crate::finding::Status;

    #[test]
    fn a_check_has_passed_only_if_it_has_seen_something_right() {
        let [check, ..] = &LINT;
        type Change = fn(&mut Outcome);
        let rows: [(Change, &[Status]); 5] = [
            (|_| {}, &[Status::Skipped]),
            (|outcome| outcome.right("a"), &[Status::Pass]),
            (|outcome| outcome.skip("a"), &[Status::Skipped]),
            (
                |outcome| {
                    outcome.right("a");
                    outcome.skip("b");
                },
                &[Status::Skipped],
            ),
            (
                |outcome| {
                    outcome.right("a");
                    outcome.fail("b", "c");
                    outcome.warn("b", "c");
                },
                &[Status::Fail, Status::Warn],
            ),
        ];
        for (change, wanted) in rows {
            let mut outcome = Outcome::default();
            change(&mut outcome);
            let findings = outcome.findings(check);
            let statuses: Vec<Status> = findings.iter().map(|finding| finding.status).collect();
            assert_eq!(statuses, wanted, "{findings:#?}");
        }
    }
}
