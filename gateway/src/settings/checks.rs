//! Checks settings that are valid alone against each other, and against what would be unsafe.

use fluxlit_policy::{Action, Edit, Peer, Policy, Request};
use serde_json::Value;

use crate::public_url::without_credentials;
use crate::settings::error::SettingError;
use crate::settings::process::{Process, TlsFiles};
use crate::settings::rules::GENERIC_BASE_URL;
use crate::settings::sources::Sources;
use crate::settings::warning::SettingWarning;

impl Process {
    /// Reports arguments for Streamlit that cannot be used.
    pub(super) fn check_arguments(&self, mut keep: impl FnMut(SettingError)) {
        for argument in &self.streamlit_arguments {
            if let Some((option, reason)) = refused_argument(argument) {
                keep(SettingError::Refused {
                    place: STREAMLIT_ARGUMENTS.to_owned(),
                    reason: format!("`{option}`: {reason}"),
                });
            }
        }
    }

    /// Reports two public base URLs that differ, if that is to be an error.
    pub(super) fn check_base_urls(&self, sources: &Sources, mut keep: impl FnMut(SettingError)) {
        if let (true, Some(reason)) = (self.strict_public_base_url, two_base_urls(sources)) {
            keep(SettingError::Refused {
                place: GENERIC_BASE_URL.to_owned(),
                reason,
            });
        }
    }

    /// Reports headers of FluxLit's list that any client could use to be somebody else. Returns warnings about those that
    /// FluxLit does not forward either.
    pub(super) fn check_headers(
        &self,
        policy: &Policy,
        passed_by_peers: Option<&Value>,
        mut keep: impl FnMut(SettingError),
    ) -> Vec<SettingWarning> {
        let mut warnings = Vec::new();
        for (name, is_removed_by_fluxlit) in self.removed_headers(policy, passed_by_peers) {
            if is_removed_by_fluxlit {
                warnings.push(SettingWarning::new(
                    "gateway_forward_blocked_names",
                    format!(
                        "{FORWARDED_HEADERS} lists {name}, which the gateway sets itself; FluxLit ignores that name as well"
                    ),
                ));
            } else {
                keep(SettingError::Refused {
                    place: FORWARDED_HEADERS.to_owned(),
                    reason: format!(
                        "with {name}, any client could choose its user, address or path: list it in \
                         FLUXLIT_TRUSTED_PASS_HEADERS if your proxy sets it, which then may send it alone"
                    ),
                });
            }
        }
        warnings
    }

    /// Returns a warning if Streamlit is told to switch off a protection, as FluxLit does.
    pub(super) fn warnings(&self) -> Option<SettingWarning> {
        let arguments = self.streamlit_arguments.join(" ").replace('=', " ");
        let is_off = |option: &str| arguments.contains(&format!("{option} false"));
        let option = PROTECTIONS.into_iter().find(|option| is_off(option))?;
        Some(SettingWarning::new(
            "streamlit_protection_off",
            format!(
                "{STREAMLIT_ARGUMENTS} has `{option} false`, which lets pages of other sites upload files in the name of a \
                 user: remove it, because Streamlit's protections work behind the gateway"
            ),
        ))
    }

    /// Returns the headers of FluxLit's list that are removed from the requests of clients, and whether FluxLit does not
    /// forward them either.
    fn removed_headers<'s>(
        &'s self,
        policy: &Policy,
        passed_by_peers: Option<&Value>,
    ) -> impl Iterator<Item = (&'s str, bool)> {
        let passed = passed_by_peers.and_then(Value::as_array);
        let passed: Vec<String> = passed
            .into_iter()
            .flatten()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect();
        self.forwarded_headers.iter().filter_map(move |name| {
            let is_passed = passed
                .iter()
                .any(|passed| passed.eq_ignore_ascii_case(name));
            (!is_passed && is_removed(policy, name)).then(|| {
                let name = name.as_str();
                let is_blocked = name.to_ascii_lowercase().starts_with("x-forwarded-")
                    && BLOCKED_BY_FLUXLIT.contains(&name.to_ascii_lowercase().as_str());
                (name, is_blocked)
            })
        })
    }
}

/// Returns true if the policy removes a header from the requests of clients.
fn is_removed(policy: &Policy, name: &str) -> bool {
    let decision = policy.request(&Request {
        peer: Peer::Unknown,
        identity: None,
        is_reentry: false,
        tls: false,
        method: b"POST",
        target: b"/",
        host: None,
        headers: &[(name.as_bytes(), b"x")],
    });
    let edits = match decision.action {
        Action::Forward(forward) => forward.edits,
        Action::Reply(_) => return false,
    };
    edits.iter().any(|edit| match edit {
        Edit::Remove(other) | Edit::Set(other, _) => other.eq_ignore_ascii_case(name),
        _ => false,
    })
}

/// Returns the places in `mounts` that ask for a path that Streamlit cannot serve.
pub(super) fn full_paths(mounts: &Value) -> impl Iterator<Item = String> {
    let entries = mounts.as_array().into_iter().flatten().enumerate();
    entries
        .filter(|(_, entry)| entry.get("upstream_path").and_then(Value::as_str) == Some("full"))
        .map(|(index, _)| format!("mounts[{index}].upstream_path"))
}

/// Returns the reason why the two public base URLs cannot both be right.
fn two_base_urls(sources: &Sources) -> Option<String> {
    let ours = sources.find("FLUXLIT_PUBLIC_BASE_URL")?;
    let generic = sources.in_environment(GENERIC_BASE_URL)?;
    let [ours, generic] = [ours, generic].map(|found| found.text.trim().to_owned());
    let differ = !ours.is_empty() && !generic.is_empty() && ours != generic;
    differ.then(|| {
        let [ours, generic] = [ours, generic].map(|url| without_credentials(&url));
        format!(
            "`{generic}` differs from FLUXLIT_PUBLIC_BASE_URL, `{ours}`, and FLUXLIT_STRICT_PUBLIC_BASE_URL is on: set both to \
             the same URL, or unset one"
        )
    })
}

/// Combines the settings of TLS. `has_identities`: true if peers are trusted by their certificates.
pub(super) fn tls_files(
    process: &Process,
    has_identities: bool,
) -> Result<Option<TlsFiles>, SettingError> {
    let (certificate_name, key_name) = ("FLUXLIT_TLS_CERTIFICATE", "FLUXLIT_TLS_KEY");
    let client_ca = process.client_ca.as_ref();
    let (set, missing) = match (&process.certificate, &process.key) {
        (Some(_), Some(_)) if has_identities && client_ca.is_none() => {
            return Err(SettingError::IdentitiesWithoutTls);
        }
        (Some(certificate), Some(key)) => {
            return Ok(Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
                client_ca: client_ca.map(Into::into),
            }));
        }
        (None, None) if has_identities => return Err(SettingError::IdentitiesWithoutTls),
        (None, None) if client_ca.is_some() => ("FLUXLIT_TLS_CLIENT_CA", certificate_name),
        (None, None) => return Ok(None),
        (Some(_), None) => (certificate_name, key_name),
        (None, Some(_)) => (key_name, certificate_name),
    };
    Err(SettingError::HalfOfTls { set, missing })
}

/// Returns the option in an argument for Streamlit and why it cannot be used, if the gateway sets it.
pub(crate) fn refused_argument(argument: &str) -> Option<(&'static str, &'static str)> {
    let option = argument.split('=').next().unwrap_or_default();
    REFUSED_ARGUMENTS
        .into_iter()
        .find(|(name, _)| *name == option)
}

const FORWARDED_HEADERS: &str = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT";
const STREAMLIT_ARGUMENTS: &str = "FLUXLIT_STREAMLIT_RUN_CLI_ARGS";

/// Options of Streamlit that the gateway sets. FluxLit rejects the first three as well.
const REFUSED_ARGUMENTS: [(&str, &str); 4] = [
    ("--server.port", SET_BY_GATEWAY),
    ("--server.address", SET_BY_GATEWAY),
    (
        "--server.baseUrlPath",
        "it is the mount: set FLUXLIT_ROOT_PATH",
    ),
    (
        "--server.trustedUserHeaders",
        "the gateway must know these headers to protect them: set them in .streamlit/config.toml",
    ),
];
const SET_BY_GATEWAY: &str =
    "the gateway selects where Streamlit listens, so that nothing else can reach it";

/// Options that protect against pages of other sites.
const PROTECTIONS: [&str; 2] = ["--server.enableXsrfProtection", "--server.enableCORS"];

/// Headers that FluxLit sets itself, and does not take from this list.
const BLOCKED_BY_FLUXLIT: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
];
