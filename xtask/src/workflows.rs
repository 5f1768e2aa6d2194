//! Checks the workflows of GitHub Actions: their schema, and that nothing in them can be replaced from outside.
//!
//! Each action and each image is named by a digest, because a tag can be moved, and each workflow states its permissions.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::setup;
use crate::steps::{quietly, root};

/// Checks every workflow.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(FOLDER)).context("cannot read the workflows")? {
        files.push(entry?.path());
    }
    files.sort();
    ensure!(!files.is_empty(), "there is no workflow");
    quietly(
        Command::new(setup::check_jsonschema()?)
            .args(["--builtin-schema", "vendor.github-workflows"])
            .args(&files),
    )?;
    let mut faults = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let workflow = serde_saphyr::from_str(&text)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        faults.extend(
            read_faults(&workflow)
                .into_iter()
                .map(|fault| format!("{FOLDER}/{name}: {fault}")),
        );
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

fn read_faults(workflow: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    if workflow.get("permissions").is_none() {
        faults.push("`permissions` is missing: without it, jobs may get all of them".to_owned());
    }
    let jobs = workflow.get("jobs").and_then(Value::as_object);
    for (name, job) in jobs.into_iter().flatten() {
        let image = match &job["container"] {
            Value::String(image) => Some(image.as_str()),
            container => container["image"].as_str(),
        };
        if image.is_some_and(|image| !is_digest(image, "@sha256:", 64)) {
            faults.push(format!("job {name}: the image is not named by its digest"));
        }
        if job.get("timeout-minutes").is_none() {
            faults.push(format!("job {name}: `timeout-minutes` is missing"));
        }
        for step in job["steps"].as_array().into_iter().flatten() {
            if let Some(action) = step["uses"].as_str()
                && !is_digest(action, "@", 40)
            {
                faults.push(format!("job {name}: {action} is not named by its commit"));
            }
        }
    }
    faults
}

/// Returns true if the text ends with a digest of this length, in hexadecimal digits.
fn is_digest(text: &str, before: &str, length: usize) -> bool {
    text.rsplit_once(before).is_some_and(|(_, digest)| {
        digest.len() == length && digest.bytes().all(|octet| octet.is_ascii_hexdigit())
    })
}

/// The folder that GitHub reads, from the root of the repository.
const FOLDER: &str = ".github/workflows";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_can_be_replaced_from_outside_is_a_fault() {
        let digest = "0".repeat(64);
        let commit = "0".repeat(40);
        let good = json!({"permissions": {}, "jobs": {"test": {
            "timeout-minutes": 5,
            "container": format!("debian@sha256:{digest}"),
            "steps": [{"uses": format!("actions/checkout@{commit}")}, {"run": "true"}],
        }}});
        assert!(read_faults(&good).is_empty());
        let bad = json!({"jobs": {"test": {
            "container": {"image": "debian:bookworm"},
            "steps": [{"uses": "actions/checkout@v4"}],
        }}});
        assert_eq!(
            read_faults(&bad),
            [
                "`permissions` is missing: without it, jobs may get all of them",
                "job test: the image is not named by its digest",
                "job test: `timeout-minutes` is missing",
                "job test: actions/checkout@v4 is not named by its commit",
            ]
        );
    }
}
