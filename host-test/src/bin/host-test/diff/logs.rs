//! What have the filters of a case logged in Envoy?
//!
//! Envoy writes the names of plugin and VM before what a filter logs, so that each case knows its own lines. What is
//! logged may have several lines, so Envoy is told to begin each message with an octet that no other one has.

use host_test::abi::LogLevel;
use host_test::event::LogLine;

/// The form of Envoy's log.
pub(super) const FORMAT: &str = "\u{1e}%l %v";

/// Begins a message in that form.
pub(super) const BEGIN: char = '\u{1e}';

/// The names by which Envoy tells a plugin's lines.
#[derive(Debug, Clone)]
pub(super) struct Writer<'a> {
    pub(super) name: &'a str,
    pub(super) root_id: &'a str,
    pub(super) vm_id: &'a str,
}

/// What these plugins have logged, in order.
pub(super) fn lines(log: &str, writers: &[Writer<'_>]) -> Vec<LogLine> {
    let prefixes: Vec<String> = writers
        .iter()
        .map(|writer| {
            let names = [writer.name, writer.root_id, writer.vm_id];
            let names = names.into_iter().filter(|name| !name.is_empty());
            let words: Vec<&str> = ["wasm", "log"].into_iter().chain(names).collect();
            words.join(" ") + ": "
        })
        .collect();
    let line = |message: &str| {
        let (level, said) = message.split_once(' ')?;
        let text = prefixes
            .iter()
            .find_map(|prefix| said.strip_prefix(prefix))?;
        Some(LogLine {
            level: level_of(level)?,
            text: text.strip_suffix('\n').unwrap_or(text).to_owned(),
        })
    };
    log.split(BEGIN).filter_map(line).collect()
}

fn level_of(name: &str) -> Option<LogLevel> {
    Some(match name {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "info" => LogLevel::Info,
        "warning" => LogLevel::Warn,
        "error" => LogLevel::Error,
        "critical" => LogLevel::Critical,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_plugin_whole() {
        let log = "\u{1e}warning nothing of a filter\n\
                   \u{1e}info wasm log gate a vm-1: two\nlines\n\
                   \u{1e}info wasm log gate a vm-2: another VM\n\
                   \u{1e}critical wasm log gate a vm-1: gate a vm-1: \n";
        let writer = Writer {
            name: "gate",
            root_id: "a",
            vm_id: "vm-1",
        };
        let found: Vec<_> = lines(log, &[writer])
            .into_iter()
            .map(|line| (line.level, line.text))
            .collect();
        let expected = [
            (LogLevel::Info, "two\nlines".to_owned()),
            (LogLevel::Critical, "gate a vm-1: ".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_plugin_without_names_is_told_by_having_none() {
        let writer = Writer {
            name: "",
            root_id: "",
            vm_id: "",
        };
        let log = "\u{1e}debug wasm log: one\n\u{1e}debug wasm log other: two\n";
        assert_eq!(lines(log, &[writer]).len(), 1);
    }
}
