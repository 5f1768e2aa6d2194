//! Reads the table of problems.

use std::collections::BTreeMap;

use fluxlit_system::front::{Program, Reload};
use serde::Deserialize;

use crate::edit::Edit;
use crate::folder;

/// The fronts of the table.
pub(crate) const FRONTS: [Program; 6] = [
    Program::Nginx,
    Program::Caddy,
    Program::Haproxy,
    Program::Traefik,
    Program::Apache,
    Program::Envoy,
];

/// A problem as users tell it.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) row: u8,
    pub(crate) title: String,
    pub(crate) cases: Vec<Case>,
}

/// A way to create a problem with some fronts, and what the doctor says.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) fronts: Vec<Program>,
    /// Changes of the printed configuration.
    pub(crate) edit: Vec<Edit>,
    /// Settings of the gateway.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) behind: Behind,
    /// The status of the page while the problem exists, if it is that of a server error.
    pub(crate) status: Option<u16>,
    /// The front ends each connection before a response while the problem exists.
    pub(crate) closes: bool,
    /// Octets that are no text are sent first.
    pub(crate) has_odd_octets: bool,
    /// A line with the cookies of the doctor; empty for none.
    pub(crate) cookies: String,
    /// The doctor knows the URL of the gateway.
    pub(crate) has_direct: bool,
    /// How long a WebSocket is held, in seconds.
    pub(crate) hold: u8,
    /// How the front is reloaded while the WebSocket is held.
    pub(crate) reload: Option<Reload>,
    pub(crate) expected: Expected,
    /// Changes of the broken configuration after which nothing is found; none for those that make the printed one of it again.
    pub(crate) mend: Vec<Edit>,
}

/// What is behind the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Behind {
    /// The gateway, and Streamlit behind it.
    #[default]
    Gateway,
    /// Streamlit without the gateway.
    Streamlit,
    /// Another gateway and another Streamlit at `127.0.0.1:8001`.
    TwoGateways,
    /// Two Streamlits without a gateway, the older one at `127.0.0.1:8001`.
    TwoVersions,
}

/// What the doctor says.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    /// It cannot be created; the reason.
    None(String),
    /// It is created, and does no harm; the reason, and the checks that find nothing.
    Prevented { why: String, checks: Vec<String> },
    /// A check finds it. `…` stands for omitted text. Without a `cure`, the hint has the lines that mend the configuration, and
    /// otherwise this text: what it asks for is no line of the front, or depends on what else is there.
    Found {
        check: String,
        says: String,
        cure: Option<String>,
        /// Further checks that find nothing in the mended configuration.
        silent: Vec<String>,
        /// Further checks that find nothing, although the problem exists.
        unaffected: Vec<String>,
        /// All checks run, and no other one finds anything.
        is_alone: bool,
    },
}

impl Case {
    /// Returns true if everything but the front is as in the healthy stack.
    pub(crate) fn is_plain(&self) -> bool {
        let default = Self::default();
        self.behind == default.behind
            && self.settings.is_empty()
            && self.cookies.is_empty()
            && self.reload.is_none()
    }
}

impl Default for Case {
    fn default() -> Self {
        Self {
            fronts: Vec::new(),
            edit: Vec::new(),
            settings: BTreeMap::new(),
            behind: Behind::Gateway,
            status: None,
            closes: false,
            has_odd_octets: false,
            cookies: String::new(),
            has_direct: false,
            hold: 5,
            reload: None,
            expected: Expected::None(String::new()),
            mend: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProblemEntry {
    row: u8,
    problem: String,
    cases: Vec<CaseEntry>,
    /// For the cases that name none.
    check: Option<String>,
    says: Option<String>,
    cure: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseEntry {
    fronts: Vec<String>,
    #[serde(default)]
    edit: Vec<Edit>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    behind: Behind,
    status: Option<u16>,
    #[serde(default)]
    closes: bool,
    #[serde(default)]
    odd_octets: bool,
    #[serde(default)]
    cookies: String,
    #[serde(default)]
    direct: bool,
    hold: Option<u8>,
    reload: Option<ReloadEntry>,
    check: Option<String>,
    says: Option<String>,
    cure: Option<String>,
    #[serde(default)]
    mend: Vec<Edit>,
    /// Why it cannot be created.
    none: Option<String>,
    /// Why it does no harm.
    prevented: Option<String>,
    /// The checks that find nothing then, or in addition to `check` in the mended configuration.
    #[serde(default)]
    silent: Vec<String>,
    /// The checks that find nothing, although the problem exists.
    #[serde(default)]
    unaffected: Vec<String>,
    /// All checks run, and no other one finds anything.
    #[serde(default)]
    alone: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ReloadEntry {
    Graceful,
    Restart,
}

impl ReloadEntry {
    fn reload(self) -> Reload {
        match self {
            Self::Graceful => Reload::Graceful,
            Self::Restart => Reload::Restart,
        }
    }
}

/// Reads the table.
pub(crate) fn problems() -> Vec<Problem> {
    let file = folder().join("problems.yaml");
    let text = std::fs::read_to_string(file).expect("the table can be read");
    let entries: Vec<ProblemEntry> =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("problems.yaml: {error}"));
    entries.into_iter().map(ProblemEntry::problem).collect()
}

impl ProblemEntry {
    fn problem(mut self) -> Problem {
        let cases = std::mem::take(&mut self.cases);
        Problem {
            row: self.row,
            cases: cases.into_iter().map(|case| self.case(case)).collect(),
            title: self.problem,
        }
    }

    fn case(&self, entry: CaseEntry) -> Case {
        let needed = |own: Option<String>, shared: &Option<String>, name: &str| {
            own.or_else(|| shared.clone())
                .unwrap_or_else(|| panic!("row {}, {:?} needs `{name}`", self.row, entry.fronts))
        };
        let expected = match (entry.none, entry.prevented) {
            (Some(why), None) => Expected::None(why),
            (None, Some(why)) => {
                assert!(!entry.silent.is_empty(), "row {} needs `silent`", self.row);
                Expected::Prevented {
                    why,
                    checks: entry.silent,
                }
            }
            (None, None) => Expected::Found {
                check: needed(entry.check, &self.check, "check"),
                says: needed(entry.says, &self.says, "says"),
                cure: entry.cure.or_else(|| self.cure.clone()),
                silent: entry.silent,
                unaffected: entry.unaffected,
                is_alone: entry.alone,
            },
            (Some(_), Some(_)) => panic!("row {}: either `none` or `prevented`", self.row),
        };
        Case {
            fronts: entry.fronts.iter().map(|name| front(name)).collect(),
            edit: entry.edit,
            settings: entry.settings,
            behind: entry.behind,
            status: entry.status,
            closes: entry.closes,
            has_odd_octets: entry.odd_octets,
            cookies: entry.cookies,
            has_direct: entry.direct,
            hold: entry.hold.unwrap_or(Case::default().hold),
            reload: entry.reload.map(ReloadEntry::reload),
            expected,
            mend: entry.mend,
        }
    }
}

fn front(name: &str) -> Program {
    let found = FRONTS.into_iter().find(|program| program.front() == name);
    found.unwrap_or_else(|| panic!("{name:?} is no front"))
}
