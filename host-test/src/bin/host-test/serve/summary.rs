//! Prints what the filter did to a request, in one line with its log lines below.
//!
//! `GET /app/x -> /x 200  request: +new ~changed -removed  response: +new`

use host_test::event::LogLine;
use host_test::{HeaderMap, Outcome};

/// The headers of both messages before the filter saw them.
#[derive(Default)]
pub(super) struct Before {
    pub(super) request: HeaderMap,
    pub(super) response: HeaderMap,
}

pub(super) fn print(before: &Before, outcome: &Outcome) {
    eprintln!("{}", line(before, outcome));
    for call in &outcome.call_outs {
        let (method, path) = (call.headers.get(":method"), call.headers.get(":path"));
        eprintln!("  called {}: {} {}", call.cluster, text(method), text(path));
    }
    print_logs(&outcome.logs);
    if let Some(failure) = &outcome.failure {
        eprintln!("  failed: {failure}");
    }
}

pub(super) fn print_logs(logs: &[LogLine]) {
    for LogLine { level, text } in logs {
        eprintln!("  {level}: {text}");
    }
}

fn line(before: &Before, outcome: &Outcome) -> String {
    let mut line = format!(
        "{} {}",
        text(before.request.get(":method")),
        text(before.request.get(":path"))
    );
    match &outcome.upstream {
        Some(message) => line.push_str(&format!(" -> {}", text(message.headers.get(":path")))),
        None => line.push_str(" answered by the filter"),
    }
    match &outcome.downstream {
        Some(message) => line.push_str(&format!(" {}", text(message.headers.get(":status")))),
        None => line.push_str(" no response"),
    }
    let messages = [
        ("request", &before.request, &outcome.upstream),
        ("response", &before.response, &outcome.downstream),
    ];
    for (name, before, after) in messages {
        if let Some(after) = after
            && !before.is_empty()
        {
            let changes = changes(before, &after.headers);
            if !changes.is_empty() {
                line.push_str(&format!("  {name}: {}", changes.join(" ")));
            }
        }
    }
    line
}

/// Returns the names that were added, changed and removed, with their marks.
fn changes(before: &HeaderMap, after: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = [before, after]
        .into_iter()
        .flat_map(HeaderMap::iter)
        .map(|(name, _)| text(Some(name)))
        .filter(|name| !name.starts_with(":path"))
        .collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let (before, after) = (before.get_all(&name), after.get_all(&name));
            let mark = match (before.is_empty(), after.is_empty()) {
                _ if before == after => return None,
                (true, _) => '+',
                (_, true) => '-',
                _ => '~',
            };
            Some(format!("{mark}{name}"))
        })
        .collect()
}

/// Escapes bytes, because control characters must not reach the terminal.
fn text(bytes: Option<&[u8]>) -> String {
    bytes.unwrap_or_default().escape_ascii().to_string()
}
