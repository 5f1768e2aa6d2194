//! Reads the fields of a suite.
//!
//! The fields are those of `TestSuite` in Service Extensions' `runner.proto`. An unknown field is an error, because the
//! result of a test may depend on it.

use std::path::PathBuf;

use fluxlit_cases::whole;

use super::format::{
    Chunks, Expectation, Immediate, Input, Invocation, Matcher, MatcherKind, Suite, Test,
};
use super::text::{Message, Value};

pub(super) fn suite(message: Message, folder: PathBuf) -> Result<Suite, String> {
    let mut suite = Suite {
        folder,
        ..Suite::default()
    };
    for (name, value) in message {
        match name.as_str() {
            "env" => env(value.message("env")?, &mut suite)?,
            "test" => {
                let test = test(value.message("test")?)?;
                suite.tests.push(test);
            }
            _ => return Err(unknown("the suite", &name)),
        }
    }
    Ok(suite)
}

fn env(message: Message, suite: &mut Suite) -> Result<(), String> {
    for (name, value) in message {
        match name.as_str() {
            "config_path" => suite.config_path = Some(value.text(&name)?),
            "log_level" => suite.log_level = Some(value.text(&name)?.to_lowercase()),
            "time_secs" => suite.time_secs = value.number(&name)?,
            "test_path"
            | "wasm_path"
            | "log_path"
            | "num_additional_streams"
            | "additional_stream_advance_rate" => {}
            _ => return Err(unknown("env", &name)),
        }
    }
    Ok(())
}

fn test(message: Message) -> Result<Test, String> {
    let mut test = Test::default();
    for (name, value) in message {
        match name.as_str() {
            "name" => test.name = value.text(&name)?,
            "benchmark" => {}
            "num_chunks" => test.chunks = Some(Chunks::Count(value.number(&name)?)),
            "chunk_size" => test.chunks = Some(Chunks::Size(value.number(&name)?)),
            "properties" => {
                let (mut path, mut bytes) = (String::new(), Vec::new());
                for (name, value) in value.message("properties")? {
                    match name.as_str() {
                        "path" => path = value.text(&name)?,
                        "value" => bytes = value.bytes(&name)?,
                        _ => return Err(unknown("properties", &name)),
                    }
                }
                test.properties.push((path, bytes));
            }
            "plugin_init" => test.plugin_init = expectation(value.message(&name)?)?,
            "stream_init" => test.stream_init = expectation(value.message(&name)?)?,
            "stream_destroy" => test.stream_destroy = expectation(value.message(&name)?)?,
            "request_headers" => test.request_headers = Some(invocation(value.message(&name)?)?),
            "response_headers" => test.response_headers = Some(invocation(value.message(&name)?)?),
            "request_body" => test.request_body.push(invocation(value.message(&name)?)?),
            "response_body" => test.response_body.push(invocation(value.message(&name)?)?),
            _ => return Err(unknown("test", &name)),
        }
    }
    Ok(test)
}

fn invocation(message: Message) -> Result<Invocation, String> {
    let mut invocation = Invocation::default();
    for (name, value) in message {
        match name.as_str() {
            "input" => invocation.input = input(value.message(&name)?)?,
            "result" => invocation.result = expectation(value.message(&name)?)?,
            _ => return Err(unknown("an invocation", &name)),
        }
    }
    Ok(invocation)
}

fn input(message: Message) -> Result<Input, String> {
    let mut input = Input::default();
    for (name, value) in message {
        match name.as_str() {
            "header" => input.headers.push(header(value.message(&name)?)?),
            "content" => input.content = Some(value.bytes(&name)?),
            "file" => input.file = Some(value.text(&name)?),
            _ => return Err(unknown("input", &name)),
        }
    }
    Ok(input)
}

fn expectation(message: Message) -> Result<Expectation, String> {
    let mut expectation = Expectation::default();
    for (name, value) in message {
        match name.as_str() {
            "has_header" => expectation.has_header.push(header(value.message(&name)?)?),
            "no_header" => expectation.no_header.push(header(value.message(&name)?)?.0),
            "headers" => expectation.headers.push(matcher(value.message(&name)?)?),
            "body" => expectation.body.push(matcher(value.message(&name)?)?),
            "log" => expectation.log.push(matcher(value.message(&name)?)?),
            "immediate" => expectation.immediate = Some(immediate(value.message(&name)?)?),
            _ => return Err(unknown("result", &name)),
        }
    }
    Ok(expectation)
}

fn header(message: Message) -> Result<(String, Vec<u8>), String> {
    let mut header = (String::new(), Vec::new());
    for (name, value) in message {
        match name.as_str() {
            "key" => header.0 = value.text(&name)?,
            "value" => header.1 = value.bytes(&name)?,
            _ => return Err(unknown("a header", &name)),
        }
    }
    Ok(header)
}

fn matcher(message: Message) -> Result<Matcher, String> {
    let (mut is_inverted, mut kind) = (false, MatcherKind::Exact(Vec::new()));
    for (name, value) in message {
        match name.as_str() {
            "invert" => is_inverted = value.text(&name)? == "true",
            "exact" => kind = MatcherKind::Exact(value.bytes(&name)?),
            "regex" => {
                let regex = value.text(&name)?;
                whole(&regex)?;
                kind = MatcherKind::Regex(regex);
            }
            "file" => kind = MatcherKind::File(value.text(&name)?),
            _ => return Err(unknown("a matcher", &name)),
        }
    }
    Ok(Matcher { is_inverted, kind })
}

fn immediate(message: Message) -> Result<Immediate, String> {
    let mut immediate = Immediate::default();
    for (name, value) in message {
        match name.as_str() {
            "http_status" => immediate.http_status = Some(value.number(&name)?),
            "grpc_status" => immediate.grpc_status = Some(value.number(&name)?),
            "details" => immediate.details = Some(value.text(&name)?),
            _ => return Err(unknown("immediate", &name)),
        }
    }
    Ok(immediate)
}

impl Value {
    fn message(self, name: &str) -> Result<Message, String> {
        match self {
            Self::Message(message) => Ok(message),
            Self::Scalar(_) => Err(format!("`{name}` must be a message")),
        }
    }

    fn bytes(self, name: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Scalar(bytes) => Ok(bytes),
            Self::Message(_) => Err(format!("`{name}` must not be a message")),
        }
    }

    fn text(self, name: &str) -> Result<String, String> {
        String::from_utf8(self.bytes(name)?).map_err(|_| format!("`{name}` is not UTF-8"))
    }

    fn number<T: std::str::FromStr>(self, name: &str) -> Result<T, String> {
        let text = self.text(name)?;
        text.parse()
            .map_err(|_| format!("`{name}` must be a number, not `{text}`"))
    }
}

fn unknown(place: &str, name: &str) -> String {
    format!("{place} has no field `{name}`")
}
