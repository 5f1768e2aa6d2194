//! Reads what a tutorial shows: settings, and outputs of commands.

use std::path::Path;

/// A page of `docs`.
pub(crate) struct Page {
    name: &'static str,
    text: String,
}

impl Page {
    /// Reads a page, by its path in `docs`.
    pub(crate) fn read(name: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let text = std::fs::read_to_string(folder.join(name)).expect("the page can be read");
        Self { name, text }
    }

    /// Returns the settings file.
    pub(crate) fn settings(&self) -> &str {
        let [settings] = self.blocks("toml")[..] else {
            panic!("{}: one block of settings", self.name);
        };
        settings
    }

    /// Returns the variables of the lines with `export`.
    pub(crate) fn exported(&self) -> Vec<(String, String)> {
        let lines = self.text.lines().map(str::trim);
        let exports = lines.filter_map(|line| line.strip_prefix("export "));
        let pairs = exports.flat_map(str::split_whitespace);
        let pairs: Vec<(String, String)> = pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        assert!(!pairs.is_empty(), "{}: no variables", self.name);
        pairs
    }

    /// Checks that each line of an output, counted from 0, is a line of what was printed. `…` stands for any text.
    #[track_caller]
    pub(crate) fn compare(&self, output: usize, printed: &str) {
        let blocks = self.blocks("text");
        let shown = blocks.get(output).expect("the page shows an output");
        let missing: Vec<&str> = shown
            .lines()
            .filter(|line| !printed.lines().any(|own| is_shown_as(own, line)))
            .collect();
        assert!(
            missing.is_empty(),
            "docs/{} shows\n{}\nwhich is not printed:\n{printed}",
            self.name,
            missing.join("\n")
        );
    }

    /// Returns the blocks of a language.
    fn blocks(&self, language: &str) -> Vec<&str> {
        let begin = format!("\n```{language}\n");
        let blocks = self.text.split(&begin).skip(1);
        blocks.filter_map(|rest| rest.split("```").next()).collect()
    }
}

/// Returns true if a page may show a line like this.
fn is_shown_as(printed: &str, shown: &str) -> bool {
    let mut rest = printed;
    let mut parts = shown.split('…');
    let begins = parts.next().is_some_and(|first| {
        let after = rest.strip_prefix(first);
        rest = after.unwrap_or_default();
        after.is_some()
    });
    let follow = parts.all(|part| match rest.split_once(part) {
        Some((_, after)) => {
            rest = after;
            true
        }
        None => false,
    });
    begins && follow && rest.is_empty()
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    for (shown, is_equal) in [
        ("ok P19 none (configuration ab12)", true),
        ("ok P19 none (configuration …)", true),
        ("ok P19 none", false),
        ("ok P19 one (configuration …)", false),
        ("ok P19 none (configuration …) more", false),
    ] {
        let printed = "ok P19 none (configuration ab12)";
        assert_eq!(is_shown_as(printed, shown), is_equal, "{shown}");
    }
}
