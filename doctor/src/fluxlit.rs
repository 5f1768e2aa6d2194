//! Keeps the checks of FluxLit's own doctor that concern gateway and proxying, under their names.
//!
//! Scripts read these names. The status of each is the one that FluxLit 0.13.2 gives to the same settings, except that
//! `forwarded_allow_ips` fails for what the gateway refuses. A check that FluxLit leaves out is skipped, with the reason.

use std::path::{Path, PathBuf};

use url::Url;

use crate::outcome::Outcome;

/// What the checks need to know.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The script, or the target `module:attribute`, as given on the command line.
    pub target: Option<String>,
    /// Where Python looks for modules, the first place first.
    pub import_paths: Vec<PathBuf>,
    /// The modules in the app's folder that Python finds instead of its own or an installed one.
    pub shadows: Vec<Shadow>,
    /// `trust_proxy`.
    pub trusts_proxy: bool,
    /// `forwarded_allow_ips`, as one text; empty if it is not set.
    pub forwarded_allow_ips: String,
    /// `trusted_hops`, or identities: another way to name the proxies.
    pub names_proxies_otherwise: bool,
    /// The path under which the app is published; empty for none.
    pub mount: String,
    /// `public_base_url`, as written; empty if it is not set.
    pub public_base_url: String,
    /// The names in `FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT`.
    pub forwarded_headers: Vec<String>,
}

/// A module that hides another one of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// The name under which both are imported, such as `fastapi`.
    pub name: String,
    /// The file that is imported.
    pub file: PathBuf,
    /// The file that is not.
    pub hidden: PathBuf,
}

/// The names of the checks, in the order in which they are reported.
pub const NAMES: [&str; 5] = [
    "import_shadowing",
    "proxy_headers",
    "forwarded_allow_ips",
    "public_base_url",
    "gateway_forward_rejected_names",
];

/// Runs the check with this name.
pub(crate) fn check(name: &str, facts: &Facts) -> Outcome {
    let mut outcome = Outcome::default();
    match name {
        "import_shadowing" => import_shadowing(facts, &mut outcome),
        "proxy_headers" => proxy_headers(facts, &mut outcome),
        "forwarded_allow_ips" => forwarded_allow_ips(facts, &mut outcome),
        "public_base_url" => public_base_url(facts, &mut outcome),
        "gateway_forward_rejected_names" => rejected_names(facts, &mut outcome),
        _ => {}
    }
    outcome
}

/// Python imports another file than the app or a package expects, because the first one on the path wins.
fn import_shadowing(facts: &Facts, outcome: &mut Outcome) {
    let Some(target) = &facts.target else {
        return outcome.skip("no app is named");
    };
    let module = target.split_once(':').map_or("", |(module, _)| module);
    for Shadow { name, file, hidden } in &facts.shadows {
        if name != module {
            outcome.warn(
                format!(
                    "`import {name}` finds {} instead of {}, in every package that the app uses as well",
                    file.display(),
                    hidden.display()
                ),
                format!("rename {}", file.display()),
            );
        }
    }
    // The rules for these are more specific.
    if module.is_empty() || module.contains(['.', '/', '\\']) {
        return outcome.right(format!("no file next to `{target}` hides another module"));
    }
    let candidates = candidates(module, &facts.import_paths);
    match candidates.as_slice() {
        [] => outcome.right(format!("no top-level file or package is called `{module}`")),
        [one] => outcome.right(format!("`{module}` is {}", one.display())),
        several => {
            let shown: Vec<String> = several
                .iter()
                .take(4)
                .map(|path| path.display().to_string())
                .collect();
            let more = several.len().saturating_sub(shown.len());
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            outcome.warn(
                format!(
                    "`{module}` can be imported from several places: {}{more}; the first one wins",
                    shown.join(", ")
                ),
                "start in the folder of the project, and remove the other folders from PYTHONPATH",
            );
        }
    }
}

fn candidates(module: &str, paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in paths {
        let folder = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        for candidate in [
            folder.join(format!("{module}.py")),
            folder.join(module).join("__init__.py"),
        ] {
            let Ok(candidate) = candidate.canonicalize() else {
                continue;
            };
            if candidate.is_file() && !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    }
    found
}

/// An app below a path is usually behind a proxy, whose headers are then ignored.
fn proxy_headers(facts: &Facts, outcome: &mut Outcome) {
    match (facts.mount.is_empty(), facts.trusts_proxy) {
        (true, _) => outcome.skip("the app has no mount"),
        (false, true) => outcome.right("trust_proxy is on for an app with a mount"),
        (false, false) => outcome.warn(
            format!(
                "the app has the mount `{}`, but trust_proxy is off, so the client's address and scheme that a proxy in front \
                 reports are ignored",
                facts.mount
            ),
            "set FLUXLIT_TRUST_PROXY=1 and FLUXLIT_FORWARDED_ALLOW_IPS to the address of the proxy",
        ),
    }
}

/// Everybody counts as the proxy.
fn forwarded_allow_ips(facts: &Facts, outcome: &mut Outcome) {
    let list = facts.forwarded_allow_ips.trim();
    if !facts.trusts_proxy {
        return outcome.skip("trust_proxy is off");
    }
    let is_broad = list.split(',').any(|item| BROAD.contains(&item.trim()));
    if list.is_empty() && facts.names_proxies_otherwise {
        outcome.right("the proxies are named by trusted_hops");
    } else if list.is_empty() {
        outcome.fail(
            "trust_proxy is on, but forwarded_allow_ips is not set; FluxLit then trusts everybody, the gateway refuses to start",
            "set FLUXLIT_FORWARDED_ALLOW_IPS to the address or network of your proxy",
        );
    } else if is_broad {
        outcome.warn(
            format!("trust_proxy is on and forwarded_allow_ips is broad ({list}): any client can choose its address and scheme"),
            "set FLUXLIT_FORWARDED_ALLOW_IPS to the address or network of your proxy",
        );
    } else {
        outcome.right(list.to_owned());
    }
}

/// The URL that browsers use does not fit the mount.
fn public_base_url(facts: &Facts, outcome: &mut Outcome) {
    let written = facts.public_base_url.trim();
    if written.is_empty() {
        return outcome.skip("public_base_url is not set");
    }
    let url = Url::parse(written).ok().filter(Url::has_host);
    let Some(url) = url else {
        return outcome.fail(
            format!("public_base_url `{written}` is not an absolute URL"),
            "write it like https://portal.example.com/apps/my-app",
        );
    };
    let path = url.path().trim_end_matches('/');
    let mount = facts.mount.trim_end_matches('/');
    if !path.is_empty() && !mount.is_empty() && path != mount {
        outcome.warn(
            format!("the path `{path}` of public_base_url is not the mount `{mount}`"),
            "make FLUXLIT_PUBLIC_BASE_URL end with the mount, unless the proxy in front changes the path",
        );
    } else {
        outcome.right(written.to_owned());
    }
}

/// Headers were listed to be copied to Streamlit which never are.
fn rejected_names(facts: &Facts, outcome: &mut Outcome) {
    let listed = facts
        .forwarded_headers
        .iter()
        .map(|name| name.trim().to_ascii_lowercase());
    let mut rejected: Vec<String> = listed
        .filter(|name| NEVER_FORWARDED.contains(&name.as_str()))
        .collect();
    rejected.sort_unstable();
    rejected.dedup();
    if facts.forwarded_headers.is_empty() {
        outcome.skip("FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT is not set");
    } else if rejected.is_empty() {
        outcome.right("none of the listed names is rejected");
    } else {
        outcome.warn(
            format!(
                "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT contains names that FluxLit rejects: {}",
                rejected.join(", ")
            ),
            "remove them: the gateway forwards every header that the policy does not protect, Cookie and Authorization included",
        );
    }
}

/// Entries that cover every address.
const BROAD: [&str; 4] = ["*", "0.0.0.0/0", "::/0", "::ffff:0:0/96"];

/// Names that FluxLit 0.13.2 never copies to Streamlit.
const NEVER_FORWARDED: [&str; 17] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
];
