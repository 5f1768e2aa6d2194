//! Writes the page that shows the table.

use std::fmt::Write as _;

use crate::table::{Behind, Case, Expected, Problem};

/// Returns the whole page.
pub(crate) fn text(problems: &[Problem]) -> String {
    let mut page = INTRODUCTION.to_owned();
    for problem in problems {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {}. {}\n\n", problem.row, problem.title);
        let impossible = |case: &&Case| matches!(case.expected, Expected::None(_));
        let (without, with): (Vec<&Case>, Vec<&Case>) = problem.cases.iter().partition(impossible);
        if !with.is_empty() {
            page.push_str(
                "| front | what creates it | the doctor | cure |\n| --- | --- | --- | --- |\n",
            );
        }
        for case in with {
            let (says, cure) = match &case.expected {
                Expected::Found {
                    check,
                    says,
                    cure,
                    is_alone,
                    ..
                } => (
                    format!(
                        "{}[{check}]({}) {}",
                        if *is_alone { "only " } else { "" },
                        anchor(check),
                        cell(says)
                    ),
                    cure.as_ref()
                        .map_or_else(|| mended(case), |cure| cell(cure)),
                ),
                Expected::Prevented { why, checks } => (
                    format!("finds nothing ({})", checks.join(", ")),
                    format!("prevented: {}", cell(why)),
                ),
                Expected::None(_) => continue,
            };
            let _ = writeln!(
                page,
                "| {} | {} | {says} | {cure} |",
                fronts(case),
                created(case)
            );
        }
        for case in without {
            if let Expected::None(why) = &case.expected {
                let _ = writeln!(page, "\n{}: {why}", fronts(case));
            }
        }
    }
    page
}

fn fronts(case: &Case) -> String {
    let names: Vec<&str> = case.fronts.iter().map(|front| front.front()).collect();
    names.join(", ")
}

fn created(case: &Case) -> String {
    let mut parts: Vec<String> = case.edit.iter().map(crate::edit::Edit::describe).collect();
    let settings = case.settings.iter();
    parts.extend(settings.map(|(name, value)| format!("`{name}={value}`")));
    let behind = match case.behind {
        Behind::Gateway => None,
        Behind::Streamlit => Some("in front of Streamlit, without the gateway"),
        Behind::TwoGateways => Some("two gateways"),
        Behind::TwoVersions => Some("two versions of Streamlit"),
    };
    parts.extend(behind.map(str::to_owned));
    if !case.cookies.is_empty() {
        parts.push("the doctor has the cookie of a login (`--cookie-file`)".to_owned());
    }
    if case.has_direct {
        parts.push("the doctor knows the URL of the gateway (`--direct`)".to_owned());
    }
    if let Some(how) = case.reload {
        let fronts = case.fronts.iter();
        let commands = fronts.filter_map(|front| front.reload_command(how));
        parts.extend(commands.map(|command| format!("{command} while a WebSocket is open")));
    }
    if case.has_odd_octets {
        parts.push("octets that are no UTF-8 in path, query and fields".to_owned());
    }
    parts.join("; ")
}

/// Describes the lines that the hint names.
fn mended(case: &Case) -> String {
    let parts: Vec<String> = if case.mend.is_empty() {
        case.edit
            .iter()
            .map(crate::edit::Edit::describe_undone)
            .collect()
    } else {
        case.mend.iter().map(crate::edit::Edit::describe).collect()
    };
    format!("by its lines: {}", parts.join("; "))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// Returns the section of a check, as seen from the folder of the page.
fn anchor(check: &str) -> String {
    let known = fluxlit_doctor::checks().find(|known| known.id == check);
    let known = known.unwrap_or_else(|| panic!("{check} is no check"));
    known.documentation().replacen("docs/", "", 1)
}

const INTRODUCTION: &str = "# What the doctor says about a broken front

The problems that users of Streamlit report most, created with a real proxy in front of the gateway, and what
`fluxlit-gateway doctor --probe` says about each. The first column names the proxy, whose configuration is the one that
`fluxlit-gateway config --for FRONT` prints, with the change in the second column. `…` stands for omitted words. With the
printed configuration itself, the doctor finds nothing.

Where the cure is \"by its lines\", the hint for this front is literal, and the test mends the configuration by it alone: each
line that has to come back is quoted in the hint after \"write\", each line that has to go begins as the hint quotes after
\"remove\", and no other line of the file begins so. The mended file is then the printed one, of which the first test shows that
nothing is found in it; where it is another one, or something else than the gateway is behind the front, the front is started
with it and probed again, and nothing is found. What this does not show: that a hint fits a configuration that is written in
another way. The other cures are settings of the gateway or of Streamlit, or depend on what else is in the file.

A test runs every row: `cargo xtask test doctor-outside`. With `FLUXLIT_TEST_DOCTOR=8,12,haproxy` it runs two problems with
HAProxy only; with `FLUXLIT_WRITE=1` it writes this page from `system/tests/doctor_outside/problems.yaml`.
";
