//! What may an operator configure, and what is wrong with what was written?
//!
//! [`Config`] holds the settings as written; [`Policy::new`](crate::Policy::new) turns them into a policy that cannot
//! hold a wrong value. All faults are reported together, each with a stable code, so that one look at the log of a
//! refused configuration is enough to mend it.

use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer};

/// The settings as written. Absent ones take the default of the host, see [`Defaults`].
///
/// In Envoy this is the plugin configuration, a JSON object; the gateway reads the same names from its own sources.
/// Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Names `*.suffix` or whole host names that requests may be for; empty: any. Others are answered 421.
    pub allowed_hosts: Vec<String>,
    /// `mount` (default) or `confine`: whether cookies with `Path=/` are confined to the mount even when the upstream
    /// knows its mount.
    pub cookie_path: Option<String>,
    /// The peers whose forwarded headers are believed: addresses, networks, `unix:`, or `*` alone.
    pub forwarded_allow_ips: Option<AllowIps>,
    /// `x-forwarded` (default) or `forwarded`: the one family of headers that is read.
    pub forwarded_source: Option<String>,
    /// Strict-Transport-Security; off by default.
    pub hsts: Switch<HstsConfig>,
    /// `pass` or `reject`: what becomes of requests outside the mount. Default: by host.
    pub outside_mount: Option<String>,
    /// Envoy only: the filter-state key under which the listener records the direct peer.
    pub peer_filter_state_key: Option<String>,
    /// Whether GET and HEAD for the mount without its trailing slash are redirected; on by default.
    pub redirect_bare_mount: Option<bool>,
    /// The mount: the path under which the app is published, such as `/apps/my-app`.
    pub root_path: Option<String>,
    /// `full`, `stripped` or `auto`: whether requests arrive with the mount. Default: by host.
    pub root_path_shape: Option<String>,
    /// X-Content-Type-Options, X-Frame-Options and Referrer-Policy; off by default.
    pub security_headers: Switch<SecurityHeadersConfig>,
    /// Further request headers to remove.
    pub strip_headers: Vec<String>,
    /// Acknowledges a trust list that lets anyone speak for a client.
    pub trust_any_peer: bool,
    /// Whether any peer is trusted at all.
    pub trust_proxy: bool,
    /// The number of proxies in front, 1 to 32, where their addresses cannot be known.
    pub trusted_hops: Option<i64>,
    /// Identity headers that a trusted peer may pass.
    pub trusted_pass_headers: Vec<String>,
    /// Names by which the upstream calls itself in redirects, such as `127.0.0.1:8501`.
    pub upstream_authorities: Vec<String>,
    /// `effective` or `as_received`: the Host sent upstream. Default: by host.
    pub upstream_host: Option<String>,
    /// `stripped` or `full`: whether the upstream is sent the mount. Default: by host.
    pub upstream_path: Option<String>,
}

/// A trust list: one comma-separated text, or an array of items.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a comma-separated text or an array of texts")]
pub enum AllowIps {
    /// Items separated by commas; blank text is the empty list.
    Text(String),
    /// One item an entry.
    Items(Vec<String>),
}

impl AllowIps {
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

/// A group of settings that is off, on with its defaults (`true`), or on with values of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Switch<T> {
    /// `false`, or not set.
    #[default]
    Off,
    /// `true`.
    On,
    /// An object.
    With(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Switch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SwitchVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for SwitchVisitor<T> {
            type Value = Switch<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or an object")
            }

            fn visit_bool<E>(self, on: bool) -> Result<Self::Value, E> {
                Ok(if on { Switch::On } else { Switch::Off })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Switch::With)
            }
        }

        deserializer.deserialize_any(SwitchVisitor(std::marker::PhantomData))
    }
}

/// The values of `hsts`, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HstsConfig {
    /// Whether the rule covers subdomains.
    pub include_sub_domains: bool,
    /// Seconds; default 31536000.
    #[serde(deserialize_with = "whole_seconds")]
    pub max_age: Option<u64>,
    /// `off`, `upstream`, `if_absent` (default) or `gateway`.
    pub mode: Option<String>,
    /// Whether the host may be put on browsers' preload lists.
    pub preload: bool,
}

/// The values of `security_headers`, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityHeadersConfig {
    /// Referrer-Policy; default `strict-origin-when-cross-origin`.
    pub referrer_policy: HeaderValue,
    /// X-Content-Type-Options; default `nosniff`.
    pub x_content_type_options: HeaderValue,
    /// X-Frame-Options; default `SAMEORIGIN`.
    pub x_frame_options: HeaderValue,
}

/// The value of one header: its default (`true`, or not set), none (`false`), or a text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "HeaderValueAsWritten")]
pub enum HeaderValue {
    /// The header's default value.
    #[default]
    Default,
    /// The header is not set.
    Off,
    /// This value.
    Text(String),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "true, false or a text")]
enum HeaderValueAsWritten {
    Switch(bool),
    Text(String),
}

impl From<HeaderValueAsWritten> for HeaderValue {
    fn from(written: HeaderValueAsWritten) -> Self {
        match written {
            HeaderValueAsWritten::Switch(true) => Self::Default,
            HeaderValueAsWritten::Switch(false) => Self::Off,
            HeaderValueAsWritten::Text(text) => Self::Text(text),
        }
    }
}

/// What differs between the two hosts when a setting is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    pub(crate) outside_mount: OutsideMount,
    pub(crate) root_path_shape: Shape,
    pub(crate) upstream_host: UpstreamHost,
    pub(crate) upstream_path: UpstreamPath,
    pub(crate) client_certificate_header: ClientCertificateHeader,
}

impl Defaults {
    /// The filter: its listener carries other apps too, and Envoy chose the virtual host by `:authority`.
    pub const FILTER: Self = Self {
        outside_mount: OutsideMount::Pass,
        root_path_shape: Shape::Full,
        upstream_host: UpstreamHost::AsReceived,
        upstream_path: UpstreamPath::Stripped,
        client_certificate_header: ClientCertificateHeader::Keep,
    };

    /// The gateway: it serves one app, which compares Host with Origin.
    pub const GATEWAY: Self = Self {
        outside_mount: OutsideMount::Reject,
        root_path_shape: Shape::Auto,
        upstream_host: UpstreamHost::Effective,
        upstream_path: UpstreamPath::Full,
        client_certificate_header: ClientCertificateHeader::Remove,
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

/// What becomes of requests outside the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutsideMount {
    Pass,
    Reject,
}

/// Whether requests arrive with the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Auto,
    Full,
    Stripped,
}

/// The Host sent upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamHost {
    AsReceived,
    Effective,
}

/// Whether the upstream is sent the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpstreamPath {
    Full,
    Stripped,
}

/// The one family of headers that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardedSource {
    Forwarded,
    XForwarded,
}

/// Whether cookies with `Path=/` are confined to the mount when the upstream knows its mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CookiePath {
    Confine,
    Mount,
}

/// Reads one of a closed set of words; absent means `default`.
pub(crate) fn choose<T: Copy>(
    setting: &'static str,
    written: Option<&String>,
    default: T,
    choices: &[(&'static str, T)],
    errors: &mut Vec<ConfigError>,
) -> T {
    let Some(written) = written else {
        return default;
    };
    if let Some((_, choice)) = choices.iter().find(|(word, _)| word == written) {
        return *choice;
    }
    errors.push(ConfigError::UnknownWord {
        setting,
        value: written.clone(),
        expected: choices
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", "),
    });
    default
}

/// A configuration that cannot be used, with every fault that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(crate) Vec<ConfigError>);

impl ConfigErrors {
    /// The faults, in the order of the settings' importance.
    pub fn faults(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {fault}", fault.code())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One fault of a configuration. The text names the setting, the value, what is accepted and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not an `authority` as of RFC 3986 §3.2 without user information.
    #[error(
        "{setting} \"{value}\" must be a host name or IP address, with a port if it is not the default one."
    )]
    Authority {
        /// The setting.
        setting: &'static str,
        /// The value.
        value: String,
    },
    /// A list that trusts everyone, unacknowledged.
    #[error(
        "forwarded_allow_ips contains \"{item}\", which lets any client choose its own address and scheme. List the proxy's address, set trusted_hops, or set trust_any_peer = true if nothing else can reach this port."
    )]
    Broad {
        /// The broad item.
        item: String,
    },
    /// An empty item, such as a variable that is not set leaves behind.
    #[error("forwarded_allow_ips has an empty item at position {position}. Is a variable unset?")]
    EmptyItem {
        /// Counted from 1.
        position: usize,
    },
    /// A name that is no header field name, or one that must not be touched.
    #[error("{setting} \"{value}\" {reason}.")]
    HeaderName {
        /// The setting.
        setting: &'static str,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header value with octets that must not be sent.
    #[error("{setting} {value:?} must be visible ASCII text with single spaces.")]
    HeaderText {
        /// The setting.
        setting: &'static str,
        /// The value.
        value: String,
    },
    /// A trust list beside a number of hops.
    #[error("trusted_hops and forwarded_allow_ips exclude each other.")]
    HopsAndList,
    /// A number of hops out of range.
    #[error("trusted_hops must be 1 to 32, not {hops}.")]
    HopsRange {
        /// The number.
        hops: i64,
    },
    /// A network with host bits.
    #[error(
        "\"{item}\" has host bits set. Write {network} for the network or {host} for the host."
    )]
    HostBits {
        /// The item.
        item: String,
        /// The network it lies in.
        network: String,
        /// The host it names.
        host: String,
    },
    /// A name where an address is needed.
    #[error(
        "\"{item}\" is not an IP address or CIDR. Host names are not resolved; localhost is 127.0.0.1,::1."
    )]
    HostName {
        /// The item.
        item: String,
    },
    /// A max-age out of range.
    #[error("hsts.max_age must be a whole number from 0 to 315360000.")]
    HstsMaxAge,
    /// A preload without what the preload lists ask for.
    #[error("hsts.preload needs include_sub_domains and max_age of at least 31536000.")]
    HstsPreload,
    /// An over-long trust list.
    #[error("forwarded_allow_ips has {size} bytes; at most 65536.")]
    ListTooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// A network that reaches from IPv4 into IPv6.
    #[error("\"{item}\" mixes IPv4 and IPv6; write the IPv4 network.")]
    MixedFamilies {
        /// The item.
        item: String,
    },
    /// A mount that is none.
    #[error(
        "root_path \"{value}\" must be like /apps/my-app: letters, digits, . _ ~ - and single slashes, at most 256 bytes."
    )]
    Mount {
        /// The value.
        value: String,
    },
    /// An item that is no address or network.
    #[error("\"{item}\" is not a valid address or CIDR: {reason}.")]
    NotAnAddress {
        /// The item.
        item: String,
        /// Why not.
        reason: &'static str,
    },
    /// An empty filter-state key.
    #[error(
        "peer_filter_state_key must not be empty: name the key that the listener's set_filter_state fills."
    )]
    PeerKey,
    /// Trust without anyone to trust.
    #[error(
        "trust_proxy is on but forwarded_allow_ips is not set. Name your proxy, for example forwarded_allow_ips = \"127.0.0.1,::1\". FluxLit assumed \"*\" here; we do not."
    )]
    TrustsNobody,
    /// A trust list with too many entries.
    #[error("forwarded_allow_ips has {count} entries; at most 1024.")]
    TooManyEntries {
        /// How many.
        count: usize,
    },
    /// A path where only the word `unix:` is meant.
    #[error("write \"unix:\" to trust every peer of a Unix socket listener.")]
    UnixPath,
    /// A word that is none of the accepted ones.
    #[error("unknown {setting} \"{value}\"; expected one of {expected}.")]
    UnknownWord {
        /// The setting.
        setting: &'static str,
        /// The word.
        value: String,
        /// The accepted words.
        expected: String,
    },
    /// `*` beside other items.
    #[error("\"*\" must stand alone in forwarded_allow_ips.")]
    WildcardNotAlone,
}

impl ConfigError {
    /// The stable code under which the fault is documented.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TrustsNobody => "E01",
            Self::Broad { .. } => "E02",
            Self::WildcardNotAlone => "E03",
            Self::EmptyItem { .. } => "E04",
            Self::HostBits { .. } => "E05",
            Self::HostName { .. } => "E06",
            Self::NotAnAddress { .. } => "E07",
            Self::UnixPath => "E08",
            Self::MixedFamilies { .. } => "E09",
            Self::ListTooLong { .. } | Self::TooManyEntries { .. } => "E10",
            Self::HopsAndList | Self::HopsRange { .. } => "E11",
            Self::Mount { .. } => "E12",
            Self::HstsMaxAge => "E13",
            Self::HstsPreload => "E14",
            Self::Authority { .. }
            | Self::HeaderName { .. }
            | Self::HeaderText { .. }
            | Self::PeerKey
            | Self::UnknownWord { .. } => "E15",
        }
    }
}

/// Something an operator should know, though the configuration can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// Everyone is trusted, as acknowledged.
    #[error(
        "every peer that matches \"{item}\" may choose the client address, scheme and host; make sure that only the proxy reaches this port"
    )]
    Broad {
        /// The broad item.
        item: String,
    },
    /// A list without trust.
    #[error(
        "E16: forwarded_allow_ips is set but trust_proxy is off; forwarded headers are ignored"
    )]
    ListWithoutTrust,
}

fn whole_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    struct Seconds;

    impl Visitor<'_> for Seconds {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(
                f,
                "a whole number of seconds (E13: {})",
                ConfigError::HstsMaxAge
            )
        }

        fn visit_u64<E>(self, seconds: u64) -> Result<u64, E> {
            Ok(seconds)
        }

        fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<u64, E> {
            u64::try_from(seconds)
                .map_err(|_| E::custom(format!("E13: {}", ConfigError::HstsMaxAge)))
        }
    }

    deserializer
        .deserialize_any(Seconds)
        .map(Some)
        .map_err(D::Error::custom)
}
