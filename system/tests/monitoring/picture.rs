//! Draws a dashboard as an SVG: the panels at their places, with the lines that Prometheus returns.

use std::fmt::Write as _;

/// A panel with lines.
#[derive(Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// As Grafana names it, such as `reqps`.
    pub(crate) unit: String,
    /// Left, top, width and height, in units of the grid of 24 columns.
    pub(crate) place: [f64; 4],
    pub(crate) lines: Vec<Line>,
}

/// A series of values, by seconds, with its name in the legend.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Draws the panels. All of them show the same time, whose end is that of the last point.
pub(crate) fn draw(title: &str, panels: &[Panel]) -> String {
    let edges = |edge: fn(&[f64; 4]) -> f64| panels.iter().map(move |panel| edge(&panel.place));
    let top = edges(|place| place[1]).fold(f64::INFINITY, f64::min);
    let bottom = edges(|place| place[1] + place[3]).fold(0.0, f64::max);
    let height = HEAD + (bottom - top) * ROW + GAP;
    let times = panels.iter().flat_map(|panel| &panel.lines);
    let times = times.flat_map(|line| line.points.iter().map(|(time, _)| *time));
    let (first, last) = range(times);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="Inter, Helvetica, Arial, sans-serif" font-size="11">
<rect width="{WIDTH}" height="{height}" fill="#f4f5f5"/>
<text x="{GAP}" y="27" font-size="17" font-weight="600" fill="#24292e">{}</text>
"##,
        escaped(title)
    );
    for panel in panels {
        let [x, y, width, height] = panel.place;
        let unit = (WIDTH - GAP) / COLUMNS;
        let outer = Frame {
            left: GAP + x * unit,
            top: HEAD + (y - top) * ROW,
            width: width * unit - GAP,
            height: height * ROW - GAP,
        };
        draw_panel(&mut svg, panel, &outer, (first, last));
    }
    svg.push_str("</svg>\n");
    svg
}

struct Frame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

fn draw_panel(svg: &mut String, panel: &Panel, outer: &Frame, (first, last): (f64, f64)) {
    let Frame {
        left,
        top,
        width,
        height,
    } = outer;
    let _ = write!(
        svg,
        r##"<rect x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="3" fill="#fff" stroke="#dcdfe3"/>
<text x="{:.1}" y="{:.1}" font-size="13" font-weight="600" fill="#24292e">{}</text>
"##,
        left + 10.0,
        top + 20.0,
        escaped(&panel.title)
    );
    let legend = legend(panel, width - 20.0);
    let plot = Frame {
        left: left + 58.0,
        top: top + 34.0,
        width: width - 70.0,
        height: height - 62.0 - LINE * rows(&legend),
    };
    let values = panel.lines.iter().flat_map(|line| &line.points);
    let (low, high) = range(values.map(|(_, value)| *value));
    let (low, high) = (low.min(0.0), nice(high));
    let place = |time: f64, value: f64| {
        let across = (time - first) / (last - first).max(1.0);
        let up = (value - low) / (high - low);
        (
            plot.left + across * plot.width,
            plot.top + (1.0 - up) * plot.height,
        )
    };
    for step in 0..=2 {
        let value = low + (high - low) * f64::from(step) / 2.0;
        let (x, y) = place(first, value);
        let _ = writeln!(
            svg,
            r##"<path d="M{x:.1} {y:.1}h{:.1}" stroke="#e5e7ea"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="#6b7177">{}</text>"##,
            plot.width,
            x - 6.0,
            y + 4.0,
            written(value, &panel.unit)
        );
    }
    for (share, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let ago = (last - first) * (1.0 - share);
        let (x, y) = place(last - ago, low);
        let text = match ago {
            0.0 => "now".to_owned(),
            ago => format!("{ago:.0} s ago"),
        };
        let _ = writeln!(
            svg,
            r##"<text x="{x:.1}" y="{:.1}" text-anchor="{anchor}" fill="#6b7177">{text}</text>"##,
            y + 16.0
        );
    }
    for (line, color) in panel.lines.iter().zip(COLORS.iter().cycle()) {
        let mut path = String::new();
        for (time, value) in &line.points {
            let (x, y) = place(*time, *value);
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(path, "{command}{x:.1} {y:.1}");
        }
        let _ = writeln!(
            svg,
            r#"<path d="{path}" fill="none" stroke="{color}" stroke-width="1.6" stroke-linejoin="round"/>"#
        );
    }
    let bottom = top + height - 4.0 - LINE * rows(&legend);
    for (entry, color) in legend.iter().zip(COLORS.iter().cycle()) {
        let (x, y) = (left + 10.0 + entry.x, bottom + LINE * (entry.row + 0.5));
        let _ = writeln!(
            svg,
            r##"<path d="M{x:.1} {y:.1}h12" stroke="{color}" stroke-width="3"/><text x="{:.1}" y="{:.1}" fill="#464c54">{}</text>"##,
            x + 16.0,
            y + 4.0,
            escaped(entry.name)
        );
    }
}

/// A name in the legend, relative to its left and in its row.
struct Entry<'a> {
    name: &'a str,
    x: f64,
    row: f64,
}

fn legend(panel: &Panel, width: f64) -> Vec<Entry<'_>> {
    let (mut x, mut row) = (0.0, 0.0);
    let place = |line: &Line| {
        let letters = u32::try_from(line.name.chars().count()).unwrap_or(u32::MAX);
        let own = 30.0 + LETTER * f64::from(letters);
        if x > 0.0 && x + own > width {
            (x, row) = (0.0, row + 1.0);
        }
        x += own;
        (x - own, row)
    };
    let places: Vec<(f64, f64)> = panel.lines.iter().map(place).collect();
    let entries = panel.lines.iter().zip(places);
    entries
        .map(|(line, (x, row))| Entry {
            name: &line.name,
            x,
            row,
        })
        .collect()
}

fn rows(legend: &[Entry<'_>]) -> f64 {
    legend.last().map_or(0.0, |entry| entry.row + 1.0)
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high { (0.0, 1.0) } else { (low, high) }
}

/// Returns the next value that has one digit, or 1 if all values are 0.
fn nice(high: f64) -> f64 {
    if high <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(high.log10().floor());
    (high / power).ceil() * power
}

/// Writes a value with its unit, as Grafana does.
fn written(value: f64, unit: &str) -> String {
    let with_prefix = |value: f64, unit: &str| match value {
        value if value >= 1e6 => format!("{} M{unit}", short(value / 1e6)),
        value if value >= 1e3 => format!("{} k{unit}", short(value / 1e3)),
        value => format!("{} {unit}", short(value)),
    };
    match unit {
        "reqps" => format!("{} req/s", short(value)),
        "cps" => format!("{} /s", short(value)),
        "s" if value < 1.0 => format!("{} ms", short(value * 1e3)),
        "s" => format!("{} s", short(value)),
        "bytes" => with_prefix(value, "B"),
        "Bps" => with_prefix(value, "B/s"),
        "percentunit" => format!("{} %", short(value * 100.0)),
        _ => short(value),
    }
}

/// Writes a value with at most three decimals.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// The classic palette of Grafana.
const COLORS: [&str; 8] = [
    "#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#1f78c1", "#ba43a9", "#705da0",
];

const WIDTH: f64 = 1240.0;
const COLUMNS: f64 = 24.0;
/// Height of a unit of the grid.
const ROW: f64 = 25.0;
const GAP: f64 = 10.0;
/// Height of the title.
const HEAD: f64 = 42.0;
/// Height of a row of the legend, and about the width of a letter.
const LINE: f64 = 16.0;
const LETTER: f64 = 6.0;
