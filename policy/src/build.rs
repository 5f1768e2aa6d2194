//! Builds a policy from settings, and reports every error in them at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::app::{Ambiguity, App, AppTable, parse_authorities};
use crate::client::Resolver;
use crate::config::{
    Config, CookiePath, Defaults, ForwardedSource, MountConfig, PathShape, SecretText, XffMode,
};
use crate::config_error::{ConfigError, ConfigErrors, ConfigWarning};
use crate::config_reader::{ConfigReader, parse_object};
use crate::header_group::HeaderGroup;
use crate::header_names::parse_names;
use crate::hosts::{HostPattern, HostTable};
use crate::hsts::Hsts;
use crate::mount::Mount;
use crate::policy::Policy;
use crate::probe::{ProbeKey, to_hex};
use crate::protected_headers::{ProtectedHeaders, group_of};
use crate::request_edits::RequestEditor;
use crate::response::ResponseEditor;
use crate::route::Router;
use crate::security_headers::{CspRules, SecurityHeaders};
use crate::trust::TrustConfig;

impl Policy {
    /// Builds a policy from a JSON object. Absent settings take the host's `defaults`.
    ///
    /// # Errors
    ///
    /// All errors of the configuration together.
    pub fn from_json(text: &[u8], defaults: Defaults) -> Result<Self, ConfigErrors> {
        let members = parse_object(text).map_err(|error| ConfigErrors(vec![error]))?;
        Self::from_settings(members, defaults)
    }

    /// Builds a policy from settings by their names. Absent settings take the host's `defaults`.
    ///
    /// # Errors
    ///
    /// All errors of the configuration together.
    pub fn from_settings(
        settings: Map<String, Value>,
        defaults: Defaults,
    ) -> Result<Self, ConfigErrors> {
        let mut errors = Vec::new();
        let config_hash = hash(&settings);
        let config = ConfigReader::read_object(String::new(), settings, &mut errors);
        let policy = build(config, config_hash, defaults, &mut errors);
        if errors.is_empty() {
            Ok(policy)
        } else {
            Err(ConfigErrors(errors))
        }
    }
}

/// Builds the policy. Continues after an error, to find all errors; the result must then not be used.
fn build(
    config: Config,
    config_hash: String,
    defaults: Defaults,
    errors: &mut Vec<ConfigError>,
) -> Policy {
    // Every member is named, so that a new one that is not used does not compile.
    let Config {
        allowed_hosts,
        client_ip_header,
        connection_facts_key,
        content_security_policy,
        cookie_path,
        emit_forwarded,
        forwarded_allow_ips,
        forwarded_source,
        hsts,
        identity_headers,
        mounts,
        outside_mount,
        peer_filter_state_key,
        prefix_from_header,
        probe_key,
        public_base_url,
        redirect_bare_mount,
        redirect_to_https,
        report_only,
        root_path,
        root_path_shape,
        security_headers,
        strip_headers,
        trust_any_peer,
        trust_proxy,
        trusted_hops,
        trusted_identities,
        trusted_pass_headers,
        upstream_authorities,
        upstream_host,
        upstream_path,
        xff_mode,
    } = config;
    let mut warnings = Vec::new();
    let trust = TrustConfig {
        forwarded_allow_ips,
        trust_any_peer,
        trust_proxy,
        trusted_hops,
        trusted_identities,
    }
    .build(errors, &mut warnings);
    for (setting, key) in [
        ("connection_facts_key", &connection_facts_key),
        ("peer_filter_state_key", &peer_filter_state_key),
    ] {
        if key.as_deref() == Some("") {
            errors.push(ConfigError::PeerKey { setting });
        }
    }
    if connection_facts_key.is_some() && peer_filter_state_key.is_some() {
        errors.push(ConfigError::PeerKeys);
    }
    let client_ip_header = client_ip_header.map(|name| parse_client_ip_header(name, errors));
    let probe_key = probe_key.and_then(|SecretText(text)| {
        let key = ProbeKey::new(&text);
        key.map_err(|error| errors.push(error)).ok()
    });
    let mut host_table = HostTable::default();
    for pattern in
        HostPattern::parse_list("allowed_hosts", allowed_hosts.unwrap_or_default(), errors)
    {
        host_table.insert(pattern, ());
    }
    let top = App {
        mount: Mount::default(),
        path_shape: root_path_shape.unwrap_or(defaults.root_path_shape),
        upstream_path: upstream_path.unwrap_or(defaults.upstream_path),
        redirect_bare_mount: redirect_bare_mount.unwrap_or(true),
        cookie_path: cookie_path.unwrap_or(CookiePath::Mount),
        upstream_authorities: parse_authorities(
            "upstream_authorities",
            upstream_authorities.unwrap_or_default(),
            errors,
        ),
        public_base: None,
    };
    let has_mounts = mounts.is_some() || is_mount(root_path.as_deref());
    let (apps, outside) = build_apps(mounts, root_path, public_base_url, top, errors);
    let report_only = report_only == Some(true);
    if report_only {
        warnings.push(ConfigWarning::ReportOnly);
    }
    let xff_mode = xff_mode.unwrap_or(XffMode::Client);
    let source = forwarded_source.unwrap_or(ForwardedSource::XForwarded);
    if prefix_from_header == Some(true) && source == ForwardedSource::Forwarded {
        warnings.push(ConfigWarning::PrefixNotRead);
    }
    Policy {
        resolver: Resolver {
            trust,
            source,
            client_ip_header: client_ip_header.clone(),
            xff_mode,
        },
        connection_facts_key,
        peer_filter_state_key,
        allowed_hosts: host_table,
        router: Router {
            apps,
            outside,
            has_mounts,
            outside_mount: outside_mount.unwrap_or(defaults.outside_mount),
            // A proxy that writes `Forwarded` passes on the prefix that a client has sent.
            prefix_from_header: prefix_from_header == Some(true)
                && source == ForwardedSource::XForwarded,
            redirect_to_https: redirect_to_https == Some(true),
        },
        request_editor: RequestEditor {
            protected: ProtectedHeaders {
                strip_headers: parse_names(
                    "strip_headers",
                    strip_headers.unwrap_or_default(),
                    |_| None,
                    errors,
                ),
                identity_headers: parse_names(
                    "identity_headers",
                    identity_headers.unwrap_or_default(),
                    reject_if_set_here,
                    errors,
                ),
                trusted_pass_headers: parse_names(
                    "trusted_pass_headers",
                    trusted_pass_headers.unwrap_or_default(),
                    reject_if_governed,
                    errors,
                ),
                client_ip_header,
                client_certificate_header: defaults.client_certificate_header,
            },
            upstream_host: upstream_host.unwrap_or(defaults.upstream_host),
            xff_mode,
            emit_forwarded: emit_forwarded == Some(true),
            original_path_header: defaults.original_path_header,
        },
        response_editor: ResponseEditor {
            hsts: Hsts::from_config(hsts, errors),
            security_headers: SecurityHeaders::from_config(security_headers, errors),
            csp_rules: CspRules::from_config(content_security_policy.unwrap_or_default(), errors),
        },
        report_only,
        probe_key,
        config_hash,
        warnings,
    }
}

impl Policy {
    /// Adds an identity header, such as one that the app itself reads. Like those of `identity_headers`, it is removed from
    /// every request, unless `trusted_pass_headers` lists it.
    ///
    /// `setting`: where the name comes from, for the error.
    ///
    /// # Errors
    ///
    /// The name is not a header name, or it cannot be removed because the message or the policy needs it.
    pub fn add_identity_header(&mut self, setting: &str, name: &str) -> Result<(), ConfigError> {
        let mut errors = Vec::new();
        let names = parse_names(
            setting,
            vec![name.to_owned()],
            reject_if_set_here,
            &mut errors,
        );
        self.request_editor.protected.identity_headers.extend(names);
        errors.pop().map_or(Ok(()), Err)
    }
}

/// Returns a hash of the settings as written, whatever the order of their names, without the probe key: a hash of the key
/// would help to guess it.
fn hash(settings: &Map<String, Value>) -> String {
    let mut sha256 = Sha256::new();
    let public = settings.iter().filter(|(name, _)| *name != "probe_key");
    hash_members(&mut sha256, public);
    let hash = sha256.finalize();
    to_hex(hash.get(..HASH_LENGTH).unwrap_or_default())
}

/// Hashes the canonical text of an object, in which the names are sorted. `null` counts as absent.
fn hash_members<'v>(sha256: &mut Sha256, members: impl Iterator<Item = (&'v String, &'v Value)>) {
    let sorted: BTreeMap<_, _> = members.filter(|(_, value)| !value.is_null()).collect();
    sha256.update("{");
    for (name, value) in sorted {
        sha256.update(Value::from(name.as_str()).to_string());
        sha256.update(":");
        hash_value(sha256, value);
        sha256.update(",");
    }
    sha256.update("}");
}

fn hash_value(sha256: &mut Sha256, value: &Value) {
    match value {
        Value::Array(items) => {
            sha256.update("[");
            for item in items {
                hash_value(sha256, item);
                sha256.update(",");
            }
            sha256.update("]");
        }
        Value::Object(members) => hash_members(sha256, members.iter()),
        value => sha256.update(value.to_string()),
    }
}

/// The octets of the hash that are shown.
const HASH_LENGTH: usize = 16;

fn parse_client_ip_header(name: String, errors: &mut Vec<ConfigError>) -> String {
    let reject = |name: &str| {
        matches!(name, "forwarded" | "x-forwarded-for")
            .then_some("is already read as the list of hops")
    };
    parse_names("client_ip_header", vec![name], reject, errors)
        .pop()
        .unwrap_or_default()
}

/// Rejects headers that are removed for another reason: no peer may pass them.
fn reject_if_governed(name: &str) -> Option<&'static str> {
    match group_of(name.as_bytes()) {
        None | Some(HeaderGroup::Identity | HeaderGroup::ClientCertificate) => None,
        Some(_) => Some("is removed from every request, so no peer can pass it"),
    }
}

/// Rejects headers that every request gets: their values do not name a user, and clients choose some of them.
fn reject_if_set_here(name: &str) -> Option<&'static str> {
    RequestEditor::sets(name).then_some("is set in every request and cannot name the user")
}

/// Builds the table of apps, and the app whose settings apply outside every mount.
fn build_apps(
    mounts: Option<Vec<MountConfig>>,
    root_path: Option<String>,
    public_base_url: Option<String>,
    top: App,
    errors: &mut Vec<ConfigError>,
) -> (AppTable, Arc<App>) {
    let mut apps = AppTable::default();
    let Some(mounts) = mounts else {
        let only = MountConfig {
            root_path,
            public_base_url,
            ..MountConfig::default()
        };
        let only = Arc::new(App::from_config("", only, &top, errors));
        // The only app cannot be ambiguous.
        let _ = apps.add(&only, &[HostPattern::Any]);
        return (apps, only);
    };
    for (setting, is_set) in [
        ("root_path", root_path.is_some()),
        ("public_base_url", public_base_url.is_some()),
    ] {
        if is_set {
            errors.push(ConfigError::MountsAndOne { setting });
        }
    }
    let mut added: Vec<Arc<App>> = Vec::with_capacity(mounts.len());
    for (index, mut written) in mounts.into_iter().enumerate() {
        let path = format!("mounts[{index}].");
        let hosts = HostPattern::parse_list(
            &format!("{path}hosts"),
            written.hosts.take().unwrap_or_default(),
            errors,
        );
        if written.root_path.is_none() {
            errors.push(ConfigError::Missing {
                setting: format!("{path}root_path"),
            });
        }
        let app = Arc::new(App::from_config(&path, written, &top, errors));
        if let Err(ambiguity) = apps.add(&app, &hosts) {
            errors.push(double_mount(&ambiguity, &added, &app, index));
        }
        added.push(app);
    }
    (apps, Arc::new(top))
}

/// Returns the error for an app that is ambiguous with one of those before it.
fn double_mount(
    ambiguity: &Ambiguity,
    before: &[Arc<App>],
    app: &App,
    index: usize,
) -> ConfigError {
    let (is_twin, problem): (fn(&App, &App) -> bool, _) = match ambiguity {
        Ambiguity::SameMount => (
            |one, other| one.mount == other.mount,
            format!("both publish \"{}/\" on the same host", app.mount.as_str()),
        ),
        Ambiguity::SameHost => (
            |one, _| one.path_shape != PathShape::Full,
            "both accept paths without their mount on the same host, so that requests cannot be assigned to one of them; \
             set root_path_shape to full, or give them different hosts"
                .to_owned(),
        ),
    };
    let twin = before.iter().position(|other| is_twin(other, app));
    ConfigError::DoubleMount {
        one: format!("mounts[{}]", twin.unwrap_or_default()),
        other: format!("mounts[{index}]"),
        problem,
    }
}

fn is_mount(root_path: Option<&str>) -> bool {
    root_path.is_some_and(|path| !path.trim().trim_matches('/').is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Action;
    use crate::edit::Edit;
    use crate::message::Request;
    use crate::peer::Peer;

    #[test]
    fn a_header_that_is_set_cannot_name_the_user() {
        let settings = br#"{"root_path": "/m", "emit_forwarded": true}"#;
        let mut policy = Policy::from_json(settings, Defaults::FILTER).unwrap();
        let decision = policy.request(&Request {
            peer: Peer::Ip("192.0.2.1".parse().unwrap()),
            identity: None,
            is_reentry: false,
            tls: false,
            method: b"GET",
            target: b"/m/x",
            host: Some(b"app.example"),
            headers: &[],
        });
        let Action::Forward(forward) = decision.action else {
            panic!("the request is forwarded");
        };
        let mut count = 0;
        for edit in forward.edits.iter() {
            if let Edit::Append(name, _) = edit {
                count += 1;
                let added = policy.add_identity_header("server.trustedUserHeaders", name);
                let error = added.unwrap_err().to_string();
                assert!(error.contains(&format!("server.trustedUserHeaders \"{name}\"")));
            }
        }
        assert_eq!(count, 8, "{:?}", forward.edits);
    }

    #[test]
    fn a_prefix_of_the_family_that_is_not_read_is_a_warning() {
        for (source, is_warned) in [("forwarded", true), ("x-forwarded", false)] {
            for setting in [true, false] {
                let settings = format!(
                    r#"{{"forwarded_source": "{source}", "prefix_from_header": {setting}}}"#
                );
                let policy = Policy::from_json(settings.as_bytes(), Defaults::FILTER).unwrap();
                let is_found = policy.warnings().contains(&ConfigWarning::PrefixNotRead);
                assert_eq!(is_found, is_warned && setting, "{settings}");
            }
        }
    }

    #[test]
    fn an_ignored_prefix_is_recorded() {
        const SETTINGS: &str = r#"{"trust_proxy": true, "forwarded_allow_ips": "10.0.0.1", "prefix_from_header": true}"#;
        let off = SETTINGS.replace(r#", "prefix_from_header": true"#, "");
        let long = format!("/{}", "a".repeat(256));
        for (settings, peer, lines, want) in [
            (SETTINGS, "10.0.0.1", &[][..], false),
            (SETTINGS, "10.0.0.1", &["/p"], false),
            (SETTINGS, "10.0.0.1", &["/apps/my-app/"], false),
            (SETTINGS, "10.0.0.1", &["/"], false),
            (SETTINGS, "10.0.0.1", &[""], false),
            (SETTINGS, "10.0.0.1", &["p"], true),
            (SETTINGS, "10.0.0.1", &["/p", "/p"], true),
            (SETTINGS, "10.0.0.1", &["/p, /q"], true),
            (SETTINGS, "10.0.0.1", &["/a/../b"], true),
            (SETTINGS, "10.0.0.1", &["//p"], true),
            (SETTINGS, "10.0.0.1", &[&long], true),
            (SETTINGS, "10.0.0.2", &["p"], false),
            (&off, "10.0.0.1", &["p"], false),
        ] {
            let policy = Policy::from_json(settings.as_bytes(), Defaults::FILTER).unwrap();
            let headers: Vec<(&[u8], &[u8])> = lines
                .iter()
                .map(|line| (&b"x-forwarded-prefix"[..], line.as_bytes()))
                .collect();
            let decision = policy.request(&Request {
                peer: Peer::Ip(peer.parse().unwrap()),
                identity: None,
                is_reentry: false,
                tls: false,
                method: b"GET",
                target: b"/x",
                host: Some(b"app.example"),
                headers: &headers,
            });
            assert_eq!(decision.record.prefix_ignored, want, "{peer}: {lines:?}");
        }
    }

    #[test]
    fn added_identity_headers() {
        let mut policy = Policy::from_json(b"{}", Defaults::GATEWAY).unwrap();
        for (name, is_accepted) in [
            ("X-Login", true),
            ("x_other_login", true),
            ("X-Forwarded-Login", true),
            ("X-Forwarded-User", true),
            ("True-Client-IP", true),
            ("", false),
            ("a b", false),
            ("b\u{fc}cher", false),
            ("Host", false),
            ("X_Real_IP", false),
        ] {
            let added = policy.add_identity_header("server.trustedUserHeaders", name);
            assert_eq!(added.is_ok(), is_accepted, "{name}: {added:?}");
        }
    }
}
