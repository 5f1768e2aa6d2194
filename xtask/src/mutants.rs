//! Changes the code in many small ways and checks that a test notices each, as `cargo xtask mutants`.
//!
//! cargo-mutants replaces an operator, a match arm or a function body, and runs the native tests of the package: a
//! *mutant*. One that no test notices shows a missing test or a condition without effect, or it is equivalent to the
//! original. [`EQUIVALENT`] lists the equivalent ones, each with its reason. Any other missed mutant is an error; so is an
//! entry whose mutant no longer exists, or is noticed.
//!
//! An entry names a mutant by its file and by the mutation, and not by its line, which changes with every edit. If this is
//! not unique, `at` is the line with the changed text between `«` and `»`.
//!
//! This is not a step of `cargo xtask test`, because each mutant is compiled: a package takes most of an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::steps::{cargo, root, run as command, target};

/// What is mutated, and the tests that must notice.
struct Part {
    name: &'static str,
    package: &'static str,
    /// Globs of the files that are mutated.
    files: &'static [&'static str],
    /// Which tests are built and run, as arguments of `cargo test`.
    tests: &'static [&'static str],
}

const PARTS: [Part; 3] = [
    Part {
        name: "policy",
        package: "fluxlit-policy",
        files: &["policy/src/*.rs"],
        tests: &["--tests"],
    },
    // The modules without I/O, which have unit tests of their own. The integration tests of the gateway take a minute.
    Part {
        name: "gateway",
        package: "fluxlit-gateway",
        files: &[
            "gateway/src/http/chunked.rs",
            "gateway/src/http/framing.rs",
            "gateway/src/http/head.rs",
            "gateway/src/http/hop_by_hop.rs",
            "gateway/src/http/websocket.rs",
            "gateway/src/proxy/decide.rs",
        ],
        tests: &["--lib"],
    },
    // The modules that run without a VM. Linking wasmtime takes longer than their tests, so only one program is linked.
    Part {
        name: "host-test",
        package: "fluxlit-host-test",
        files: &[
            "host-test/src/abi/header_map.rs",
            "host-test/src/envoy/*.rs",
        ],
        tests: &["--lib"],
    },
];

/// The list of equivalent mutants, from the root of the repository.
const EQUIVALENT: &str = "xtask/equivalent-mutants.json";

/// Which mutants are tested.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Mutate only these parts: policy, gateway, host-test [default: all]
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Mutate only this file, given from the root of the repository; may be repeated
    #[arg(long = "file", value_name = "FILE")]
    files: Vec<String>,
    /// Mutate only lines that differ from this commit, such as main
    #[arg(long, value_name = "COMMIT", conflicts_with = "files")]
    diff: Option<String>,
    /// Test this many mutants at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

/// Tests the mutants of the chosen parts, and compares the missed ones with the list of equivalent ones.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    for name in &options.parts {
        ensure!(
            PARTS.iter().any(|part| part.name == name),
            "unknown part `{name}`; expected one of: {}",
            PARTS.map(|part| part.name).join(", ")
        );
    }
    let is_installed = cargo()
        .args(["mutants", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    ensure!(
        is_installed,
        "cargo-mutants is not installed; to install it: cargo install --locked cargo-mutants@27.1.0"
    );
    let path = root().join(EQUIVALENT);
    let text = std::fs::read(&path).with_context(|| format!("cannot read {EQUIVALENT}"))?;
    let equivalent = read_entries(&text).with_context(|| format!("{EQUIVALENT} is invalid"))?;
    let mut problems = Vec::new();
    for part in PARTS {
        if options.parts.is_empty() || options.parts.iter().any(|name| name == part.name) {
            problems.extend(test(&part, &equivalent, options)?);
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Tests the mutants of one part; returns what differs from the list.
fn test(part: &Part, equivalent: &[Entry], options: &Options) -> anyhow::Result<Vec<String>> {
    let files: Vec<&str> = part
        .files
        .iter()
        .copied()
        .filter(|_| options.files.is_empty())
        .chain(
            options
                .files
                .iter()
                .map(String::as_str)
                .filter(|file| file.starts_with(&format!("{}/", part.name))),
        )
        .collect();
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let folder = target().join("mutants").join(part.name);
    std::fs::create_dir_all(&folder)?;
    let mutants = |subcommand: &[&str]| {
        let mut command = cargo();
        command
            .current_dir(root())
            .args(["mutants", "--package", part.package])
            .args(files.iter().flat_map(|file| ["--file", file]))
            .args(subcommand);
        command
    };

    let list = mutants(&["--list", "--json"]).output()?;
    ensure!(
        list.status.success(),
        "cannot list the mutants of {}: {}",
        part.name,
        String::from_utf8_lossy(&list.stderr)
    );
    let all = read_mutants(&serde_json::from_slice(&list.stdout)?)?;
    ensure!(
        !all.is_empty(),
        "no file of {} has a mutant: {}",
        part.name,
        files.join(", ")
    );
    let listed_files: BTreeSet<&str> = all.iter().map(|mutant| mutant.file.as_str()).collect();
    let is_whole = options.files.is_empty();
    let entries: Vec<&Entry> = equivalent
        .iter()
        .filter(|entry| {
            listed_files.contains(entry.file.as_str())
                || (is_whole && entry.file.starts_with(&format!("{}/", part.name)))
        })
        .collect();
    let mut problems = Vec::new();
    for entry in &entries {
        match all.iter().filter(|mutant| entry.matches(mutant)).count() {
            1 => {}
            0 => problems.push(format!(
                "{EQUIVALENT}: the mutant no longer exists; remove the entry: {entry}"
            )),
            _ => problems.push(format!(
                "{EQUIVALENT}: the entry stands for several mutants; name the place with `at`: {entry}"
            )),
        }
    }

    let mut command_line = mutants(&["--no-shuffle", "--output"]);
    command_line
        .arg(&folder)
        .args(["--jobs", &options.jobs.to_string()]);
    if let Some(base) = &options.diff {
        command_line
            .arg("--in-diff")
            .arg(write_diff(&folder, base, part.name)?);
    }
    command_line
        .arg("--")
        .args(part.tests)
        .env("CARGO_TARGET_DIR", folder.join("build"))
        .env("CARGO_INCREMENTAL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_TEST_DEBUG", "0")
        // The same few inputs for each mutant, so that two runs do not differ.
        .env("PROPTEST_CASES", "64")
        .env("PROPTEST_RNG_SEED", "1")
        .env("PROPTEST_MAX_SHRINK_ITERS", "0")
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
    let report = folder.join("mutants.out/outcomes.json");
    if report.exists() {
        std::fs::remove_file(&report)?;
    }
    let status = command_line
        .status()
        .context("cannot run cargo-mutants")?
        .code();
    match status {
        // Nothing was missed; something was; something timed out.
        Some(0 | 2 | 3) => {}
        _ => bail!("cargo-mutants failed; see {}", folder.display()),
    }
    if !report.exists() {
        eprintln!("{}: no mutant", part.name);
        return Ok(problems);
    }
    let report: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let outcomes = read_outcomes(&report)?;
    problems.extend(compare(&outcomes, &entries, &all));
    print_table(part.name, &outcomes, &entries);
    Ok(problems)
}

/// Writes the changes since `base` to a file for cargo-mutants.
fn write_diff(folder: &Path, base: &str, part: &str) -> anyhow::Result<PathBuf> {
    let path = folder.join("changes.diff");
    command(
        Command::new("git")
            .args(["diff", "--no-color", base, "--", part])
            .stdout(std::fs::File::create(&path)?),
    )?;
    Ok(path)
}

/// A change of the code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mutant {
    file: String,
    /// What is changed, such as `replace > with >= in Target<'a>::parse`.
    mutation: String,
    /// The first line of the changed text, with the change between `«` and `»`.
    at: String,
}

/// An entry of the list of equivalent mutants.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    file: String,
    mutation: String,
    at: Option<String>,
}

impl Entry {
    fn matches(&self, mutant: &Mutant) -> bool {
        self.file == mutant.file
            && self.mutation == mutant.mutation
            && self.at.as_ref().is_none_or(|at| *at == mutant.at)
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, mutation, at } = self;
        let at = at.as_deref().unwrap_or_default();
        write!(f, "{file}: {mutation} {at}")
    }
}

/// What the tests did with a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// A test failed.
    Caught,
    /// No test failed.
    Missed,
    /// The tests took many times as long as without the change; cargo-mutants counts these apart.
    TimedOut,
}

/// Reads the list of equivalent mutants.
fn read_entries(text: &[u8]) -> anyhow::Result<Vec<Entry>> {
    let list: Vec<BTreeMap<String, String>> = serde_json::from_slice(text)?;
    let mut entries = Vec::with_capacity(list.len());
    for mut members in list {
        let mut take = |key: &str| {
            members
                .remove(key)
                .filter(|value| !value.trim().is_empty())
                .with_context(|| format!("an entry has no `{key}`"))
        };
        take("reason")?;
        let entry = Entry {
            file: take("file")?,
            mutation: take("mutation")?,
            at: take("at").ok(),
        };
        if let Some(key) = members.keys().next() {
            bail!("{entry}: unknown key `{key}`; expected file, mutation, at, reason");
        }
        ensure!(!entries.contains(&entry), "{entry}: listed twice");
        entries.push(entry);
    }
    Ok(entries)
}

fn read_mutants(list: &Value) -> anyhow::Result<Vec<Mutant>> {
    let list = list.as_array().context("the list is not an array")?;
    list.iter().map(read_mutant).collect()
}

/// Reads a mutant as cargo-mutants describes it.
fn read_mutant(value: &Value) -> anyhow::Result<Mutant> {
    let file = value["file"].as_str().context("a mutant has no file")?;
    let name = value["name"].as_str().context("a mutant has no name")?;
    let position = |end: &str, of: &str| {
        let number = value["span"][end][of].as_u64();
        number
            .and_then(|number| usize::try_from(number).ok()?.checked_sub(1))
            .context("a mutant has no position")
    };
    let (line, start) = (position("start", "line")?, position("start", "column")?);
    let (last_line, end) = (position("end", "line")?, position("end", "column")?);
    let source = std::fs::read_to_string(root().join(file))?;
    let text = source.lines().nth(line).unwrap_or_default();
    let end = if line == last_line { end } else { usize::MAX };
    // `FILE:LINE:COLUMN: MUTATION`
    let (_, mutation) = name.split_once(": ").context("a mutant has no mutation")?;
    Ok(Mutant {
        file: file.to_owned(),
        mutation: mutation.to_owned(),
        at: mark(text, start, end),
    })
}

/// Marks a part of a line, given in characters.
fn mark(line: &str, start: usize, end: usize) -> String {
    let end = end.min(line.chars().count());
    let mut marked = String::new();
    for (index, character) in line.chars().enumerate() {
        if index == start {
            marked.push('«');
        }
        marked.push(character);
        if index.saturating_add(1) == end {
            marked.push('»');
        }
    }
    marked.trim().to_owned()
}

/// Reads the mutants that could be compiled, with their outcomes.
fn read_outcomes(report: &Value) -> anyhow::Result<Vec<(Mutant, Outcome)>> {
    let mut outcomes = Vec::new();
    let list = report["outcomes"].as_array();
    for outcome in list.context("the report has no outcomes")? {
        let found = match outcome["summary"].as_str() {
            Some("CaughtMutant") => Outcome::Caught,
            Some("MissedMutant") => Outcome::Missed,
            Some("Timeout") => Outcome::TimedOut,
            Some("Success" | "Unviable") => continue,
            other => bail!("unknown outcome: {other:?}"),
        };
        outcomes.push((read_mutant(&outcome["scenario"]["Mutant"])?, found));
    }
    Ok(outcomes)
}

/// Returns the missed mutants that are not listed, and the listed ones that were not missed.
fn compare(outcomes: &[(Mutant, Outcome)], entries: &[&Entry], all: &[Mutant]) -> Vec<String> {
    let mut problems = Vec::new();
    for (mutant, outcome) in outcomes {
        let entry = entries.iter().find(|entry| entry.matches(mutant));
        match (outcome, entry) {
            (Outcome::Missed, None) => {
                let twins = all.iter().filter(|other| {
                    other.file == mutant.file && other.mutation == mutant.mutation
                });
                problems.push(format!(
                    "no test notices this mutant; add a test, or list it in {EQUIVALENT} if it is equivalent: {}",
                    show(mutant, twins.count() > 1)
                ));
            }
            (Outcome::Caught | Outcome::TimedOut, Some(entry)) => problems.push(format!(
                "{EQUIVALENT}: a test notices the mutant, so it is not equivalent; remove the entry: {entry}"
            )),
            _ => {}
        }
    }
    problems
}

/// Formats a mutant as an entry of the list.
fn show(mutant: &Mutant, with_place: bool) -> String {
    let Mutant { file, mutation, at } = mutant;
    let mut entry = json!({"file": file, "mutation": mutation});
    if with_place {
        entry["at"] = json!(at);
    }
    format!("{entry}, at: {at}")
}

fn print_table(part: &str, outcomes: &[(Mutant, Outcome)], entries: &[&Entry]) {
    let mut rows: BTreeMap<&str, Vec<&(Mutant, Outcome)>> = BTreeMap::new();
    for outcome in outcomes {
        rows.entry(&outcome.0.file).or_default().push(outcome);
    }
    println!(
        "{:36} {:>7} {:>7} {:>10} {:>7} {:>10}",
        "", "viable", "caught", "timed out", "missed", "equivalent"
    );
    let all = outcomes.iter().collect();
    for (name, of_file) in rows.iter().chain([(&part, &all)]) {
        let count = |wanted| {
            of_file
                .iter()
                .filter(|(_, outcome)| *outcome == wanted)
                .count()
        };
        let (caught, timed_out) = (count(Outcome::Caught), count(Outcome::TimedOut));
        let missed = count(Outcome::Missed);
        let is_listed = |mutant: &Mutant| entries.iter().any(|entry| entry.matches(mutant));
        let equivalent = of_file
            .iter()
            .filter(|(mutant, outcome)| *outcome == Outcome::Missed && is_listed(mutant))
            .count();
        #[expect(
            clippy::cast_precision_loss,
            reason = "there are a few thousand mutants"
        )]
        let share = 100.0 * (caught + timed_out) as f64 / of_file.len().max(1) as f64;
        println!(
            "{name:36} {:7} {caught:7} {timed_out:10} {missed:7} {equivalent:10}  {share:5.1} %",
            of_file.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutant(mutation: &str, at: &str) -> Mutant {
        Mutant {
            file: "policy/src/a.rs".to_owned(),
            mutation: mutation.to_owned(),
            at: at.to_owned(),
        }
    }

    fn entries(text: &str) -> Vec<Entry> {
        read_entries(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_changed_text_is_marked() {
        assert_eq!(mark("    if a && b {", 9, 11), "if a «&&» b {");
        assert_eq!(mark("    a", 4, usize::MAX), "«a»");
        assert_eq!(mark("é && b", 2, 4), "é «&&» b");
    }

    #[test]
    fn a_missed_mutant_must_be_listed() {
        let all = [mutant("delete !", "«!»a"), mutant("delete !", "«!»b")];
        let outcomes = [
            (all[0].clone(), Outcome::Missed),
            (all[1].clone(), Outcome::Caught),
        ];
        let listed = entries(
            r#"[{"file": "policy/src/a.rs", "mutation": "delete !", "at": "«!»a", "reason": "r"}]"#,
        );
        let listed: Vec<&Entry> = listed.iter().collect();
        assert_eq!(compare(&outcomes, &listed, &all), [""; 0]);
        let problems = compare(&outcomes, &[], &all);
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains(r#""at":"«!»a""#), "{problems:?}");
    }

    #[test]
    fn a_listed_mutant_must_be_missed() {
        let all = [mutant("delete !", "«!»a")];
        let listed =
            entries(r#"[{"file": "policy/src/a.rs", "mutation": "delete !", "reason": "r"}]"#);
        let listed: Vec<&Entry> = listed.iter().collect();
        for outcome in [Outcome::Caught, Outcome::TimedOut] {
            let problems = compare(&[(all[0].clone(), outcome)], &listed, &all);
            assert_eq!(problems.len(), 1, "{outcome:?}");
        }
    }

    #[test]
    fn each_entry_has_a_reason_and_no_unknown_key() {
        for text in [
            r#"[{"file": "a", "mutation": "b"}]"#,
            r#"[{"file": "a", "mutation": "b", "reason": " "}]"#,
            r#"[{"file": "a", "mutation": "b", "reason": "c", "line": "1"}]"#,
            r#"[{"file": "a", "mutation": "b", "reason": "c"}, {"file": "a", "mutation": "b", "reason": "d"}]"#,
        ] {
            assert!(read_entries(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_list_is_valid() {
        let text = std::fs::read(root().join(EQUIVALENT)).unwrap();
        read_entries(&text).unwrap();
    }
}
