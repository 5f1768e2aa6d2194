//! Formats the results of cases as text, as JSON, and as a JUnit report.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::exit::Exit;

/// The results of all cases of a run.
#[derive(Default)]
pub(crate) struct Report {
    results: Vec<ReportedCase>,
}

/// The result of a case under one schedule.
pub(crate) struct ReportedCase {
    pub(crate) file: String,
    pub(crate) case: String,
    pub(crate) why: String,
    /// The schedule, unless it is the default one.
    pub(crate) schedule: Option<&'static str>,
    pub(crate) verdict: Verdict,
}

/// The comparison of a case's result with its expectations.
pub(crate) enum Verdict {
    Met,
    /// With the mismatches.
    Missed(Vec<String>),
    /// With the reason.
    Skipped(String),
}

impl Verdict {
    /// Returns [`Self::Met`] if there are no mismatches.
    pub(crate) fn from_mismatches(mismatches: Vec<String>) -> Self {
        if mismatches.is_empty() {
            Self::Met
        } else {
            Self::Missed(mismatches)
        }
    }
}

impl Report {
    pub(crate) fn add(&mut self, result: ReportedCase) {
        self.results.push(result);
    }

    /// Returns [`Exit::Failed`] if a case missed its expectation.
    pub(crate) fn exit(&self) -> Exit {
        Exit::failed_if(self.results.iter().any(ReportedCase::has_missed))
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        let (mut met, mut missed, mut skipped) = (0, 0, 0);
        for result in &self.results {
            let title = format!("{}: {}", result.file, result.name());
            match &result.verdict {
                Verdict::Met => met += 1,
                Verdict::Missed(mismatches) => {
                    missed += 1;
                    text.push_str(&format!("missed   {title}\n"));
                    if !result.why.is_empty() {
                        text.push_str(&format!("         why: {}\n", result.why));
                    }
                    for mismatch in mismatches {
                        let mismatch = mismatch.replace('\n', "\n           ");
                        text.push_str(&format!("         {mismatch}\n"));
                    }
                }
                Verdict::Skipped(reason) => {
                    skipped += 1;
                    text.push_str(&format!("skipped  {title}: {reason}\n"));
                }
            }
        }
        text.push_str(&format!("{met} met, {missed} missed, {skipped} skipped\n"));
        text
    }

    pub(crate) fn to_json(&self) -> String {
        let results: Vec<Value> = self
            .results
            .iter()
            .map(|result| {
                let (ending, details) = match &result.verdict {
                    Verdict::Met => ("met", json!([])),
                    Verdict::Missed(mismatches) => ("missed", json!(mismatches)),
                    Verdict::Skipped(reason) => ("skipped", json!([reason])),
                };
                json!({
                    "file": result.file,
                    "case": result.case,
                    "schedule": result.schedule,
                    "ending": ending,
                    "details": details,
                })
            })
            .collect();
        format!("{:#}\n", Value::Array(results))
    }

    /// Formats the XML that build servers read: a test suite for each file, a test case for each case and schedule.
    pub(crate) fn to_junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
        for results in self.results.chunk_by(|one, other| one.file == other.file) {
            let Some(first) = results.first() else {
                continue;
            };
            let count =
                |is: fn(&ReportedCase) -> bool| results.iter().filter(|result| is(result)).count();
            let skipped = count(|result| matches!(result.verdict, Verdict::Skipped(_)));
            let file = escape(&first.file);
            xml.push_str(&format!(
                "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\" skipped=\"{skipped}\">\n",
                results.len(),
                count(ReportedCase::has_missed),
            ));
            for result in results {
                let name = escape(&result.name());
                let start = format!("    <testcase classname=\"{file}\" name=\"{name}\"");
                xml.push_str(&match &result.verdict {
                    Verdict::Met => format!("{start}/>\n"),
                    Verdict::Missed(mismatches) => format!(
                        "{start}><failure message=\"{}\">{}</failure></testcase>\n",
                        escape(mismatches.first().map_or("", String::as_str)),
                        escape(&mismatches.join("\n"))
                    ),
                    Verdict::Skipped(reason) => {
                        format!(
                            "{start}><skipped message=\"{}\"/></testcase>\n",
                            escape(reason)
                        )
                    }
                });
            }
            xml.push_str("  </testsuite>\n");
        }
        xml.push_str("</testsuites>\n");
        xml
    }
}

impl ReportedCase {
    fn has_missed(&self) -> bool {
        matches!(self.verdict, Verdict::Missed(_))
    }

    /// Returns the name of the case, with its schedule unless that is the default one.
    fn name(&self) -> String {
        match self.schedule {
            None => self.case.clone(),
            Some(schedule) => format!("{} ({schedule})", self.case),
        }
    }
}

/// Writes data to standard output. A reader that has closed the pipe, such as `head`, has what it wants, so that is not an
/// error.
pub(crate) fn print(data: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    match output
        .write_all(data.as_ref())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}

/// Escapes text for XML. Control characters, which XML cannot carry, become `?`.
fn escape(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '&' => "&amp;".to_owned(),
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\n' => "&#10;".to_owned(),
            character if character.is_control() => "?".to_owned(),
            character => character.to_string(),
        })
        .collect()
}
