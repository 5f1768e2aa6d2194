//! Defines the errors and warnings of a configuration.
//!
//! All errors are reported together, each with a stable code, the setting, its value and what is accepted, so that an
//! operator can fix them after reading the log once.

use std::fmt;

/// All errors of a configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(crate) Vec<ConfigError>);

impl ConfigErrors {
    /// Returns the errors, in the order of the settings' importance.
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {error}", error.code())?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// One error of a configuration. The text names the setting, the value, what is accepted and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A value that is not an `authority` of RFC 3986 §3.2 without user information.
    #[error(
        "{setting} \"{value}\" must be a host name or IP address, with a port if it is not the default one."
    )]
    Authority {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
    },
    /// A URL that cannot be the public base URL of an app.
    #[error(
        "{setting} \"{value}\" must be like https://portal.example.com/apps/my-app: http or https, a host, and no query, fragment or user."
    )]
    BaseUrl {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
    },
    /// A list that trusts a whole address family, without `trust_any_peer`.
    #[error(
        "forwarded_allow_ips contains \"{item}\", which lets any client choose its own address and scheme. List the proxy's address, set trusted_hops, or set trust_any_peer = true if nothing else can reach this port."
    )]
    Broad {
        /// The broad item.
        item: String,
    },
    /// The configuration is not JSON.
    #[error("the configuration is not a JSON object: {problem}.")]
    Document {
        /// Where and why.
        problem: String,
    },
    /// Two entries of `mounts` to which the same request could belong.
    #[error("{one} and {other} {problem}.")]
    DoubleMount {
        /// The first entry.
        one: String,
        /// The second.
        other: String,
        /// What they have in common.
        problem: String,
    },
    /// An empty item, for example from a variable that is not set.
    #[error("forwarded_allow_ips has an empty item at position {position}. Is a variable unset?")]
    EmptyItem {
        /// Counted from 1.
        position: usize,
    },
    /// A name that is not a header field name, or that the setting must not list.
    #[error("{setting} \"{value}\" {reason}.")]
    HeaderName {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A header value with octets that must not be sent.
    #[error("{setting} {value:?} must be visible ASCII text with single spaces.")]
    HeaderText {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
    },
    /// Both a trust list and a number of hops.
    #[error("trusted_hops and forwarded_allow_ips cannot be set together.")]
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
        /// The network that contains it.
        network: String,
        /// The host that it names.
        host: String,
    },
    /// A host name instead of an address.
    #[error(
        "\"{item}\" is not an IP address or CIDR. Host names are not resolved; localhost is 127.0.0.1,::1."
    )]
    HostName {
        /// The item.
        item: String,
    },
    /// An identity that is not a URI.
    #[error(
        "trusted_identities \"{value}\" must be a URI such as spiffe://cluster.local/ns/istio-system/sa/ingress, written in full; patterns are not supported."
    )]
    Identity {
        /// The value.
        value: String,
    },
    /// A max-age out of range.
    #[error("hsts.max_age must be a whole number from 0 to 315360000.")]
    HstsMaxAge,
    /// `preload` without what the preload lists require.
    #[error("hsts.preload needs include_sub_domains and max_age of at least 31536000.")]
    HstsPreload,
    /// A trust list that is too long.
    #[error("forwarded_allow_ips has {size} bytes; the maximum is 65536.")]
    ListTooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// A network that covers IPv4 and IPv6 addresses.
    #[error("\"{item}\" mixes IPv4 and IPv6; write the IPv4 network.")]
    MixedFamilies {
        /// The item.
        item: String,
    },
    /// A required setting that is absent.
    #[error("{setting} is missing.")]
    Missing {
        /// The setting.
        setting: String,
    },
    /// An invalid mount.
    #[error(
        "{setting} \"{value}\" must be like /apps/my-app: letters, digits, . _ ~ - and single slashes, at most 256 bytes."
    )]
    Mount {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
    },
    /// A setting for one mount together with `mounts`.
    #[error(
        "mounts and {setting} cannot be set together; write {setting} into each entry of mounts."
    )]
    MountsAndOne {
        /// The setting for one mount.
        setting: &'static str,
    },
    /// An item that is not an address or a network.
    #[error("\"{item}\" is not a valid address or CIDR: {reason}.")]
    NotAnAddress {
        /// The item.
        item: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An empty filter-state key.
    #[error(
        "{setting} must not be empty: set it to the key that the listener's set_filter_state uses."
    )]
    PeerKey {
        /// The setting.
        setting: &'static str,
    },
    /// Two filter-state keys for the peer.
    #[error(
        "connection_facts_key and peer_filter_state_key both name the peer: keep the one that the listener records."
    )]
    PeerKeys,
    /// A probe key that is too short.
    #[error(
        "probe_key has {length} bytes, and must have at least 16. Take a random one, such as the output of `openssl rand -hex 32`."
    )]
    ProbeKey {
        /// Its length in bytes, without white space at both ends.
        length: usize,
    },
    /// `trust_proxy` without any trusted peer.
    #[error(
        "trust_proxy is on but forwarded_allow_ips is not set. Name your proxy, for example forwarded_allow_ips = \"127.0.0.1,::1\". FluxLit assumes \"*\" in this case; FluxLit Edge does not."
    )]
    NoTrustedPeer,
    /// A trust list with too many entries.
    #[error("forwarded_allow_ips has {count} entries; the maximum is 1024.")]
    TooManyEntries {
        /// How many.
        count: usize,
    },
    /// `unix:` with a path.
    #[error("write \"unix:\" to trust every peer of a Unix socket listener.")]
    UnixPath,
    /// A value of another type.
    #[error("{setting} must be {expected}, not {value}.")]
    Type {
        /// The setting.
        setting: String,
        /// The value, as JSON.
        value: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// A key that is not a setting.
    #[error("unknown key \"{key}\"; {hint}expected one of {expected}.")]
    UnknownKey {
        /// The path of the key.
        key: String,
        /// `did you mean ...?`, if a setting has a similar name.
        hint: String,
        /// The known settings.
        expected: String,
    },
    /// A keyword that is not accepted.
    #[error("unknown {setting} \"{value}\"; expected one of {expected}.")]
    UnknownKeyword {
        /// The setting.
        setting: String,
        /// The keyword.
        value: String,
        /// The accepted keywords.
        expected: String,
    },
    /// `*` together with other items.
    #[error("\"*\" must be the only item of forwarded_allow_ips.")]
    WildcardNotAlone,
}

impl ConfigError {
    /// Returns the stable code under which the error is documented.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoTrustedPeer => "E01",
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
            Self::DoubleMount { .. } | Self::Mount { .. } | Self::MountsAndOne { .. } => "E12",
            Self::HstsMaxAge => "E13",
            Self::HstsPreload => "E14",
            Self::ProbeKey { .. } => "E18",
            Self::Authority { .. }
            | Self::BaseUrl { .. }
            | Self::Document { .. }
            | Self::HeaderName { .. }
            | Self::HeaderText { .. }
            | Self::Identity { .. }
            | Self::Missing { .. }
            | Self::PeerKey { .. }
            | Self::PeerKeys
            | Self::Type { .. }
            | Self::UnknownKey { .. }
            | Self::UnknownKeyword { .. } => "E15",
        }
    }
}

/// A warning about a setting that is valid but may be a mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigWarning {
    /// A whole address family is trusted, as confirmed by `trust_any_peer`.
    #[error(
        "every peer that matches \"{item}\" may choose the client address, scheme and host; make sure that only the proxy reaches this port"
    )]
    Broad {
        /// The broad item.
        item: String,
    },
    /// Trusted peers are listed, but `trust_proxy` is off.
    #[error("E16: {setting} is set but trust_proxy is off; forwarded headers are ignored")]
    ListWithoutTrust {
        /// The setting.
        setting: &'static str,
    },
    /// A header of the family that is not read.
    #[error(
        "prefix_from_header is on but has no effect: with forwarded_source = \"forwarded\", X-Forwarded-Prefix is not read, because a proxy that writes Forwarded passes on what the client has sent. Set root_path or mounts, or forwarded_source = \"x-forwarded\""
    )]
    PrefixNotRead,
    /// Decisions are not carried out.
    #[error(
        "report_only is on: decisions are counted and logged, but forged headers pass unchanged"
    )]
    ReportOnly,
}
