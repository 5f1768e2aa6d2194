//! Builds configuration text line by line, with indentation and comments.

use std::fmt::Display;

/// Configuration text. Comments begin with `# `, as in every format that is printed.
#[derive(Debug)]
pub(super) struct Text {
    written: String,
    unit: &'static str,
    depth: usize,
}

impl Text {
    /// Begins an empty text that is indented by `unit` per level.
    pub(super) fn new(unit: &'static str) -> Self {
        Self {
            written: String::new(),
            unit,
            depth: 0,
        }
    }

    /// Appends a line; an empty one is not indented.
    pub(super) fn line(&mut self, line: impl Display) -> &mut Self {
        let line = line.to_string();
        if !line.is_empty() {
            self.written.push_str(&self.unit.repeat(self.depth));
            self.written.push_str(&line);
        }
        self.written.push('\n');
        self
    }

    /// Appends each line of a block.
    pub(super) fn lines(&mut self, block: impl Display) -> &mut Self {
        for line in block.to_string().lines() {
            self.line(line);
        }
        self
    }

    /// Appends each line as a comment.
    pub(super) fn note(&mut self, comment: impl Display) -> &mut Self {
        for line in comment.to_string().split('\n') {
            self.line(format!("# {line}").trim_end());
        }
        self
    }

    /// Appends an empty line.
    pub(super) fn blank(&mut self) -> &mut Self {
        self.line("")
    }

    /// Appends a line and indents those that follow.
    pub(super) fn open(&mut self, line: impl Display) -> &mut Self {
        self.line(line);
        self.depth = self.depth.saturating_add(1);
        self
    }

    /// Ends the indentation, and appends a line unless it is empty.
    pub(super) fn close(&mut self, line: &str) -> &mut Self {
        self.depth = self.depth.saturating_sub(1);
        if !line.is_empty() {
            self.line(line);
        }
        self
    }

    /// Returns the text.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.written)
    }
}
