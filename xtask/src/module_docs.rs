//! Checks that every source file opens with a summary: a declarative sentence in a `//!` comment.
//!
//! rustdoc shows the first paragraph of a module's documentation as its summary, so it must say what the module does.

use anyhow::{Context, ensure};

use crate::steps::{repository_files, root};

/// Checks each Rust file that git tracks or would add; fails with one line for each file at fault.
pub(crate) fn check() -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for file in repository_files(&["*.rs"])? {
        let path = root().join(&file);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {file}"))?;
        if let Err(fault) = read_summary(&text) {
            faults.push(format!("{file}:1: {fault}"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Reads the first paragraph of a file's documentation.
fn read_summary(text: &str) -> Result<String, &'static str> {
    let paragraph: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let summary = paragraph.join(" ");
    if summary.is_empty() {
        Err("the file must open with a `//!` summary of what the module does")
    } else if paragraph.iter().any(|line| line.ends_with('?')) {
        Err("the `//!` summary asks a question: state what the module does")
    } else if !summary.ends_with(['.', ':']) {
        Err("the `//!` summary must be a sentence that ends with a full stop")
    } else {
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        assert_eq!(
            read_summary(text).as_deref().map_err(|fault| &**fault),
            expected
        );
    }

    #[test]
    fn sentence_over_two_lines_is_a_summary() {
        check(
            "//! Reads a head,\n//! and nothing else.\n//!\n//! More.\n\nuse x;",
            Ok("Reads a head, and nothing else."),
        );
    }

    #[test]
    fn question_is_rejected() {
        check(
            "//! How is a head read?\n",
            Err("the `//!` summary asks a question: state what the module does"),
        );
    }

    #[test]
    fn missing_summary_is_rejected() {
        check(
            "use std::fmt;\n",
            Err("the file must open with a `//!` summary of what the module does"),
        );
    }

    #[test]
    fn fragment_without_full_stop_is_rejected() {
        check(
            "//! Heads\n",
            Err("the `//!` summary must be a sentence that ends with a full stop"),
        );
    }
}
