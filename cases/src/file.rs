//! Reads the files that a case names, and messages in HTTP/1 form.
//!
//! A body may be in a file, and a message may be written in HTTP/1 form. Both are read with the case file and stored as if
//! the other keys had been used, so that the code that runs a case handles only fields and bodies.

use std::path::Path;

use crate::format::{Case, CaseFile, Config, Exchange};
use crate::input::{Answer, Request, Version};
use crate::latin1;

impl CaseFile {
    /// Reads the configuration of all cases, relative to `folder`.
    pub(crate) fn read_config(&mut self, folder: &Path) -> Result<(), String> {
        set_config(folder, self.config_file.take(), &mut self.config)
    }

    /// Reads the files that cases name, relative to `folder`. An error is the case's name and the problem.
    pub(crate) fn read_named_files(&mut self, folder: &Path) -> Result<(), (String, String)> {
        for case in &mut self.cases {
            let name = case.name.clone();
            case.read_named_files(folder)
                .map_err(|problem| (name, problem))?;
        }
        Ok(())
    }
}

impl Case {
    fn read_named_files(&mut self, folder: &Path) -> Result<(), String> {
        set_config(folder, self.config_file.take(), &mut self.config)?;
        // Keys that the case does not have must stay absent.
        let (has_answer, has_downstream) = (self.answer.is_some(), self.downstream.is_some());
        let mut groups = self.groups();
        for exchange in &mut groups {
            exchange.read_named_files(folder)?;
        }
        self.set_groups(groups);
        self.answer = self.answer.take().filter(|_| has_answer);
        self.downstream = self.downstream.take().filter(|_| has_downstream);
        Ok(())
    }
}

impl Exchange {
    fn read_named_files(&mut self, folder: &Path) -> Result<(), String> {
        let request = &mut self.request;
        if let Some(text) = message(folder, request.message.take(), request.message_file.take())? {
            request.set_message(&text)?;
        }
        let answer = &mut self.answer;
        if let Some(text) = message(folder, answer.message.take(), answer.message_file.take())? {
            answer.set_message(&text)?;
        }
        for (file, body) in [
            (&mut request.body_file, &mut request.body),
            (&mut answer.body_file, &mut answer.body),
        ] {
            if let Some(text) = named(folder, "body_file", file.take())? {
                if !body.is_empty() {
                    return Err("give `body` or `body_file`, not both".to_owned());
                }
                *body = text;
            }
        }
        let upstream = self.upstream.as_mut();
        let upstream = upstream.map(|upstream| (&mut upstream.body_file, &mut upstream.body));
        let downstream = (&mut self.downstream.body_file, &mut self.downstream.body);
        for (file, body) in upstream.into_iter().chain([downstream]) {
            if let Some(text) = named(folder, "body_file", file.take())? {
                if body.is_some() {
                    return Err("give `body` or `body_file`, not both".to_owned());
                }
                *body = Some(text);
            }
        }
        for other in &mut self.alongside {
            other.read_named_files(folder)?;
        }
        Ok(())
    }
}

impl Request {
    fn set_message(&mut self, text: &str) -> Result<(), String> {
        let plain = Self {
            peer: self.peer,
            tls: self.tls,
            frame_size: self.frame_size,
            trailers: self.trailers.clone(),
            properties: self.properties.clone(),
            ..Self::default()
        };
        if *self != plain {
            let keys = "`http`, `method`, `target`, `host`, `headers`, `body` or `frames`";
            return Err(format!("give `message` or {keys}, not both"));
        }
        let (start, fields, body) = split(text);
        let mut words = start.split(' ');
        let (Some(method), Some(target), version, None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(format!("`{start}` is not a request line"));
        };
        self.http = match version {
            Some("HTTP/1.0") => Version::Http10,
            Some("HTTP/1.1") => Version::Http11,
            Some("HTTP/2") => Version::Http2,
            _ => return Err(format!("`{start}` has no valid HTTP version")),
        };
        method.clone_into(&mut self.method);
        target.clone_into(&mut self.target);
        self.host = None;
        for (name, value) in fields? {
            if name.eq_ignore_ascii_case("host") && self.host.is_none() {
                self.host = Some(value);
            } else {
                self.headers.push((name, value));
            }
        }
        body.clone_into(&mut self.body);
        Ok(())
    }
}

impl Answer {
    fn set_message(&mut self, text: &str) -> Result<(), String> {
        let plain = Self {
            delay_ms: self.delay_ms,
            frame_size: self.frame_size,
            trailers: self.trailers.clone(),
            ..Self::default()
        };
        if *self != plain {
            let keys = "`status`, `headers`, `body` or `frames`";
            return Err(format!("give `message` or {keys}, not both"));
        }
        let (start, fields, body) = split(text);
        let status = start.split(' ').nth(1).and_then(|word| word.parse().ok());
        self.status = status
            .filter(|_| start.starts_with("HTTP/"))
            .ok_or_else(|| format!("`{start}` is not a status line"))?;
        self.headers = fields?;
        body.clone_into(&mut self.body);
        Ok(())
    }
}

/// Field lines, or the error in one of them.
type Fields = Result<Vec<(String, String)>, String>;

/// Splits a message into its start line, its field lines, and its body.
fn split(text: &str) -> (&str, Fields, &str) {
    let mut rest = text;
    let mut line = || {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        line.strip_suffix('\r').unwrap_or(line)
    };
    let start = line();
    let mut fields = Vec::new();
    loop {
        let field = line();
        if field.is_empty() {
            return (start, Ok(fields), rest);
        }
        let Some((name, value)) = field.split_once(':') else {
            return (start, Err(format!("`{field}` is not a field line")), rest);
        };
        fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
    }
}

fn message(
    folder: &Path,
    text: Option<String>,
    file: Option<String>,
) -> Result<Option<String>, String> {
    if text.is_some() && file.is_some() {
        return Err("give `message` or `message_file`, not both".to_owned());
    }
    Ok(text.or(named(folder, "message_file", file)?))
}

fn set_config(
    folder: &Path,
    file: Option<String>,
    config: &mut Option<Config>,
) -> Result<(), String> {
    let Some(text) = named(folder, "config_file", file)? else {
        return Ok(());
    };
    if config.is_some() {
        return Err("give `config` or `config_file`, not both".to_owned());
    }
    *config = Some(Config::from_bytes(&latin1::bytes(&text)));
    Ok(())
}

fn named(folder: &Path, key: &str, file: Option<String>) -> Result<Option<String>, String> {
    let Some(file) = file else {
        return Ok(None);
    };
    let path = folder.join(file);
    std::fs::read(&path)
        .map(|bytes| Some(latin1::text(&bytes)))
        .map_err(|error| {
            format!(
                "{key}: cannot read {}: {error}; the path is relative to the folder of the case file",
                path.display()
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, exchange: &str) -> Result<Exchange, String> {
        let text = format!(r#"{{"cases": [{{"name": "n", {exchange}}}]}}"#);
        let file = CaseFile::parse(&folder.join("cases.json"), &text);
        let file = file.map_err(|error| error.to_string())?;
        Ok(file.cases[0].exchanges().remove(0))
    }

    #[test]
    fn message_sets_the_other_keys() {
        let folder = tempfile::tempdir().unwrap();
        let answer = "HTTP/1.1 404 Not Found\nx: 1\n\nnot here";
        std::fs::write(folder.path().join("answer.http"), answer).unwrap();
        let exchange = read(
            folder.path(),
            r#""request": {"message": "POST /a?b HTTP/1.0\r\nHost: h\r\nA:  1 \r\na: 2\r\n\r\nbody\n", "tls": true},
               "answer": {"message_file": "answer.http", "delay_ms": 5}"#,
        );
        let Exchange {
            request, answer, ..
        } = exchange.unwrap();
        let line = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("POST", "/a?b")
        );
        assert_eq!(request.http, Version::Http10);
        assert_eq!(request.host.as_deref(), Some("h"));
        assert_eq!(request.headers, [line("A", "1"), line("a", "2")]);
        assert_eq!(request.body, "body\n");
        assert!(request.tls);
        assert_eq!((answer.status, answer.delay_ms), (404, 5));
        assert_eq!(answer.headers, [line("x", "1")]);
        assert_eq!(answer.body, "not here");
    }

    #[test]
    fn body_file_may_contain_any_bytes() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("body"), [0, 255]).unwrap();
        let exchange = read(
            folder.path(),
            r#""request": {"body_file": "body"}, "upstream": {"body_file": "body"}, "downstream": {"body_file": "body"}"#,
        )
        .unwrap();
        let bytes = "\0\u{ff}";
        assert_eq!(exchange.request.body, bytes);
        assert_eq!(exchange.upstream.unwrap().body.as_deref(), Some(bytes));
        assert_eq!(exchange.downstream.body.as_deref(), Some(bytes));
    }

    #[test]
    fn config_file_is_merged_like_config() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), r#"{"a": 1, "b": 1}"#).unwrap();
        std::fs::write(folder.path().join("b.json"), r#"{"b": 2}"#).unwrap();
        let text = r#"{"config_file": "a.json", "cases": [{"name": "n", "config_file": "b.json", "request": {}}]}"#;
        let file = CaseFile::parse(&folder.path().join("cases.json"), text).unwrap();
        assert_eq!(file.config_of(&file.cases[0]), br#"{"a":1,"b":2}"#);
        let text = r#"{"config_file": "absent", "cases": []}"#;
        let error = CaseFile::parse(&folder.path().join("cases.json"), text).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("cases.json: config_file: cannot read"),
            "{error}"
        );
    }

    #[test]
    fn errors_name_the_problem() {
        let folder = tempfile::tempdir().unwrap();
        for (exchange, want) in [
            (
                r#""request": {"message": "GET /\n\n"}"#,
                "`GET /` has no valid HTTP version",
            ),
            (
                r#""request": {"message": "GET / HTTP/1.1\nx\n\n"}"#,
                "`x` is not a field line",
            ),
            (
                r#""request": {"message": "GET / HTTP/1.1\n\n", "body": "x"}"#,
                "give `message` or",
            ),
            (
                r#""request": {}, "answer": {"message": "200 OK"}"#,
                "is not a status line",
            ),
            (
                r#""request": {"body_file": "absent"}"#,
                "body_file: cannot read",
            ),
            (
                r#""request": {}, "downstream": {"body_file": "x", "body": "x"}"#,
                "cannot read",
            ),
        ] {
            let error = read(folder.path(), exchange).unwrap_err();
            assert!(error.contains("case `n`: "), "{error}");
            assert!(error.contains(want), "{error}");
        }
    }
}
