//! Formats a request as one line of the access log.
//!
//! The formats are JSON, and `name=value` pairs with the same names in the same order. The names `request_id`,
//! `fluxlit_dispatch`, `http_method_or_type`, `path` and `query` are FluxLit's. `time` is the start of the request. JSON also
//! has the other members of each FluxLit log line: `level`, `logger`, and a `message`, which repeats other fields.
//!
//! Text from a client is written in printable ASCII: any other octet as `\xNN`, and a backslash as two. So a client cannot
//! end a line, forge a field, or send commands to the terminal that shows the log. Values longer than 4 KiB are truncated.

use std::fmt;
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::redaction::{self, Redaction};
use super::{HttpVersion, Record};

/// The format of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
}

impl Format {
    /// Returns the line of a request, including the line feed.
    pub(crate) fn line(self, record: &Record<'_>, redaction: &Redaction) -> Vec<u8> {
        let (path, query) = redaction::split(record.target);
        let method = if record.is_websocket {
            "websocket".as_bytes()
        } else {
            record.method
        };
        let time = humantime::format_rfc3339_millis(record.started.max(SystemTime::UNIX_EPOCH));
        let mut line = Line {
            text: Vec::with_capacity(512),
            format: self,
        };
        if self == Self::Json {
            line.text.push(b'{');
        }
        line.display("time", &time);
        if self == Self::Json {
            line.word("level", "INFO");
            line.word("logger", "fluxlit.gateway");
            let id = record.request_id.as_bytes();
            let message = [b"gateway ", method, b" ", path, b" request_id=", id];
            line.text("message", message);
        }
        line.text("request_id", [record.request_id.as_bytes()]);
        line.word("fluxlit_dispatch", record.dispatch.label());
        line.text("http_method_or_type", [method]);
        line.text("path", [path]);
        line.text("query", redaction.query(query));
        line.word("version", record.version.map_or("", HttpVersion::label));
        line.optional("host", record.host);
        line.number("status", record.status.into());
        line.word("ending", record.ending.label());
        line.display("termination", &record.termination());
        line.optional("reason", record.ending.reason());
        line.number("received_bytes", record.received_bytes);
        line.number("sent_bytes", record.sent_bytes);
        line.milliseconds("duration_ms", Some(record.duration));
        line.milliseconds("upstream_ms", record.upstream_duration);
        line.optional("client", record.client);
        line.display("peer", &record.peer);
        line.word("trust", record.trust.label());
        match record.trace {
            Some(trace) => {
                line.word("trace_id", trace.trace_id.digits().as_str());
                line.word("span_id", trace.span_id.digits().as_str());
            }
            None => {
                line.null("trace_id");
                line.null("span_id");
            }
        }
        line.end()
    }
}

struct Line {
    text: Vec<u8>,
    format: Format,
}

impl Line {
    fn name(&mut self, name: &'static str) {
        let is_first = self.text.len() <= 1;
        match self.format {
            Format::Json => {
                let before: &[u8] = if is_first { b"\"" } else { b",\"" };
                self.text.extend_from_slice(before);
                self.text.extend_from_slice(name.as_bytes());
                self.text.extend_from_slice(b"\":");
            }
            Format::Text => {
                if !is_first {
                    self.text.push(b' ');
                }
                self.text.extend_from_slice(name.as_bytes());
                self.text.push(b'=');
            }
        }
    }

    /// Writes one of our own words, which needs no escaping.
    fn word(&mut self, name: &'static str, word: &str) {
        self.name(name);
        let quote = self.quote();
        for part in [quote, word, quote] {
            self.text.extend_from_slice(part.as_bytes());
        }
    }

    /// Writes one of our own values, which needs no escaping.
    fn display(&mut self, name: &'static str, value: &dyn fmt::Display) {
        let quote = self.quote();
        self.bare(name, format_args!("{quote}{value}{quote}"));
    }

    /// Returns the quotation mark of a value that needs no escaping.
    fn quote(&self) -> &'static str {
        match self.format {
            Format::Json => "\"",
            Format::Text => "",
        }
    }

    /// Writes a value without quotation marks in both formats.
    fn bare(&mut self, name: &'static str, value: fmt::Arguments<'_>) {
        self.name(name);
        // Writing to a vector does not fail.
        let _ = self.text.write_fmt(value);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.name(name);
        let mut digits = itoa::Buffer::new();
        self.text
            .extend_from_slice(digits.format(number).as_bytes());
    }

    fn null(&mut self, name: &'static str) {
        self.name(name);
        self.text.extend_from_slice(match self.format {
            Format::Json => b"null",
            Format::Text => b"-",
        });
    }

    fn milliseconds(&mut self, name: &'static str, duration: Option<Duration>) {
        let Some(duration) = duration else {
            return self.null(name);
        };
        let micros = duration.as_micros();
        let mut digits = itoa::Buffer::new();
        self.name(name);
        self.text
            .extend_from_slice(digits.format(micros / 1000).as_bytes());
        // A leading digit keeps the zeros of the fraction.
        let fraction = digits.format(1000 + micros % 1000);
        self.text.push(b'.');
        self.text
            .extend_from_slice(fraction.as_bytes().get(1..).unwrap_or_default());
    }

    fn optional(&mut self, name: &'static str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, [value.as_bytes()]),
            None => self.null(name),
        }
    }

    /// Writes a value that may come from the client.
    fn text<'t>(&mut self, name: &'static str, pieces: impl IntoIterator<Item = &'t [u8]>) {
        self.name(name);
        self.text.push(b'"');
        let mut remaining = MAX_VALUE;
        for piece in pieces {
            let (kept, cut) = piece.split_at_checked(remaining).unwrap_or((piece, b""));
            remaining -= kept.len();
            for run in kept.split_inclusive(|octet| !is_plain(*octet)) {
                match run.split_last() {
                    Some((last, plain)) if !is_plain(*last) => {
                        self.text.extend_from_slice(plain);
                        self.escape(*last);
                    }
                    _ => self.text.extend_from_slice(run),
                }
            }
            if !cut.is_empty() {
                self.text.extend_from_slice(b"...");
                break;
            }
        }
        self.text.push(b'"');
    }

    fn escape(&mut self, octet: u8) {
        // In JSON, each of our backslashes is escaped once more.
        let backslash = match self.format {
            Format::Json => "\\\\",
            Format::Text => "\\",
        };
        // Writing to a vector does not fail.
        let _ = match octet {
            b'"' => write!(self.text, "\\\""),
            b'\\' => write!(self.text, "{backslash}{backslash}"),
            _ => write!(self.text, "{backslash}x{octet:02x}"),
        };
    }

    fn end(mut self) -> Vec<u8> {
        self.text.extend_from_slice(match self.format {
            Format::Json => b"}\n",
            Format::Text => b"\n",
        });
        self.text
    }
}

/// Returns true if an octet is written unchanged.
fn is_plain(octet: u8) -> bool {
    matches!(octet, b' '..=b'~') && !matches!(octet, b'"' | b'\\')
}

/// Maximum octets of a value, as received.
const MAX_VALUE: usize = 4096;

#[cfg(test)]
mod tests {
    use fluxlit_policy::Reason;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::reject_reason::RejectReason;
    use super::super::tests::typical;
    use super::super::trace::Trace;
    use super::super::{Dispatch, Ending, Phase};
    use super::*;

    fn line(format: Format, record: &Record<'_>) -> String {
        let line = format.line(record, &Redaction::new([]));
        String::from_utf8(line).expect("ASCII")
    }

    fn json(record: &Record<'_>) -> Value {
        serde_json::from_str(&line(Format::Json, record)).expect("JSON")
    }

    #[test]
    fn a_request_in_both_formats() {
        let sent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::read([sent.as_slice()].into_iter());
        let full = Record {
            trace: trace.as_ref(),
            target: b"/apps/my-app/?page=2&token=abc",
            ..typical()
        };
        assert_eq!(
            line(Format::Text, &full),
            concat!(
                "time=2026-09-21T14:13:20.123Z request_id=\"0190\" fluxlit_dispatch=streamlit ",
                "http_method_or_type=\"GET\" path=\"/apps/my-app/\" query=\"page=2&token=<redacted>\" ",
                "version=1.1 host=\"portal.example\" status=200 ending=complete termination=-- reason=- ",
                "received_bytes=0 sent_bytes=1024 duration_ms=1.500 upstream_ms=1.250 ",
                "client=\"203.0.113.7\" peer=10.0.0.1 trust=trusted_header ",
                "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7\n",
            )
        );
        let expected = json!({
            "time": "2026-09-21T14:13:20.123Z", "level": "INFO", "logger": "fluxlit.gateway",
            "message": "gateway GET /apps/my-app/ request_id=0190",
            "request_id": "0190", "fluxlit_dispatch": "streamlit",
            "http_method_or_type": "GET", "path": "/apps/my-app/", "query": "page=2&token=<redacted>",
            "version": "1.1", "host": "portal.example", "status": 200, "ending": "complete", "termination": "--", "reason": null,
            "received_bytes": 0, "sent_bytes": 1024, "duration_ms": 1.5, "upstream_ms": 1.25,
            "client": "203.0.113.7", "peer": "10.0.0.1", "trust": "trusted_header",
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7",
        });
        assert_eq!(json(&full), expected);
    }

    #[test]
    fn unknown_values_are_null() {
        let refused = Record {
            dispatch: Dispatch::Gateway,
            is_websocket: true,
            host: None,
            client: None,
            status: 0,
            ending: Ending::Rejected(RejectReason::Policy(Reason::BadHost)),
            phase: Phase::Head,
            upstream_duration: None,
            ..typical()
        };
        let line = json(&refused);
        for name in ["host", "client", "upstream_ms", "trace_id", "span_id"] {
            assert_eq!(line[name], Value::Null, "{name}");
        }
        assert_eq!(line["ending"], "refused");
        assert_eq!(line["termination"], "GR");
        assert_eq!(line["reason"], "bad_host");
        assert_eq!(line["http_method_or_type"], "websocket");
    }

    #[test]
    fn a_client_cannot_forge_a_line() {
        // The target, and its path after JSON was parsed; the text format also escapes quotation marks.
        let table: [(&[u8], &str); 6] = [
            (b"/a\r\n{\"status\":200}", r#"/a\x0d\x0a{"status":200}"#),
            (b"/\x1b[2J", r"/\x1b[2J"),
            (b"/\xff\xfe\x00\x7f", r"/\xff\xfe\x00\x7f"),
            (b"/\\x0a", r"/\\x0a"),
            ("/\u{202e}\u{9b}".as_bytes(), r"/\xe2\x80\xae\xc2\x9b"),
            (b"/a b\"", r#"/a b""#),
        ];
        for (target, expected) in table {
            let record = Record {
                target,
                ..typical()
            };
            assert_eq!(json(&record)["path"], expected);
            let quoted = expected.replace('"', "\\\"");
            let text = line(Format::Text, &record);
            assert!(
                text.contains(&format!(" path=\"{quoted}\" query=\"\" ")),
                "{text}"
            );
        }
    }

    #[test]
    fn long_values_are_truncated() {
        let target = [&b"/\x01"[..], &[b'a'; 10_000], b"?", &[b'\\'; 10_000]].concat();
        let record = Record {
            target: &target,
            ..typical()
        };
        for format in [Format::Json, Format::Text] {
            assert!(line(format, &record).len() < (2 + 4) * MAX_VALUE + 1024);
        }
        let path = json(&record)["path"].to_string();
        assert!(path.ends_with("a...\""), "{path}");
    }

    proptest! {
        #[test]
        fn every_request_is_one_line(target: Vec<u8>, method: Vec<u8>, host: String) {
            let record = Record { target: &target, method: &method, host: Some(&host), ..typical() };
            for format in [Format::Json, Format::Text] {
                let line = line(format, &record);
                prop_assert!(line.ends_with('\n'));
                prop_assert!(line.bytes().rev().skip(1).all(|octet| matches!(octet, b' '..=b'~')));
            }
            prop_assert_eq!(json(&record).as_object().map(serde_json::Map::len), Some(24));
        }
    }
}
