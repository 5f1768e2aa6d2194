//! Changes a printed configuration.

use serde::Deserialize;

/// A change of a configuration. The text that it looks for occurs once in the files of a front.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Edit {
    /// Removes this text, and the line if nothing else is on it.
    remove: Option<String>,
    /// Replaces this text by that of `with`.
    replace: Option<String>,
    with: Option<String>,
    /// Adds the lines of `add` after the line that contains this text, with its indentation.
    after: Option<String>,
    /// The same before the line.
    before: Option<String>,
    add: Option<String>,
}

impl Edit {
    /// Applies the change to the file that has the text. `place` fills in the addresses of the stack.
    ///
    /// # Errors
    ///
    /// If the text does not occur once.
    pub(crate) fn apply(
        &self,
        files: &mut [String],
        place: impl Fn(&str) -> String,
    ) -> Result<(), String> {
        let wanted = place(self.text());
        let count: usize = files.iter().map(|file| file.matches(&wanted).count()).sum();
        if count != 1 {
            return Err(format!(
                "{wanted:?} occurs {count} times in the configuration"
            ));
        }
        let Some(file) = files.iter_mut().find(|file| file.contains(&wanted)) else {
            return Ok(());
        };
        let (start, rest) = file.split_once(&wanted).unwrap_or_default();
        let line_start = start.rfind('\n').map_or(0, |end| end + 1);
        let line_end =
            start.len() + wanted.len() + rest.find('\n').map_or(rest.len(), |end| end + 1);
        let (before, line, after) = (
            &file[..line_start],
            &file[line_start..line_end],
            &file[line_end..],
        );
        let indentation = &line[..line.len() - line.trim_start().len()];
        let added = || {
            let lines = place(self.add.as_deref().unwrap_or_default());
            let lines = lines.lines().map(|line| format!("{indentation}{line}\n"));
            lines.collect::<String>()
        };
        *file = if self.remove.is_some() {
            let left = line.replacen(&wanted, "", 1);
            let left = if left.trim().is_empty() { "" } else { &left };
            format!("{before}{left}{after}")
        } else if let Some(with) = &self.with {
            format!("{start}{}{rest}", place(with))
        } else if self.after.is_some() {
            format!("{before}{line}{}{after}", added())
        } else {
            format!("{before}{}{line}{after}", added())
        };
        Ok(())
    }

    /// Returns true if it adds this text.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let added = [&self.with, &self.add];
        added
            .into_iter()
            .flatten()
            .any(|added| added.contains(text))
    }

    /// Describes the change.
    pub(crate) fn describe(&self) -> String {
        match (&self.remove, &self.replace, &self.with, &self.add) {
            (Some(text), ..) => format!("without {}", code(text)),
            (_, Some(text), Some(with), _) => format!("{} instead of {}", code(with), code(text)),
            (.., Some(text)) => code(text),
            _ => String::new(),
        }
    }

    /// Describes how the change is undone.
    pub(crate) fn describe_undone(&self) -> String {
        match (&self.remove, &self.replace, &self.with, &self.add) {
            (Some(text), ..) => format!("write {}", code(text)),
            (_, Some(text), Some(with), _) => format!("{} instead of {}", code(text), code(with)),
            (.., Some(text)) => format!("remove {}", code(text)),
            _ => String::new(),
        }
    }

    fn text(&self) -> &str {
        let texts = [&self.remove, &self.replace, &self.after, &self.before];
        let given: Vec<&String> = texts.into_iter().flatten().collect();
        match given[..] {
            [text] => text,
            _ => panic!("{self:?}: give one of remove, replace, after, before"),
        }
    }
}

/// Returns text as code for a cell of a table.
fn code(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines
        .map(|line| {
            let line = line.replace('|', "\\|");
            if line.contains('`') {
                format!("`` {line} ``")
            } else {
                format!("`{line}`")
            }
        })
        .collect();
    lines.join(" ")
}
