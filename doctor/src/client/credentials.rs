//! Reads the cookies and header fields that are added to each request, from files, so that no secret is in an argument.

use std::fmt;

use crate::client::site::Site;

/// Cookies and fields that are added to each request. Values are never shown.
#[derive(Clone, Default)]
pub struct Credentials {
    cookies: Vec<Cookie>,
    /// The names and values of fields.
    fields: Vec<(String, String)>,
}

#[derive(Clone)]
struct Cookie {
    name: String,
    value: String,
    /// Where it belongs; `None` for one that the user has written for the site.
    scope: Option<Scope>,
}

/// The columns of a Netscape cookie file that say to whom a cookie belongs. Such a file has the cookies of every site that the
/// browser knows.
#[derive(Clone)]
struct Scope {
    host: String,
    covers_subdomains: bool,
    path: String,
    needs_tls: bool,
}

impl Scope {
    fn covers(&self, site: &Site) -> bool {
        let host = site.host.to_string();
        let is_below = || {
            host.strip_suffix(&self.host)
                .is_some_and(|rest| rest.ends_with('.'))
        };
        let path = self.path.trim_end_matches('/');
        let is_on_path = site
            .mount
            .strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (host == self.host || self.covers_subdomains && is_below())
            && is_on_path
            && (site.is_tls || !self.needs_tls)
    }
}

/// The error when a file of cookies or fields cannot be used. It contains no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A line of a cookie file.
    #[error(
        "line {0} of the cookie file is neither `name=value` pairs separated by `; `, nor a line of a Netscape cookie file"
    )]
    Cookie(usize),
    /// A line of a header file.
    #[error(
        "line {0} of the header file is not `Name: value`, with a visible name and a value in one line"
    )]
    Field(usize),
    /// A field that the doctor sets itself.
    #[error("line {0} of the header file sets `{1}`, which the doctor sets itself")]
    Reserved(usize, String),
}

impl Credentials {
    /// Adds the cookies of a file: the value of a `Cookie` field, or a file as curl and browsers' extensions write it
    /// (Netscape format).
    ///
    /// # Errors
    ///
    /// If a line has another form.
    pub fn add_cookies(&mut self, text: &str) -> Result<(), CredentialsError> {
        for (index, line) in text.lines().enumerate() {
            let line = line.strip_prefix("#HttpOnly_").unwrap_or(line).trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let columns: Vec<&str> = line.split('\t').collect();
            if let [host, covers_subdomains, path, needs_tls, _, name, value] = columns.as_slice() {
                if !is_token(name) || !value.bytes().all(is_visible) {
                    return Err(CredentialsError::Cookie(index.saturating_add(1)));
                }
                self.cookies.push(Cookie {
                    name: (*name).to_owned(),
                    value: (*value).to_owned(),
                    scope: Some(Scope {
                        host: host.trim_start_matches('.').to_ascii_lowercase(),
                        covers_subdomains: covers_subdomains.eq_ignore_ascii_case("true"),
                        path: (*path).to_owned(),
                        needs_tls: needs_tls.eq_ignore_ascii_case("true"),
                    }),
                });
                continue;
            }
            let line = line.strip_prefix("Cookie:").unwrap_or(line);
            for pair in line
                .split(';')
                .map(str::trim)
                .filter(|pair| !pair.is_empty())
            {
                let pair = pair
                    .split_once('=')
                    .filter(|(name, value)| is_token(name) && value.bytes().all(is_visible));
                let (name, value) =
                    pair.ok_or(CredentialsError::Cookie(index.saturating_add(1)))?;
                self.cookies.push(Cookie {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    scope: None,
                });
            }
        }
        Ok(())
    }

    /// Adds the fields of a file, one `Name: value` in each line.
    ///
    /// # Errors
    ///
    /// If a line has another form, or names a field that the doctor sets itself.
    pub fn add_fields(&mut self, text: &str) -> Result<(), CredentialsError> {
        for (index, line) in text.lines().enumerate() {
            let number = index.saturating_add(1);
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let field = line
                .split_once(':')
                .map(|(name, value)| (name, value.trim()));
            let field =
                field.filter(|(name, value)| is_token(name) && value.bytes().all(is_visible));
            let (name, value) = field.ok_or(CredentialsError::Field(number))?;
            if RESERVED
                .iter()
                .any(|reserved| reserved.eq_ignore_ascii_case(name))
            {
                return Err(CredentialsError::Reserved(number, name.to_owned()));
            }
            if name.eq_ignore_ascii_case("cookie") {
                self.add_cookies(value)
                    .map_err(|_| CredentialsError::Field(number))?;
            } else {
                self.fields.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }

    /// Returns true if there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.cookies.is_empty() && self.fields.is_empty()
    }

    /// Returns what may be sent to a site: a cookie that a browser keeps for another one is left out.
    pub(crate) fn for_site(mut self, site: &Site) -> Self {
        self.cookies.retain(|cookie| {
            let scope = cookie.scope.as_ref();
            scope.is_none_or(|scope| scope.covers(site))
        });
        self
    }

    /// Returns the names and values of the cookies.
    pub(crate) fn cookies(&self) -> impl Iterator<Item = (&str, &str)> {
        self.cookies
            .iter()
            .map(|cookie| (cookie.name.as_str(), cookie.value.as_str()))
    }

    pub(crate) fn fields(&self) -> &[(String, String)] {
        &self.fields
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cookies: Vec<&str> = self.cookies().map(|(name, _)| name).collect();
        let fields: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Credentials")
            .field("cookies", &cookies)
            .field("fields", &fields)
            .finish()
    }
}

fn is_token(name: &str) -> bool {
    let is_separator = |octet| b"()<>@,;:\\\"/[]?={}".contains(&octet);
    !name.is_empty()
        && name
            .bytes()
            .all(|octet| octet.is_ascii_graphic() && !is_separator(octet))
}

fn is_visible(octet: u8) -> bool {
    octet == b'\t' || !octet.is_ascii_control()
}

const RESERVED: [&str; 9] = [
    "host",
    "connection",
    "upgrade",
    "content-length",
    "transfer-encoding",
    "expect",
    "origin",
    "sec-websocket-key",
    "sec-websocket-version",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_read_in_both_forms() {
        for text in [
            "a=1; b=x=y\n",
            "Cookie: a=1; b=x=y",
            "# Netscape HTTP Cookie File\n.example.com\tTRUE\t/\tTRUE\t0\ta\t1\n#HttpOnly_example.com\tFALSE\t/\tTRUE\t0\tb\tx=y",
        ] {
            let mut read = Credentials::default();
            read.add_cookies(text).expect(text);
            assert!(read.cookies().eq([("a", "1"), ("b", "x=y")]), "{text}");
        }
    }

    #[test]
    fn a_cookie_of_a_browser_is_sent_to_its_own_site_only() {
        for (line, site, is_sent) in [
            (
                ".example.com\tTRUE\t/\tTRUE",
                "https://a.example.com/m",
                true,
            ),
            (".example.com\tTRUE\t/\tTRUE", "https://example.com/m", true),
            (
                "a.example.com\tFALSE\t/m\tFALSE",
                "http://a.example.com/m",
                true,
            ),
            (
                "a.example.com\tFALSE\t/m/\tFALSE",
                "http://a.example.com/m/n",
                true,
            ),
            (
                "a.example.com\tFALSE\t/\tTRUE",
                "http://a.example.com/m",
                false,
            ),
            (
                "a.example.com\tFALSE\t/n\tTRUE",
                "https://a.example.com/m",
                false,
            ),
            (
                "a.example.com\tFALSE\t/m\tTRUE",
                "https://a.example.com/mm",
                false,
            ),
            (
                "example.com\tFALSE\t/\tTRUE",
                "https://a.example.com/m",
                false,
            ),
            (
                ".example.com\tTRUE\t/\tTRUE",
                "https://badexample.com/m",
                false,
            ),
            (
                "bank.example\tFALSE\t/\tTRUE",
                "https://a.example.com/m",
                false,
            ),
        ] {
            let mut read = Credentials::default();
            read.add_cookies(&format!("{line}\t0\ta\t1")).expect(line);
            let site = Site::parse(site).expect("a URL");
            assert_eq!(!read.for_site(&site).is_empty(), is_sent, "{line} {site:?}");
        }
    }

    #[test]
    fn errors_name_the_line_and_no_value() {
        let error = Credentials::default()
            .add_cookies("a=1\nhunter2")
            .expect_err("no pair");
        assert_eq!(error, CredentialsError::Cookie(2));
        assert!(!error.to_string().contains("hunter2"));
        let error = Credentials::default()
            .add_fields("Authorization hunter2")
            .expect_err("no colon");
        assert_eq!(error, CredentialsError::Field(1));
        let error = Credentials::default()
            .add_fields("Host: x")
            .expect_err("reserved");
        assert_eq!(error, CredentialsError::Reserved(1, "Host".into()));
    }

    #[test]
    fn values_are_not_shown() {
        let mut read = Credentials::default();
        read.add_cookies("session=hunter2").expect("cookies");
        read.add_fields("Authorization: Bearer hunter2")
            .expect("fields");
        let shown = format!("{read:?}");
        assert!(shown.contains("session") && shown.contains("Authorization"));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
