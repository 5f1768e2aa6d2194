//! What may an operator configure?
//!
//! [`Config`] holds the settings as written: which there are and of what type. What they mean together, and whether
//! they can be used, [`Policy`](crate::Policy) says. The JSON Schema in `policy/schema.json` is made from these types
//! and their comments.

use serde_json::Value;

use crate::config_error::ConfigError;
use crate::config_reader::{ConfigReader, Keyword};

/// The settings as written; absent ones take the default of the host, see [`Defaults`].
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(
        title = "FluxLit Edge",
        description = "The plugin configuration of the filter. `{}` is legal: nobody is trusted, there is no mount, every forged header is removed.",
        deny_unknown_fields
    )
)]
pub(crate) struct Config {
    /// Whole host names or `*.suffix`: what requests may be for. Others are answered 421. Empty: any host.
    pub(crate) allowed_hosts: Option<Vec<String>>,
    /// A header by which a trusted peer names the client, such as `CF-Connecting-IP`. One value; it stands in place of
    /// the nearest element of the forwarded list.
    pub(crate) client_ip_header: Option<String>,
    /// Rules for Content-Security-Policy; the first that covers the path counts, and never overrides the app's own.
    pub(crate) content_security_policy: Option<Vec<CspRuleConfig>>,
    /// Whether cookies with `Path=/` are confined to the mount even when the app knows its mount.
    pub(crate) cookie_path: Option<CookiePath>,
    /// Whether the app is also sent a `Forwarded` header (RFC 7239).
    pub(crate) emit_forwarded: Option<bool>,
    /// The peers whose forwarded headers are believed: addresses, networks, `unix:`, or `*` alone.
    pub(crate) forwarded_allow_ips: Option<AllowIps>,
    /// The one family of headers that is read.
    pub(crate) forwarded_source: Option<ForwardedSource>,
    /// Strict-Transport-Security; off by default.
    pub(crate) hsts: Option<HstsSetting>,
    /// Several apps behind one listener, found by host and longest path. Excludes `root_path`.
    pub(crate) mounts: Option<Vec<MountConfig>>,
    /// What becomes of requests outside every mount.
    pub(crate) outside_mount: Option<OutsideMount>,
    /// Envoy only: the filter-state key under which the listener records the direct peer.
    pub(crate) peer_filter_state_key: Option<String>,
    /// Whether a trusted peer's X-Forwarded-Prefix is put in front of the mount.
    pub(crate) prefix_from_header: Option<bool>,
    /// The address under which browsers know the app, such as `https://portal.example.com/apps/my-app`: fixes scheme,
    /// host and path of every URL that is written.
    pub(crate) public_base_url: Option<String>,
    /// Whether GET and HEAD for the mount without its trailing slash are redirected; on by default.
    pub(crate) redirect_bare_mount: Option<bool>,
    /// Whether GET and HEAD over http are redirected to https, health checks excepted; off by default.
    pub(crate) redirect_to_https: Option<bool>,
    /// Decide, count and log, but change nothing: for a first roll-out.
    pub(crate) report_only: Option<bool>,
    /// The mount: the path under which the app is published, such as `/apps/my-app`.
    pub(crate) root_path: Option<String>,
    /// How the path arrives.
    pub(crate) root_path_shape: Option<PathShape>,
    /// X-Content-Type-Options, X-Frame-Options and Referrer-Policy; off by default.
    pub(crate) security_headers: Option<SecurityHeadersSetting>,
    /// Further request headers to remove.
    pub(crate) strip_headers: Option<Vec<String>>,
    /// Acknowledges a trust list that lets anyone speak for a client.
    pub(crate) trust_any_peer: Option<bool>,
    /// Whether any peer is trusted at all; off by default.
    pub(crate) trust_proxy: Option<bool>,
    /// The number of proxies in front, where their addresses cannot be known.
    #[cfg_attr(test, schemars(range(min = 1, max = 32)))]
    pub(crate) trusted_hops: Option<i64>,
    /// Envoy only: URI names (SPIFFE ids) of verified client certificates whose owners are trusted.
    pub(crate) trusted_identities: Option<Vec<String>>,
    /// Identity headers that a trusted peer may pass.
    pub(crate) trusted_pass_headers: Option<Vec<String>>,
    /// Names by which the app calls itself in redirects, such as `127.0.0.1:8501`.
    pub(crate) upstream_authorities: Option<Vec<String>>,
    /// The Host sent to the app.
    pub(crate) upstream_host: Option<UpstreamHost>,
    /// How the path is sent on.
    pub(crate) upstream_path: Option<UpstreamPath>,
    /// What X-Forwarded-For holds.
    pub(crate) xff_mode: Option<XffMode>,
}

/// One app of several. What it leaves out is as at the top.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "Mount", deny_unknown_fields)
)]
pub(crate) struct MountConfig {
    /// Whether cookies with `Path=/` are confined to the mount even when the app knows its mount.
    pub(crate) cookie_path: Option<CookiePath>,
    /// Whole host names or `*.suffix` for which the mount holds. Empty: any host.
    pub(crate) hosts: Option<Vec<String>>,
    /// The address under which browsers know the app.
    pub(crate) public_base_url: Option<String>,
    /// Whether GET and HEAD for the mount without its trailing slash are redirected.
    pub(crate) redirect_bare_mount: Option<bool>,
    /// The mount, such as `/apps/my-app`; `/` for the rest of the host.
    #[cfg_attr(test, schemars(required))]
    pub(crate) root_path: Option<String>,
    /// How the path arrives.
    pub(crate) root_path_shape: Option<PathShape>,
    /// Names by which the app calls itself in redirects.
    pub(crate) upstream_authorities: Option<Vec<String>>,
    /// How the path is sent on.
    pub(crate) upstream_path: Option<UpstreamPath>,
}

/// A rule for Content-Security-Policy.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "ContentSecurityPolicyRule", deny_unknown_fields)
)]
pub(crate) struct CspRuleConfig {
    /// Covers paths that are this one or lie below it, as the app sees them; `/` covers all.
    #[cfg_attr(test, schemars(required))]
    pub(crate) path_prefix: Option<String>,
    /// Whether browsers only report what they would refuse.
    pub(crate) report_only: Option<bool>,
    /// The policy.
    #[cfg_attr(test, schemars(required))]
    pub(crate) value: Option<String>,
}

/// A trust list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(crate) enum AllowIps {
    /// Items separated by commas; blank text is the empty list.
    Text(String),
    /// One item an entry.
    Items(Vec<String>),
}

/// Strict-Transport-Security as written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(untagged, rename = "Hsts")
)]
pub(crate) enum HstsSetting {
    /// `true`: `max-age=31536000`.
    Switch(bool),
    /// A value by its name.
    Preset(HstsPreset),
    /// Values of one's own.
    Values(HstsConfig),
}

/// A value of Strict-Transport-Security by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum HstsPreset {
    /// What FluxLit sends: `max-age=63072000; includeSubDomains`.
    Fluxlit,
}

/// The values of `hsts`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "HstsValues", deny_unknown_fields)
)]
pub(crate) struct HstsConfig {
    /// Whether the rule covers subdomains.
    pub(crate) include_sub_domains: Option<bool>,
    /// Seconds; default 31536000.
    #[cfg_attr(test, schemars(range(max = 315_360_000)))]
    pub(crate) max_age: Option<u64>,
    /// Whose header is sent; default `if_absent`.
    pub(crate) mode: Option<HstsMode>,
    /// Whether the host may be put on browsers' preload lists.
    pub(crate) preload: Option<bool>,
}

/// Who owns Strict-Transport-Security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum HstsMode {
    /// None leaves us.
    Off,
    /// The app's first line stays, none is added.
    Upstream,
    /// The app's first valid line stays, else ours is sent.
    IfAbsent,
    /// Ours replaces the app's.
    Gateway,
}

/// The small security headers as written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(untagged, rename = "SecurityHeaders")
)]
pub(crate) enum SecurityHeadersSetting {
    /// All with their defaults, or none.
    Switch(bool),
    /// One by one.
    Values(SecurityHeadersConfig),
}

/// The values of `security_headers`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename = "SecurityHeaderValues", deny_unknown_fields)
)]
pub(crate) struct SecurityHeadersConfig {
    /// Referrer-Policy; default `strict-origin-when-cross-origin`.
    pub(crate) referrer_policy: Option<HeaderValue>,
    /// X-Content-Type-Options; default `nosniff`.
    pub(crate) x_content_type_options: Option<HeaderValue>,
    /// X-Frame-Options; default `SAMEORIGIN`.
    pub(crate) x_frame_options: Option<HeaderValue>,
}

/// The value of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(crate) enum HeaderValue {
    /// `true`: its default; `false`: it is not set.
    Switch(bool),
    /// This value.
    Text(String),
}

/// What becomes of requests outside every mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum OutsideMount {
    /// They pass without a mount; the header rules hold. The filter's default.
    Pass,
    /// They are answered 404. The gateway's default.
    Reject,
}

/// How the path arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum PathShape {
    /// With the mount or without it. The gateway's default.
    Auto,
    /// With the mount. The filter's default.
    Full,
    /// Without the mount, which the front has taken off.
    Stripped,
}

/// The Host sent to the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum UpstreamHost {
    /// As the request names it. The filter's default: Envoy chose the virtual host by it.
    AsReceived,
    /// The one the client used. The gateway's default: Streamlit compares it with Origin.
    Effective,
}

/// How the path is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum UpstreamPath {
    /// With the mount, for an app that knows it.
    Full,
    /// Without the mount.
    Stripped,
}

/// The one family of headers that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "kebab-case")
)]
pub(crate) enum ForwardedSource {
    /// `Forwarded`, RFC 7239.
    Forwarded,
    /// `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`. The default.
    XForwarded,
}

/// Whether cookies with `Path=/` are confined to the mount when the app knows its mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum CookiePath {
    /// They are. Advised where several apps share a host.
    Confine,
    /// They are not. The default.
    Mount,
}

/// What X-Forwarded-For holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    test,
    derive(schemars::JsonSchema),
    schemars(rename_all = "snake_case")
)]
pub(crate) enum XffMode {
    /// The client, the trusted hops after it, and the peer.
    Chain,
    /// The client alone. The default.
    Client,
}

impl Config {
    /// Takes the settings out of an object.
    pub(crate) fn read(reader: &mut ConfigReader<'_>) -> Self {
        Self {
            allowed_hosts: reader.strings("allowed_hosts"),
            client_ip_header: reader.string("client_ip_header"),
            content_security_policy: reader.objects("content_security_policy", CspRuleConfig::read),
            cookie_path: reader.keyword("cookie_path"),
            emit_forwarded: reader.boolean("emit_forwarded"),
            forwarded_allow_ips: AllowIps::read(reader),
            forwarded_source: reader.keyword("forwarded_source"),
            hsts: HstsSetting::read(reader),
            mounts: reader.objects("mounts", MountConfig::read),
            outside_mount: reader.keyword("outside_mount"),
            peer_filter_state_key: reader.string("peer_filter_state_key"),
            prefix_from_header: reader.boolean("prefix_from_header"),
            public_base_url: reader.string("public_base_url"),
            redirect_bare_mount: reader.boolean("redirect_bare_mount"),
            redirect_to_https: reader.boolean("redirect_to_https"),
            report_only: reader.boolean("report_only"),
            root_path: reader.string("root_path"),
            root_path_shape: reader.keyword("root_path_shape"),
            security_headers: SecurityHeadersSetting::read(reader),
            strip_headers: reader.strings("strip_headers"),
            trust_any_peer: reader.boolean("trust_any_peer"),
            trust_proxy: reader.boolean("trust_proxy"),
            trusted_hops: reader.integer("trusted_hops"),
            trusted_identities: reader.strings("trusted_identities"),
            trusted_pass_headers: reader.strings("trusted_pass_headers"),
            upstream_authorities: reader.strings("upstream_authorities"),
            upstream_host: reader.keyword("upstream_host"),
            upstream_path: reader.keyword("upstream_path"),
            xff_mode: reader.keyword("xff_mode"),
        }
    }
}

impl MountConfig {
    fn read(reader: &mut ConfigReader<'_>) -> Self {
        Self {
            cookie_path: reader.keyword("cookie_path"),
            hosts: reader.strings("hosts"),
            public_base_url: reader.string("public_base_url"),
            redirect_bare_mount: reader.boolean("redirect_bare_mount"),
            root_path: reader.string("root_path"),
            root_path_shape: reader.keyword("root_path_shape"),
            upstream_authorities: reader.strings("upstream_authorities"),
            upstream_path: reader.keyword("upstream_path"),
        }
    }
}

impl CspRuleConfig {
    fn read(reader: &mut ConfigReader<'_>) -> Self {
        Self {
            path_prefix: reader.string("path_prefix"),
            report_only: reader.boolean("report_only"),
            value: reader.string("value"),
        }
    }
}

impl AllowIps {
    fn read(reader: &mut ConfigReader<'_>) -> Option<Self> {
        let name = "forwarded_allow_ips";
        match reader.take(name)? {
            Value::String(text) => Some(Self::Text(text)),
            Value::Array(values) => Some(Self::Items(
                values
                    .into_iter()
                    .filter_map(|value| match value {
                        Value::String(item) => Some(item),
                        value => reader.type_error(reader.path(name), &value, "an array of texts"),
                    })
                    .collect(),
            )),
            value => reader.type_error(
                reader.path(name),
                &value,
                "a text with commas or an array of texts",
            ),
        }
    }

    pub(crate) fn items(&self) -> Vec<String> {
        match self {
            Self::Text(text) if text.trim_matches([' ', '\t']).is_empty() => Vec::new(),
            Self::Text(text) => text
                .split(',')
                .map(|item| item.trim_matches([' ', '\t']).to_owned())
                .collect(),
            Self::Items(items) => items.clone(),
        }
    }
}

impl HstsSetting {
    fn read(reader: &mut ConfigReader<'_>) -> Option<Self> {
        let name = "hsts";
        match reader.take(name)? {
            Value::Bool(on) => Some(Self::Switch(on)),
            Value::String(preset) if preset == "fluxlit" => Some(Self::Preset(HstsPreset::Fluxlit)),
            Value::Object(members) => Some(Self::Values(reader.object(
                reader.path(name),
                members,
                HstsConfig::read,
            ))),
            value => reader.type_error(
                reader.path(name),
                &value,
                "true, false, \"fluxlit\" or an object",
            ),
        }
    }
}

impl HstsConfig {
    fn read(reader: &mut ConfigReader<'_>) -> Self {
        Self {
            include_sub_domains: reader.boolean("include_sub_domains"),
            max_age: reader.take("max_age").and_then(|value| {
                let seconds = value.as_u64().filter(|seconds| *seconds <= TEN_YEARS);
                if seconds.is_none() {
                    reader.error(ConfigError::HstsMaxAge);
                }
                seconds
            }),
            mode: reader.keyword("mode"),
            preload: reader.boolean("preload"),
        }
    }
}

impl SecurityHeadersSetting {
    fn read(reader: &mut ConfigReader<'_>) -> Option<Self> {
        let name = "security_headers";
        match reader.take(name)? {
            Value::Bool(on) => Some(Self::Switch(on)),
            Value::Object(members) => Some(Self::Values(reader.object(
                reader.path(name),
                members,
                SecurityHeadersConfig::read,
            ))),
            value => reader.type_error(reader.path(name), &value, "true, false or an object"),
        }
    }
}

impl SecurityHeadersConfig {
    fn read(reader: &mut ConfigReader<'_>) -> Self {
        Self {
            referrer_policy: HeaderValue::read(reader, "referrer_policy"),
            x_content_type_options: HeaderValue::read(reader, "x_content_type_options"),
            x_frame_options: HeaderValue::read(reader, "x_frame_options"),
        }
    }
}

impl HeaderValue {
    fn read(reader: &mut ConfigReader<'_>, name: &'static str) -> Option<Self> {
        match reader.take(name)? {
            Value::Bool(on) => Some(Self::Switch(on)),
            Value::String(text) => Some(Self::Text(text)),
            value => reader.type_error(reader.path(name), &value, "true, false or a text"),
        }
    }
}

impl Keyword for HstsMode {
    const KEYWORDS: &'static [(&'static str, Self)] = &[
        ("off", Self::Off),
        ("upstream", Self::Upstream),
        ("if_absent", Self::IfAbsent),
        ("gateway", Self::Gateway),
    ];
}

impl Keyword for OutsideMount {
    const KEYWORDS: &'static [(&'static str, Self)] =
        &[("pass", Self::Pass), ("reject", Self::Reject)];
}

impl Keyword for PathShape {
    const KEYWORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("full", Self::Full),
        ("stripped", Self::Stripped),
    ];
}

impl Keyword for UpstreamHost {
    const KEYWORDS: &'static [(&'static str, Self)] = &[
        ("effective", Self::Effective),
        ("as_received", Self::AsReceived),
    ];
}

impl Keyword for UpstreamPath {
    const KEYWORDS: &'static [(&'static str, Self)] =
        &[("stripped", Self::Stripped), ("full", Self::Full)];
}

impl Keyword for ForwardedSource {
    const KEYWORDS: &'static [(&'static str, Self)] = &[
        ("x-forwarded", Self::XForwarded),
        ("forwarded", Self::Forwarded),
    ];
}

impl Keyword for CookiePath {
    const KEYWORDS: &'static [(&'static str, Self)] =
        &[("mount", Self::Mount), ("confine", Self::Confine)];
}

impl Keyword for XffMode {
    const KEYWORDS: &'static [(&'static str, Self)] =
        &[("client", Self::Client), ("chain", Self::Chain)];
}

/// What differs between the two hosts when a setting is absent.
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
    /// The filter: its listener carries other apps too, and Envoy chose the virtual host by `:authority`.
    pub const FILTER: Self = Self {
        outside_mount: OutsideMount::Pass,
        root_path_shape: PathShape::Full,
        upstream_host: UpstreamHost::AsReceived,
        upstream_path: UpstreamPath::Stripped,
        client_certificate_header: ClientCertificateHeader::Keep,
        original_path_header: OriginalPathHeader::Set,
    };

    /// The gateway: it serves one app, which compares Host with Origin.
    pub const GATEWAY: Self = Self {
        outside_mount: OutsideMount::Reject,
        root_path_shape: PathShape::Auto,
        upstream_host: UpstreamHost::Effective,
        upstream_path: UpstreamPath::Full,
        client_certificate_header: ClientCertificateHeader::Remove,
        original_path_header: OriginalPathHeader::Remove,
    };
}

/// Who answers for `x-forwarded-client-cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientCertificateHeader {
    /// Envoy's connection manager, which has sanitised or set it before the filter runs.
    Keep,
    /// We do: it is an identity header.
    Remove,
}

/// What becomes of `x-envoy-original-path`, by which Envoy's access logs name a request whose path was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OriginalPathHeader {
    /// Nobody reads it.
    Remove,
    /// It holds the path as received wherever we change it.
    Set,
}

/// Seconds in 3650 days: the most that HSTS may ask for.
pub(crate) const TEN_YEARS: u64 = 315_360_000;
