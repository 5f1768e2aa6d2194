//! What is wrong with a configuration, said so that one look at the log is enough to mend it?
//!
//! All errors are reported together, each with a stable code, the setting, the value and what is accepted.

use std::fmt;

/// A configuration that cannot be used, with every fault that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub(crate) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of the settings' importance.
    pub fn errors(&self) -> &[ConfigError] {
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
        setting: String,
        /// The value.
        value: String,
    },
    /// A URL that is no public address of an app.
    #[error(
        "{setting} \"{value}\" must be like https://portal.example.com/apps/my-app: http or https, a host, and no query, fragment or user."
    )]
    BaseUrl {
        /// The setting.
        setting: String,
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
    /// The configuration is not JSON.
    #[error("the configuration is not a JSON object: {problem}.")]
    Document {
        /// Where and why.
        problem: String,
    },
    /// Two mounts that the same request could mean.
    #[error("{one} and {other} {problem}.")]
    DoubleMount {
        /// The first entry.
        one: String,
        /// The second.
        other: String,
        /// What they have in common.
        problem: String,
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
    /// An identity that is no URI.
    #[error(
        "trusted_identities \"{value}\" must be a URI such as spiffe://cluster.local/ns/istio-system/sa/ingress, written whole; there are no patterns."
    )]
    Identity {
        /// The value.
        value: String,
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
    /// A setting without which the group makes no sense.
    #[error("{setting} is missing.")]
    Missing {
        /// The setting.
        setting: String,
    },
    /// A mount that is none.
    #[error(
        "{setting} \"{value}\" must be like /apps/my-app: letters, digits, . _ ~ - and single slashes, at most 256 bytes."
    )]
    Mount {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
    },
    /// One mount beside several.
    #[error("mounts and {setting} exclude each other; write {setting} into each entry of mounts.")]
    MountsAndOne {
        /// The setting that is meant for one mount.
        setting: &'static str,
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
    /// A key that is no setting.
    #[error("unknown key \"{key}\"; {hint}expected one of {expected}.")]
    UnknownKey {
        /// The key, with where it stands.
        key: String,
        /// `did you mean ...?`, if there is a setting of nearly that name.
        hint: String,
        /// The settings there are.
        expected: String,
    },
    /// A word that is none of the accepted ones.
    #[error("unknown {setting} \"{value}\"; expected one of {expected}.")]
    UnknownKeyword {
        /// The setting.
        setting: String,
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
            Self::DoubleMount { .. } | Self::Mount { .. } | Self::MountsAndOne { .. } => "E12",
            Self::HstsMaxAge => "E13",
            Self::HstsPreload => "E14",
            Self::Authority { .. }
            | Self::BaseUrl { .. }
            | Self::Document { .. }
            | Self::HeaderName { .. }
            | Self::HeaderText { .. }
            | Self::Identity { .. }
            | Self::Missing { .. }
            | Self::PeerKey
            | Self::Type { .. }
            | Self::UnknownKey { .. }
            | Self::UnknownKeyword { .. } => "E15",
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
    /// Somebody to trust, but no trust.
    #[error("E16: {setting} is set but trust_proxy is off; forwarded headers are ignored")]
    ListWithoutTrust {
        /// The setting.
        setting: &'static str,
    },
    /// Nothing is changed.
    #[error(
        "report_only is on: decisions are counted and logged, but forged headers pass unchanged"
    )]
    ReportOnly,
}
