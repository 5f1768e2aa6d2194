//! Finds the lines of plugins in Envoy's log.
//!
//! Envoy writes the names of plugin and VM before the text of a plugin's line. A text may have several lines, so Envoy
//! begins each message with a byte that no other message contains.

use fluxlit_cases::Level;

/// The log format to start Envoy with (`--log-format`).
pub const FORMAT: &str = "\u{1e}%l %v";

/// Begins a message in that format.
pub const BEGIN: char = '\u{1e}';

/// The names that Envoy writes before a plugin's lines.
#[derive(Debug, Clone)]
pub struct PluginNames<'a> {
    /// The name of the plugin.
    pub name: &'a str,
    /// Its root id.
    pub root_id: &'a str,
    /// The id of its VM.
    pub vm_id: &'a str,
}

/// Returns the level and the text of what these plugins have logged, in order.
pub fn plugin_lines(marked_log: &str, plugins: &[PluginNames<'_>]) -> Vec<(Level, String)> {
    let prefixes: Vec<String> = plugins
        .iter()
        .map(|plugin| {
            let names = [plugin.name, plugin.root_id, plugin.vm_id];
            let names = names.into_iter().filter(|name| !name.is_empty());
            let words: Vec<&str> = ["wasm", "log"].into_iter().chain(names).collect();
            words.join(" ") + ": "
        })
        .collect();
    let line = |message: &str| {
        let (level, rest) = message.split_once(' ')?;
        let text = prefixes
            .iter()
            .find_map(|prefix| rest.strip_prefix(prefix))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        Some((level_of(level)?, text.to_owned()))
    };
    marked_log.split(BEGIN).filter_map(line).collect()
}

fn level_of(name: &str) -> Option<Level> {
    Some(match name {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "info" => Level::Info,
        "warning" => Level::Warn,
        "error" => Level::Error,
        "critical" => Level::Critical,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_one_plugin_are_found_whole() {
        let log = "\u{1e}warning nothing of a filter\n\
                   \u{1e}info wasm log gate a vm-1: two\nlines\n\
                   \u{1e}info wasm log gate a vm-2: another VM\n\
                   \u{1e}critical wasm log gate a vm-1: gate a vm-1: \n";
        let plugin = PluginNames {
            name: "gate",
            root_id: "a",
            vm_id: "vm-1",
        };
        let expected = [
            (Level::Info, "two\nlines".to_owned()),
            (Level::Critical, "gate a vm-1: ".to_owned()),
        ];
        assert_eq!(plugin_lines(log, &[plugin]), expected);
    }

    #[test]
    fn a_plugin_without_names_has_lines_without_names() {
        let plugin = PluginNames {
            name: "",
            root_id: "",
            vm_id: "",
        };
        let log = "\u{1e}debug wasm log: one\n\u{1e}debug wasm log other: two\n";
        assert_eq!(plugin_lines(log, &[plugin]).len(), 1);
    }
}
