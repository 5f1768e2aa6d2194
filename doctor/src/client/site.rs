//! Splits the URL that is probed into what a request needs.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use url::{Host, Url};

/// The app as browsers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// True for `https`.
    pub is_tls: bool,
    /// The host: a name, or an address.
    pub host: Host<String>,
    /// The port.
    pub port: u16,
    /// The path under which the app is published, without the last slash; empty for none.
    pub mount: String,
    /// Where to connect to instead of the addresses of the host.
    pub connect_to: Vec<ConnectTo>,
}

/// An address to connect to instead of those that the host's name has: a front that DNS does not point to yet, or one of
/// several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectTo {
    /// The port of the URL that this is for; `None`: any other port.
    pub port: Option<u16>,
    /// Where to connect to.
    pub address: SocketAddr,
}

/// The error when an address to connect to cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither an address with a port, such as 192.0.2.1:8443 or [2001:db8::1]:8443, nor that after the port of the URL, such as 80=192.0.2.1:8080"
)]
pub struct ConnectToError(String);

/// The error when a URL is not that of an app.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// It is no URL.
    #[error(
        "`{0}` is not a URL: {1}; write the one that browsers use, such as https://portal.example.com/apps/my-app"
    )]
    Url(String, url::ParseError),
    /// It has another scheme, or no host.
    #[error("`{0}` must begin with http:// or https:// and have a host")]
    Scheme(String),
    /// It contains a password or a query.
    #[error(
        "the URL must not contain a user, a password, a query or a fragment; use --header-file and --cookie-file for secrets"
    )]
    Secret,
}

impl FromStr for ConnectTo {
    type Err = ConnectToError;

    fn from_str(text: &str) -> Result<Self, ConnectToError> {
        let error = || ConnectToError(text.to_owned());
        let (port, address) = match text.split_once('=') {
            Some((port, address)) => (Some(port.parse().map_err(|_| error())?), address),
            None => (None, text),
        };
        let address = address.parse().map_err(|_| error())?;
        Ok(Self { port, address })
    }
}

impl Site {
    /// Parses a URL such as `https://portal.example.com/apps/my-app`.
    ///
    /// # Errors
    ///
    /// If it is not the URL of an app.
    pub fn parse(text: &str) -> Result<Self, SiteError> {
        let url = Url::parse(text).map_err(|error| SiteError::Url(text.to_owned(), error))?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some() || url.fragment().is_some() {
            return Err(SiteError::Secret);
        }
        let is_tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(SiteError::Scheme(text.to_owned())),
        };
        let host = url.host().map(|host| host.to_owned());
        Ok(Self {
            is_tls,
            host: host.ok_or_else(|| SiteError::Scheme(text.to_owned()))?,
            port: url
                .port_or_known_default()
                .unwrap_or(if is_tls { 443 } else { 80 }),
            mount: url.path().trim_end_matches('/').to_owned(),
            connect_to: Vec::new(),
        })
    }

    /// Returns the scheme.
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// Returns the host with its port unless it is the default one, as in `Host`.
    pub fn authority(&self) -> String {
        let default = if self.is_tls { 443 } else { 80 };
        if self.port == default {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Returns the origin of the page, as a browser sends it.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    /// Returns the path of `rest`, which begins with a slash, under the mount.
    pub fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.mount)
    }

    /// Returns the URL of the app.
    pub fn url(&self) -> String {
        format!("{}{}/", self.origin(), self.mount)
    }

    /// Returns the addresses to connect to for this port that are given: those for this port, or else those for any.
    pub fn addresses_for(&self, port: u16) -> Vec<SocketAddr> {
        let of = |port: Option<u16>| -> Vec<SocketAddr> {
            let entries = self.connect_to.iter().filter(|entry| entry.port == port);
            entries.map(|entry| entry.address).collect()
        };
        let for_port = of(Some(port));
        if for_port.is_empty() {
            of(None)
        } else {
            for_port
        }
    }

    /// Returns the address, if the host is one.
    pub fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split() {
        for (text, origin, mount, port) in [
            (
                "https://Portal.example.com/apps/my-app/",
                "https://portal.example.com",
                "/apps/my-app",
                443,
            ),
            ("http://[::1]:8000", "http://[::1]:8000", "", 8000),
            ("http://127.0.0.1:80/", "http://127.0.0.1", "", 80),
        ] {
            let site = Site::parse(text).expect(text);
            assert_eq!(
                (site.origin().as_str(), site.mount.as_str(), site.port),
                (origin, mount, port)
            );
        }
    }

    #[test]
    fn a_connection_goes_to_the_addresses_for_its_port() {
        let mut site = Site::parse("https://portal.example.com").expect("a URL");
        assert_eq!(site.addresses_for(443), []);
        for text in ["80=192.0.2.1:8080", "[2001:db8::1]:8443", "192.0.2.1:8443"] {
            site.connect_to.push(text.parse().expect(text));
        }
        for (port, expected) in [
            (80, &["192.0.2.1:8080"][..]),
            (443, &["[2001:db8::1]:8443", "192.0.2.1:8443"]),
        ] {
            let addresses = site.addresses_for(port);
            let addresses = addresses.iter().map(ToString::to_string);
            assert!(addresses.eq(expected.iter().copied()), "{port}");
        }
        for text in [
            "portal.example.com:80",
            "192.0.2.1",
            "x=192.0.2.1:80",
            "80=",
        ] {
            assert!(text.parse::<ConnectTo>().is_err(), "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_showing_a_password() {
        for text in [
            "portal.example.com",
            "ftp://portal.example.com",
            "https://a:hunter2@b/",
            "https://b/?token=hunter2",
        ] {
            let error = Site::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
