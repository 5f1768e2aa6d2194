//! Reads variables from a file `.env`.
//!
//! FluxLit reads this file with python-dotenv, so its grammar applies: a value without quotes goes to the end of the line or
//! to a `#` after white space, and is kept as it is, as JSON needs; single quotes allow `\'` and `\\`, double quotes all
//! escapes of C; a quoted value may have several lines; `${NAME}` and `${NAME:-default}` are replaced in every value. The
//! crate dotenvy has another grammar: it removes quotes inside a value, rejects spaces without quotes, and replaces `$NAME`.
//!
//! A statement that cannot be parsed is an error here, where python-dotenv skips it.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::settings::error::SettingError;

/// The variables of a file, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct DotEnv {
    pub(super) path: PathBuf,
    pub(super) variables: Vec<DotEnvVariable>,
}

/// One variable of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DotEnvVariable {
    pub(super) name: String,
    pub(super) value: String,
    /// The line where it begins, counted from 1.
    pub(super) line: usize,
}

impl DotEnv {
    /// Reads the file if it exists. `environment` is looked up for `${NAME}`, after the variables of the file itself.
    pub(super) fn read(
        path: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
        errors: &mut Vec<SettingError>,
    ) -> Self {
        match std::fs::read(path) {
            Ok(bytes) => Self::parse(path, &bytes, environment, errors),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(source) => {
                errors.push(SettingError::FileRead {
                    path: path.to_owned(),
                    source,
                });
                Self::default()
            }
        }
    }

    fn parse(
        path: &Path,
        bytes: &[u8],
        environment: &dyn Fn(&str) -> Option<String>,
        errors: &mut Vec<SettingError>,
    ) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut variables: Vec<DotEnvVariable> = Vec::new();
        let mut rest = Rest { text, line: 1 };
        loop {
            rest.skip(char::is_whitespace);
            if rest.text.is_empty() {
                break;
            }
            let line = rest.line;
            match rest.statement() {
                Ok(Some((name, value))) => {
                    let value = replace_references(&value, &|name| {
                        let own = variables.iter().rfind(|variable| variable.name == name);
                        own.map(|own| own.value.clone())
                            .or_else(|| environment(name))
                    })
                    .into_owned();
                    variables.retain(|variable| variable.name != name);
                    variables.push(DotEnvVariable { name, value, line });
                }
                Ok(None) => {}
                Err(NotAStatement(cure)) => {
                    rest.skip(|character| !is_line_end(character));
                    errors.push(SettingError::DotEnvSyntax {
                        path: path.to_owned(),
                        line,
                        cure,
                    });
                }
            }
        }
        Self {
            path: path.to_owned(),
            variables,
        }
    }
}

/// The error for a line that is not `NAME=value`, with what is wrong or what to do.
struct NotAStatement(&'static str);

/// The part of a file that has not been read.
struct Rest<'t> {
    text: &'t str,
    line: usize,
}

impl<'t> Rest<'t> {
    /// Reads `NAME=value`; `None` for a comment, and for a name without a value.
    fn statement(&mut self) -> Result<Option<(String, String)>, NotAStatement> {
        if let Some(after) = self.text.strip_prefix("export")
            && after.starts_with(is_blank)
        {
            self.text = after;
            self.skip(is_blank);
        }
        let name = if self.text.starts_with('#') {
            None
        } else {
            Some(self.name()?)
        };
        self.skip(is_blank);
        let (value, at_fault) = match self.text.strip_prefix('=') {
            Some(after) if name.is_some() => {
                self.text = after;
                self.skip(is_blank);
                (Some(self.value()?), QUOTES)
            }
            _ => (None, NO_EQUALS),
        };
        self.skip(is_blank);
        if self.text.starts_with('#') {
            self.skip(|character| !is_line_end(character));
        }
        if !(self.text.is_empty() || self.text.starts_with(is_line_end)) {
            return Err(NotAStatement(at_fault));
        }
        Ok(name.zip(value))
    }

    fn name(&mut self) -> Result<String, NotAStatement> {
        let name = match self.text.strip_prefix('\'') {
            Some(quoted) => {
                let (name, after) = quoted.split_once('\'').ok_or(NotAStatement(QUOTES))?;
                self.text = after;
                name
            }
            None => self.skip(|character| {
                !(character == '=' || character == '#' || character.is_whitespace())
            }),
        };
        let is_name = !name.is_empty() && !name.contains(is_line_end);
        let name = is_name.then(|| name.to_owned());
        name.ok_or(NotAStatement(NO_NAME))
    }

    fn value(&mut self) -> Result<String, NotAStatement> {
        match self.text.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            _ => {
                let text = self.skip(|character| !is_line_end(character));
                Ok(without_comment(text).trim_end().to_owned())
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, NotAStatement> {
        let mut value = String::new();
        let mut characters = self.text.char_indices().skip(1);
        while let Some((index, character)) = characters.next() {
            if character == quote {
                let (read, after) = self
                    .text
                    .split_at_checked(index.saturating_add(1))
                    .unwrap_or_default();
                self.line = self.line.saturating_add(read.matches('\n').count());
                self.text = after;
                return Ok(value);
            }
            if character != '\\' {
                value.push(character);
                continue;
            }
            let Some((_, escaped)) = characters.next() else {
                break;
            };
            match (quote, escaped) {
                (_, '\\' | '\'') | ('"', '"') => value.push(escaped),
                ('"', 'a') => value.push('\u{7}'),
                ('"', 'b') => value.push('\u{8}'),
                ('"', 'f') => value.push('\u{c}'),
                ('"', 'n') => value.push('\n'),
                ('"', 'r') => value.push('\r'),
                ('"', 't') => value.push('\t'),
                ('"', 'v') => value.push('\u{b}'),
                _ => value.extend(['\\', escaped]),
            }
        }
        Err(NotAStatement(QUOTES))
    }

    /// Skips characters, and returns them.
    fn skip(&mut self, is_skipped: impl Fn(char) -> bool) -> &'t str {
        let end = self.text.find(|character| !is_skipped(character));
        let (skipped, rest) = match end {
            Some(end) => self.text.split_at_checked(end).unwrap_or_default(),
            None => (self.text, ""),
        };
        self.line = self.line.saturating_add(skipped.matches('\n').count());
        self.text = rest;
        skipped
    }
}

/// Removes a comment, which begins with white space and `#`.
fn without_comment(text: &str) -> &str {
    let mut starts = text.match_indices('#');
    let start = starts.find_map(|(start, _)| {
        let before = text.get(..start)?;
        before.ends_with(char::is_whitespace).then_some(before)
    });
    start.unwrap_or(text)
}

/// Replaces `${NAME}` and `${NAME:-default}`.
fn replace_references<'t>(text: &'t str, find: &dyn Fn(&str) -> Option<String>) -> Cow<'t, str> {
    if !text.contains("${") {
        return Cow::Borrowed(text);
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        replaced.push_str(before);
        let Some((reference, tail)) = after.split_once('}') else {
            replaced.push_str("${");
            rest = after;
            continue;
        };
        let (name, default) = reference.split_once(":-").unwrap_or((reference, ""));
        if name.contains(':') {
            // Not a reference.
            replaced.push_str("${");
            rest = after;
            continue;
        }
        replaced.push_str(&find(name).unwrap_or_else(|| default.to_owned()));
        rest = tail;
    }
    replaced.push_str(rest);
    Cow::Owned(replaced)
}

fn is_blank(character: char) -> bool {
    character.is_whitespace() && !is_line_end(character)
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r')
}

const NO_EQUALS: &str = "`=` is missing after the name";
const NO_NAME: &str = "the name is missing";
const QUOTES: &str = "quote a value that has quotes in it, and close the quotes";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<(String, String, usize)>, Vec<String>) {
        let mut errors = Vec::new();
        let environment = |name: &str| (name == "OUTSIDE").then(|| "out".to_owned());
        let file = DotEnv::parse(
            Path::new(".env"),
            text.as_bytes(),
            &environment,
            &mut errors,
        );
        let variables = file
            .variables
            .into_iter()
            .map(|variable| (variable.name, variable.value, variable.line));
        let errors = errors.iter().map(ToString::to_string);
        (variables.collect(), errors.collect())
    }

    /// The results are those of python-dotenv 1.0.
    #[test]
    fn values_are_those_of_python_dotenv() {
        for (text, expected) in [
            ("A=1", &[("A", "1", 1)][..]),
            ("  A = 1 ", &[("A", "1", 1)]),
            ("export A=1", &[("A", "1", 1)]),
            ("exported=1", &[("exported", "1", 1)]),
            ("A='x y'", &[("A", "x y", 1)]),
            ("A=\"x y\"", &[("A", "x y", 1)]),
            ("A=My App", &[("A", "My App", 1)]),
            ("A=My App # comment", &[("A", "My App", 1)]),
            ("A=x#y", &[("A", "x#y", 1)]),
            (
                "A=[\"http://localhost:3000\"]",
                &[("A", "[\"http://localhost:3000\"]", 1)],
            ),
            ("A={\"a\": 1}", &[("A", "{\"a\": 1}", 1)]),
            ("A=", &[("A", "", 1)]),
            ("A=\nB=2", &[("A", "", 1), ("B", "2", 2)]),
            ("A", &[]),
            ("A=\"a\\nb\"", &[("A", "a\nb", 1)]),
            ("A='a\\nb'", &[("A", "a\\nb", 1)]),
            ("A='it\\'s'", &[("A", "it's", 1)]),
            ("A=\"a\\\"\\t\\u\"", &[("A", "a\"\t\\u", 1)]),
            (
                "A=\"one\ntwo\"\nB=2",
                &[("A", "one\ntwo", 1), ("B", "2", 3)],
            ),
            ("# comment\n\nA=1", &[("A", "1", 3)]),
            ("A=1\r\nB=2\r\n", &[("A", "1", 1), ("B", "2", 2)]),
            ("'A'=1", &[("A", "1", 1)]),
            ("A=pa$word", &[("A", "pa$word", 1)]),
            ("B=b\nA=${B}x", &[("B", "b", 1), ("A", "bx", 2)]),
            ("A=${OUTSIDE}-${NONE}", &[("A", "out-", 1)]),
            ("A=${NONE:-default}", &[("A", "default", 1)]),
            ("A='${OUTSIDE}'", &[("A", "out", 1)]),
            ("A=${B", &[("A", "${B", 1)]),
            ("A=\"x\" # comment", &[("A", "x", 1)]),
            ("A.B=1", &[("A.B", "1", 1)]),
            ("A=x\\", &[("A", "x\\", 1)]),
            ("A=1\nA=2", &[("A", "2", 2)]),
            ("export\nA=1", &[("A", "1", 2)]),
            ("", &[]),
        ] {
            let (variables, errors) = parse(text);
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value, line)| ((*name).to_owned(), (*value).to_owned(), *line))
                .collect();
            assert_eq!((variables, errors), (expected, vec![]), "{text:?}");
        }
    }

    #[test]
    fn every_line_that_is_not_a_statement_is_an_error() {
        let text = "A=\"x\" y\nB=2\nC: 1\n=3\nD=4\nE='x\n";
        let (variables, errors) = parse(text);
        let names: Vec<&str> = variables.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(names, ["B", "D"]);
        assert_eq!(errors.len(), 4, "{errors:?}");
        for (error, (line, cure)) in
            errors
                .iter()
                .zip([(1, QUOTES), (3, NO_EQUALS), (4, NO_NAME), (6, QUOTES)])
        {
            assert_eq!(*error, format!(".env:{line}: not `NAME=value`: {cure}"));
        }
    }

    #[test]
    fn a_byte_order_mark_is_not_a_part_of_the_first_name() {
        let (variables, _) = parse("\u{feff}A=1");
        assert_eq!(variables, [("A".to_owned(), "1".to_owned(), 1)]);
    }
}
