//! Runs cases on guests.

use std::path::Path;

use host_test::case_file::{CaseFile, Runner, Schedule};

/// Parses a case file.
#[track_caller]
pub(crate) fn parse(text: &str) -> CaseFile {
    CaseFile::parse(Path::new(PATH), text).expect("the file is valid")
}

/// Runs every case of a file and returns what differs from the expectations.
#[track_caller]
pub(crate) fn mismatches_of_file(runner: &Runner, text: &str) -> Vec<String> {
    let file = parse(text);
    let mismatches = |case| runner.mismatches(Path::new(PATH), &file, case, Schedule::default());
    file.cases
        .iter()
        .flat_map(|case| mismatches(case).expect("the case can be run"))
        .collect()
}

/// Runs one case, given by its keys without the name, and returns what differs from its expectations.
#[track_caller]
pub(crate) fn mismatches(runner: &Runner, case: &str) -> Vec<String> {
    mismatches_of_file(
        runner,
        &format!(r#"{{"cases": [{{"name": "n", {case}}}]}}"#),
    )
}

/// The path given to parsed files. It is never read.
pub(crate) const PATH: &str = "cases.json";
