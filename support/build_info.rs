//! Build script of the programs, and of what the filter and the dynamic module share: passes the commit, the target and the
//! features on to the compiler, for `--version` and for the log.
//!
//! Nothing here depends on the time or the machine, so equal sources give equal programs. The commit is that of the variable
//! `FLUXLIT_COMMIT`, or the one that `git archive` has written into this file. Without them, only optimized builds ask git,
//! because otherwise each commit would compile the package again.

use std::env;
use std::process::Command;

/// Replaced by the commit in an archive, such as the one that a forge offers for a release (gitattributes(5), `export-subst`).
const ARCHIVED: &str = "$Format:%H$";

fn main() {
    println!("cargo::rerun-if-env-changed=FLUXLIT_COMMIT");
    let given = env::var("FLUXLIT_COMMIT")
        .ok()
        .filter(|commit| is_name(commit));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match given {
        Some(commit) => Some(commit),
        None if is_name(ARCHIVED) => Some(ARCHIVED.to_owned()),
        None if is_release => commit_of_git(),
        None => None,
    };
    let commit = commit.unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=FLUXLIT_BUILD_COMMIT={commit}");
    let target = env::var("TARGET").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=FLUXLIT_BUILD_TARGET={target}");
    let features = env::var("CARGO_CFG_FEATURE").unwrap_or_default();
    let mut features: Vec<&str> = features
        .split(',')
        .filter(|name| *name != "default")
        .collect();
    features.sort_unstable();
    println!(
        "cargo::rustc-env=FLUXLIT_BUILD_FEATURES={}",
        features.join(" ")
    );
}

/// Returns the checked-out commit, with `-dirty` if a tracked file differs from it.
fn commit_of_git() -> Option<String> {
    // A copy of the sources without a repository may be in the repository of something else, whose commit says nothing.
    git(&["ls-files", "--error-unmatch", "../support/build_info.rs"])?;
    if git(&["rev-parse", "--show-prefix"])?.matches('/').count() != 1 {
        return None;
    }
    // This file changes with every commit and checkout.
    println!(
        "cargo::rerun-if-changed={}",
        git(&["rev-parse", "--git-path", "logs/HEAD"])?
    );
    println!("cargo::rerun-if-changed=.");
    let commit = git(&[
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty",
    ])?;
    is_name(&commit).then_some(commit)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Returns true if the text can be the name of a commit: it becomes a part of `--version`, of a metric and of log lines.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || b"-._/+".contains(&octet))
}
