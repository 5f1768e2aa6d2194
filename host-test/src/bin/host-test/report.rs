//! How are the results of cases told: to a person, to a program, to a build server?

use serde_json::{Value, json};

/// What came of one case under one schedule.
pub(super) struct CaseResult {
    pub(super) file: String,
    pub(super) case: String,
    pub(super) why: String,
    /// The schedule, unless it is the usual one.
    pub(super) schedule: Option<&'static str>,
    pub(super) ending: CaseEnding,
}

pub(super) enum CaseEnding {
    Met,
    Missed(Vec<String>),
    Skipped(String),
}

impl CaseResult {
    pub(super) fn has_missed(&self) -> bool {
        matches!(self.ending, CaseEnding::Missed(_))
    }

    fn title(&self) -> String {
        let schedule = self
            .schedule
            .map_or_else(String::new, |schedule| format!(" ({schedule})"));
        format!("{}: {}{schedule}", self.file, self.case)
    }
}

pub(super) fn to_text(results: &[CaseResult]) -> String {
    let mut text = String::new();
    let (mut met, mut missed, mut skipped) = (0, 0, 0);
    for result in results {
        let title = result.title();
        match &result.ending {
            CaseEnding::Met => met += 1,
            CaseEnding::Missed(misses) => {
                missed += 1;
                text.push_str(&format!("missed   {title}\n"));
                if !result.why.is_empty() {
                    text.push_str(&format!("         why: {}\n", result.why));
                }
                for miss in misses {
                    let miss = miss.replace('\n', "\n           ");
                    text.push_str(&format!("         {miss}\n"));
                }
            }
            CaseEnding::Skipped(reason) => {
                skipped += 1;
                text.push_str(&format!("skipped  {title}: {reason}\n"));
            }
        }
    }
    text.push_str(&format!("{met} met, {missed} missed, {skipped} skipped\n"));
    text
}

pub(super) fn to_json(results: &[CaseResult]) -> String {
    let results: Vec<Value> = results
        .iter()
        .map(|result| {
            let (ending, details) = match &result.ending {
                CaseEnding::Met => ("met", json!([])),
                CaseEnding::Missed(misses) => ("missed", json!(misses)),
                CaseEnding::Skipped(reason) => ("skipped", json!([reason])),
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

/// The XML that build servers read: a suite for each file, a test case for each case and schedule.
pub(super) fn to_junit(results: &[CaseResult]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    let mut files: Vec<&str> = results.iter().map(|result| result.file.as_str()).collect();
    files.dedup();
    for file in files {
        let of_file: Vec<&CaseResult> = results
            .iter()
            .filter(|result| result.file == file)
            .collect();
        let failures = of_file.iter().filter(|result| result.has_missed()).count();
        let skipped = of_file
            .iter()
            .filter(|result| matches!(result.ending, CaseEnding::Skipped(_)))
            .count();
        xml.push_str(&format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" skipped=\"{skipped}\">\n",
            escape(file),
            of_file.len()
        ));
        for result in of_file {
            let schedule = result
                .schedule
                .map_or_else(String::new, |schedule| format!(" ({schedule})"));
            let name = escape(&format!("{}{schedule}", result.case));
            let class = escape(file);
            let body = match &result.ending {
                CaseEnding::Met => {
                    xml.push_str(&format!(
                        "    <testcase classname=\"{class}\" name=\"{name}\"/>\n"
                    ));
                    continue;
                }
                CaseEnding::Missed(misses) => format!(
                    "<failure message=\"{}\">{}</failure>",
                    escape(misses.first().map_or("", String::as_str)),
                    escape(&misses.join("\n"))
                ),
                CaseEnding::Skipped(reason) => format!("<skipped message=\"{}\"/>", escape(reason)),
            };
            xml.push_str(&format!(
                "    <testcase classname=\"{class}\" name=\"{name}\">{body}</testcase>\n"
            ));
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text as XML has it. Control characters, which XML cannot carry, become `?`.
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
