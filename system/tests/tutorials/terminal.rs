//! Draws a terminal with a command and its output, as SVG.

use std::fmt::Write as _;

/// Returns the picture. The first word of a line has the color that the doctor gives it on a terminal.
pub(crate) fn picture(command: &str, output: &str) -> String {
    let lines = wrapped(output);
    let width = 2 * MARGIN + LETTER * COLUMNS;
    let height = 2 * MARGIN + LINE * (lines.len() + 1);
    let mut picture = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#1c2128\"/>\n"
    );
    let command = format!("$ {command}");
    for (index, line) in [command].iter().chain(&lines).enumerate() {
        let y = MARGIN + LINE * index + 14;
        let (word, rest) = status(line);
        // Writing to a string cannot fail.
        let _ = writeln!(
            picture,
            "<text x=\"{MARGIN}\" y=\"{y}\" fill=\"#d1d7e0\" xml:space=\"preserve\">{}{}</text>",
            colored(word),
            escaped(rest)
        );
    }
    picture.push_str("</svg>\n");
    picture
}

/// Wraps lines at words, with the indentation of the column in which their text begins.
fn wrapped(output: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in output.lines() {
        let mut line = line.to_owned();
        while line.chars().count() > COLUMNS {
            let end = line
                .char_indices()
                .nth(COLUMNS)
                .map_or(line.len(), |(at, _)| at);
            let at = line[..end]
                .rfind(' ')
                .filter(|at| *at > TEXT)
                .unwrap_or(end);
            let rest = line.split_off(at);
            lines.push(line);
            line = format!("{:TEXT$}{}", "", rest.trim_start());
        }
        lines.push(line);
    }
    lines
}

/// Splits a line into the status of a check, if it begins with one, and the rest.
fn status(line: &str) -> (&str, &str) {
    let word = ["ok", "skip", "warn", "fail"]
        .into_iter()
        .find(|word| line.starts_with(&format!("{word} ")));
    line.split_at(word.map_or(0, str::len))
}

fn colored(word: &str) -> String {
    let color = match word {
        "ok" => "#57ab5a",
        "skip" => "#39c5cf",
        "warn" => "#e3b341",
        "fail" => "#ff7b72",
        _ => return String::new(),
    };
    format!("<tspan fill=\"{color}\">{word}</tspan>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The length of a line, in letters.
const COLUMNS: usize = 120;

/// The column in which the text of a check begins.
const TEXT: usize = 28;

/// Sizes in pixels.
const LETTER: usize = 8;
const LINE: usize = 19;
const MARGIN: usize = 16;
