//! Declares the settings that an operator can write, each with its type.
//!
//! [`Config`] contains the settings as written. Whether they are valid together, and what they mean, is decided where a
//! policy is built from them. The JSON Schema `policy/schema.json` is generated from these declarations and their
//! comments.

use std::fmt;

use serde_json::Value;

use crate::config_error::ConfigError;
use crate::config_reader::{ConfigReader, FromSetting, config_object, keyword_enum};

config_object! {
    /// The settings as written; absent settings take the default of the host, see [`Defaults`].
    #[cfg_attr(
        test,
        schemars(
            title = "FluxLit Edge",
            description = "The plugin configuration of the filter. `{}` is valid: no peer is trusted, there is no mount, every forged header is removed."
        )
    )]
    pub(crate) struct Config {
        /// Exact host names or `*.suffix` that requests may be for. Requests for other hosts get 421. Empty: any host.
        allowed_hosts: Vec<String>,
        /// A header in which a trusted peer names the client, such as `CF-Connecting-IP`. It has one value, which replaces
        /// the nearest element of the forwarded list.
        client_ip_header: String,
        /// Envoy only: the filter-state key under which the listener records version of TLS, peer and URI name of the
        /// certificate. Excludes `peer_filter_state_key`.
        connection_facts_key: String,
        /// Rules for Content-Security-Policy. The first rule that covers the path applies; it never overrides the app's own.
        content_security_policy: Vec<CspRuleConfig>,
        /// Whether cookies with `Path=/` are confined to the mount even if the path sent to the app includes it.
        cookie_path: CookiePath,
        /// Also send the app a `Forwarded` header (RFC 7239).
        emit_forwarded: bool,
        /// The peers whose forwarded headers are trusted: addresses, networks, `unix:`, or `*` alone.
        forwarded_allow_ips: AllowIps,
        /// The one family of forwarded headers that is read.
        forwarded_source: ForwardedSource,
        /// Strict-Transport-Security; off by default.
        hsts: HstsSetting,
        /// Further headers that name the user. They are removed from every request, unless `trusted_pass_headers` lists them.
        identity_headers: Vec<String>,
        /// Several apps on one listener, found by host and longest path. Excludes `root_path`.
        mounts: Vec<MountConfig>,
        /// What happens to requests outside every mount.
        outside_mount: OutsideMount,
        /// Envoy only: the filter-state key under which the listener records the direct peer.
        peer_filter_state_key: String,
        /// Put a trusted peer's X-Forwarded-Prefix in front of the mount.
        prefix_from_header: bool,
        /// The secret with which `doctor --probe` asks for a decision record, at least 16 bytes; off by default.
        probe_key: SecretText,
        /// The URL under which browsers know the app, such as `https://portal.example.com/apps/my-app`. It fixes scheme, host
        /// and path of every URL that is written.
        public_base_url: String,
        /// Redirect GET and HEAD for the mount without its trailing slash; on by default.
        redirect_bare_mount: bool,
        /// Redirect GET and HEAD from http to https, except health checks; off by default.
        redirect_to_https: bool,
        /// Decide, count and log, but change nothing: for a first roll-out.
        report_only: bool,
        /// The mount: the path under which the app is published, such as `/apps/my-app`.
        root_path: String,
        /// Whether the path of a request includes the mount.
        root_path_shape: PathShape,
        /// X-Content-Type-Options, X-Frame-Options and Referrer-Policy; off by default.
        security_headers: SecurityHeadersSetting,
        /// Further request headers to remove.
        strip_headers: Vec<String>,
        /// Confirms a trust list that lets any peer name the client.
        trust_any_peer: bool,
        /// Trust peers at all; off by default.
        trust_proxy: bool,
        /// The number of proxies in front, if their addresses cannot be known.
        #[cfg_attr(test, schemars(range(min = 1, max = 32)))]
        trusted_hops: i64,
        /// URI names (SPIFFE ids) of verified client certificates whose holders are trusted.
        trusted_identities: Vec<String>,
        /// Headers that name the user and that a trusted peer may pass. They are removed from the requests of other peers.
        trusted_pass_headers: Vec<String>,
        /// Names by which the app refers to itself in redirects, such as `127.0.0.1:8501`.
        upstream_authorities: Vec<String>,
        /// The Host sent to the app.
        upstream_host: UpstreamHost,
        /// Whether the path sent to the app includes the mount.
        upstream_path: UpstreamPath,
        /// What X-Forwarded-For contains.
        xff_mode: XffMode,
    }
}

config_object! {
    /// One of several apps. Absent settings have the values of the top level.
    #[cfg_attr(test, schemars(rename = "Mount"))]
    pub(crate) struct MountConfig {
        /// Whether cookies with `Path=/` are confined to the mount even if the path sent to the app includes it.
        cookie_path: CookiePath,
        /// Exact host names or `*.suffix` to which the mount applies. Empty: any host.
        hosts: Vec<String>,
        /// The URL under which browsers know the app.
        public_base_url: String,
        /// Redirect GET and HEAD for the mount without its trailing slash.
        redirect_bare_mount: bool,
        /// The mount, such as `/apps/my-app`; `/` for the rest of the host.
        #[cfg_attr(test, schemars(required))]
        root_path: String,
        /// Whether the path of a request includes the mount.
        root_path_shape: PathShape,
        /// Names by which the app refers to itself in redirects.
        upstream_authorities: Vec<String>,
        /// Whether the path sent to the app includes the mount.
        upstream_path: UpstreamPath,
    }
}

config_object! {
    /// A rule for Content-Security-Policy.
    #[cfg_attr(test, schemars(rename = "ContentSecurityPolicyRule"))]
    pub(crate) struct CspRuleConfig {
        /// Covers this path and the paths below it, as the app sees them; `/` covers all.
        #[cfg_attr(test, schemars(required))]
        path_prefix: String,
        /// Have browsers only report what they would block.
        report_only: bool,
        /// The policy.
        #[cfg_attr(test, schemars(required))]
        value: String,
    }
}

config_object! {
    /// The values of `hsts`.
    #[cfg_attr(test, schemars(rename = "HstsValues"))]
    pub(crate) struct HstsConfig {
        /// Cover subdomains too.
        include_sub_domains: bool,
        /// Seconds; default 31536000.
        max_age: HstsMaxAge,
        /// Whose header is sent; default `if_absent`.
        mode: HstsMode,
        /// Allow browsers to put the host on their preload lists.
        preload: bool,
    }
}

config_object! {
    /// The values of `security_headers`.
    #[cfg_attr(test, schemars(rename = "SecurityHeaderValues"))]
    pub(crate) struct SecurityHeadersConfig {
        /// Referrer-Policy; default `strict-origin-when-cross-origin`.
        referrer_policy: HeaderValue,
        /// X-Content-Type-Options; default `nosniff`.
        x_content_type_options: HeaderValue,
        /// X-Frame-Options; default `SAMEORIGIN`.
        x_frame_options: HeaderValue,
    }
}

keyword_enum! {
    /// Whether cookies with `Path=/` are confined to the mount even if the path sent to the app includes it.
    pub(crate) enum CookiePath {
        /// Not confined. The default.
        Mount = "mount",
        /// Confined. Recommended if several apps share a host.
        Confine = "confine",
    }
}

keyword_enum! {
    /// The one family of forwarded headers that is read.
    pub(crate) enum ForwardedSource {
        /// `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`. The default.
        XForwarded = "x-forwarded",
        /// `Forwarded`, RFC 7239.
        Forwarded = "forwarded",
    }
}

keyword_enum! {
    /// Whose Strict-Transport-Security is sent.
    pub(crate) enum HstsMode {
        /// No line is sent.
        Off = "off",
        /// The app's first line is kept, none is added.
        Upstream = "upstream",
        /// The app's first valid line is kept, else the policy's line is sent.
        IfAbsent = "if_absent",
        /// The policy's line replaces the app's.
        Gateway = "gateway",
    }
}

keyword_enum! {
    /// A named value of Strict-Transport-Security.
    pub(crate) enum HstsPreset {
        /// The value that FluxLit sends: `max-age=63072000; includeSubDomains`.
        Fluxlit = "fluxlit",
    }
}

keyword_enum! {
    /// What happens to requests outside every mount.
    pub(crate) enum OutsideMount {
        /// They are forwarded without a mount; the header rules apply. The filter's default.
        Pass = "pass",
        /// They get 404. The gateway's default.
        Reject = "reject",
    }
}

keyword_enum! {
    /// Whether the path of a request includes the mount.
    pub(crate) enum PathShape {
        /// Requests with the mount and without it are accepted. The gateway's default.
        Auto = "auto",
        /// It includes the mount. The filter's default.
        Full = "full",
        /// It does not include the mount, because the proxy in front removes it.
        Stripped = "stripped",
    }
}

keyword_enum! {
    /// The Host sent to the app.
    pub(crate) enum UpstreamHost {
        /// The host that the client used. The gateway's default, because Streamlit compares it with Origin.
        Effective = "effective",
        /// The Host of the request. The filter's default, because Envoy selected the virtual host by it.
        AsReceived = "as_received",
    }
}

keyword_enum! {
    /// Whether the path sent to the app includes the mount.
    pub(crate) enum UpstreamPath {
        /// Without the mount.
        Stripped = "stripped",
        /// With the mount, for an app that is configured with it.
        Full = "full",
    }
}

keyword_enum! {
    /// What X-Forwarded-For contains.
    pub(crate) enum XffMode {
        /// Only the client. The default.
        Client = "client",
        /// The client, the trusted hops after it, and the peer.
        Chain = "chain",
    }
}

/// A trust list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(crate) enum AllowIps {
    /// Items separated by commas; blank text is the empty list.
    Text(String),
    /// One item per entry.
    Items(Vec<String>),
}

/// A text that no error, log or dump shows.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(crate) struct SecretText(#[cfg_attr(test, schemars(length(min = 16)))] pub(crate) String);

/// The value of `hsts`.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(untagged, rename = "Hsts")
)]
pub(crate) enum HstsSetting {
    /// `true`: `max-age=31536000`.
    Switch(bool),
    /// A named value.
    Preset(HstsPreset),
    /// Separate values.
    Values(HstsConfig),
}

/// The `max-age` of Strict-Transport-Security in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub(crate) struct HstsMaxAge(#[cfg_attr(test, schemars(range(max = 315_360_000)))] pub(crate) u64);

/// The value of `security_headers`.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(untagged, rename = "SecurityHeaders")
)]
pub(crate) enum SecurityHeadersSetting {
    /// `true`: all with their defaults; `false`: none.
    Switch(bool),
    /// Each header separately.
    Values(SecurityHeadersConfig),
}

/// The value of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(crate) enum HeaderValue {
    /// `true`: the default value; `false`: not set.
    Switch(bool),
    /// This value.
    Text(String),
}

impl FromSetting for AllowIps {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text)),
            Value::Array(values) => Some(Self::Items(
                values
                    .into_iter()
                    .filter_map(|value| match value {
                        Value::String(item) => Some(item),
                        value => reader.type_error(path.clone(), &value, "an array of strings"),
                    })
                    .collect(),
            )),
            value => reader.type_error(path, &value, "a string with commas or an array of strings"),
        }
    }
}

impl AllowIps {
    /// Returns the items; a text is split at its commas.
    pub(crate) fn into_items(self) -> Vec<String> {
        match self {
            Self::Text(text) if text.trim_matches([' ', '\t']).is_empty() => Vec::new(),
            Self::Text(text) => text
                .split(',')
                .map(|item| item.trim_matches([' ', '\t']).to_owned())
                .collect(),
            Self::Items(items) => items,
        }
    }
}

impl FromSetting for SecretText {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self(text)),
            // A number may be a secret without its quotes.
            _ => reader.type_error(path, &Value::from(REDACTED), "a string"),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl FromSetting for HstsSetting {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::Bool(on) => Some(Self::Switch(on)),
            Value::String(preset) if preset == "fluxlit" => Some(Self::Preset(HstsPreset::Fluxlit)),
            Value::Object(members) => Some(Self::Values(reader.nested(path, members))),
            value => reader.type_error(path, &value, "true, false, \"fluxlit\" or an object"),
        }
    }
}

impl FromSetting for HstsMaxAge {
    fn from_setting(reader: &mut ConfigReader<'_>, _path: String, value: Value) -> Option<Self> {
        let seconds = value.as_u64().filter(|seconds| *seconds <= TEN_YEARS);
        if seconds.is_none() {
            reader.error(ConfigError::HstsMaxAge);
        }
        seconds.map(Self)
    }
}

impl FromSetting for SecurityHeadersSetting {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::Bool(on) => Some(Self::Switch(on)),
            Value::Object(members) => Some(Self::Values(reader.nested(path, members))),
            value => reader.type_error(path, &value, "true, false or an object"),
        }
    }
}

impl FromSetting for HeaderValue {
    fn from_setting(reader: &mut ConfigReader<'_>, path: String, value: Value) -> Option<Self> {
        match value {
            Value::Bool(on) => Some(Self::Switch(on)),
            Value::String(text) => Some(Self::Text(text)),
            value => reader.type_error(path, &value, "true, false or a string"),
        }
    }
}

/// The defaults in which the two hosts differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    pub(crate) outside_mount: OutsideMount,
    pub(crate) root_path_shape: PathShape,
    pub(crate) upstream_host: UpstreamHost,
    pub(crate) upstream_path: UpstreamPath,
    pub(crate) client_certificate_header: ClientCertificateHeader,
    pub(crate) original_path_header: OriginalPathHeader,
}

impl Defaults {
    /// The defaults of the filter: its listener serves other apps too, and Envoy selected the virtual host by `:authority`.
    pub const FILTER: Self = Self {
        outside_mount: OutsideMount::Pass,
        root_path_shape: PathShape::Full,
        upstream_host: UpstreamHost::AsReceived,
        upstream_path: UpstreamPath::Stripped,
        client_certificate_header: ClientCertificateHeader::Keep,
        original_path_header: OriginalPathHeader::Set,
    };

    /// The defaults of the gateway: it serves one app, which compares Host with Origin.
    pub const GATEWAY: Self = Self {
        outside_mount: OutsideMount::Reject,
        root_path_shape: PathShape::Auto,
        upstream_host: UpstreamHost::Effective,
        upstream_path: UpstreamPath::Full,
        client_certificate_header: ClientCertificateHeader::Remove,
        original_path_header: OriginalPathHeader::Remove,
    };
}

/// What to do with `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificateHeader {
    /// Keep it: Envoy's connection manager has sanitized or set it before the filter runs.
    Keep,
    /// Remove it like other identity headers.
    Remove,
}

/// What to do with `x-envoy-original-path`, which Envoy's access logs use to name a request whose path was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OriginalPathHeader {
    /// Remove it, because nothing reads it.
    Remove,
    /// Set it to the path as received if the path is changed.
    Set,
}

/// What is shown in place of a secret.
const REDACTED: &str = "[REDACTED]";

/// Seconds in 3650 days: the maximum of `hsts.max_age`.
const TEN_YEARS: u64 = 315_360_000;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Config;

    /// Run with `UPDATE_SCHEMA=1` to generate the file again.
    #[test]
    fn the_schema_file_is_up_to_date() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema.json");
        let mut generated = serde_json::to_string_pretty(&schemars::schema_for!(Config)).unwrap();
        generated.push('\n');
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == generated,
            "policy/schema.json is out of date; generate it with `UPDATE_SCHEMA=1 cargo test -p fluxlit-policy schema`"
        );
    }
}
