//! Splits the URL that is probed into what a request needs.

use std::net::IpAddr;

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
}

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
