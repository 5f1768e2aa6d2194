//! Finds the app that a request is for.
//!
//! Mounts are stored in a tree of path segments, with a table of hosts at each node, so that a look-up costs the same for
//! one app as for hundreds. The longest mount that covers the path wins; of several hosts at the same path, the most
//! specific one wins.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::{CookiePath, MountConfig, PathShape, UpstreamPath};
use crate::config_error::ConfigError;
use crate::effective::{Authority, Effective, PublicBase};
use crate::hosts::{HostPattern, HostTable};
use crate::mount::{Mount, decode_hex, is_unreserved};

/// One published app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct App {
    pub(crate) mount: Mount,
    pub(crate) path_shape: PathShape,
    pub(crate) upstream_path: UpstreamPath,
    pub(crate) redirect_bare_mount: bool,
    pub(crate) cookie_path: CookiePath,
    /// Names by which the app refers to itself in redirects.
    pub(crate) upstream_authorities: Vec<Authority>,
    /// The URL under which browsers know the app, if it is fixed.
    pub(crate) public_base: Option<PublicBase>,
}

impl App {
    /// Builds an app from an entry of `mounts`, or from the top-level settings if there is only one app.
    ///
    /// `path`: the path of the entry in the settings, such as `mounts[2].`. `defaults`: the values of absent settings.
    pub(crate) fn from_config(
        path: &str,
        written: MountConfig,
        defaults: &App,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let MountConfig {
            cookie_path,
            hosts: _,
            public_base_url,
            redirect_bare_mount,
            root_path,
            root_path_shape,
            upstream_authorities,
            upstream_path,
        } = written;
        let mount = match root_path {
            None => Mount::default(),
            Some(root_path) => Mount::parse(&root_path).unwrap_or_else(|value| {
                errors.push(ConfigError::Mount {
                    setting: format!("{path}root_path"),
                    value,
                });
                Mount::default()
            }),
        };
        let public_base = match public_base_url {
            None => defaults.public_base.clone(),
            Some(value) => {
                let public_base = PublicBase::parse(&value);
                if public_base.is_none() {
                    errors.push(ConfigError::BaseUrl {
                        setting: format!("{path}public_base_url"),
                        value: without_user(&value),
                    });
                }
                public_base
            }
        };
        Self {
            mount,
            path_shape: root_path_shape.unwrap_or(defaults.path_shape),
            upstream_path: upstream_path.unwrap_or(defaults.upstream_path),
            redirect_bare_mount: redirect_bare_mount.unwrap_or(defaults.redirect_bare_mount),
            cookie_path: cookie_path.unwrap_or(defaults.cookie_path),
            upstream_authorities: match upstream_authorities {
                None => defaults.upstream_authorities.clone(),
                Some(names) => {
                    parse_authorities(&format!("{path}upstream_authorities"), names, errors)
                }
            },
            public_base,
        }
    }

    /// Returns `scheme://host:port` for the URLs of this app.
    pub(crate) fn origin(&self, effective: &Effective) -> Option<String> {
        match &self.public_base {
            Some(public) => public.origin.origin(),
            None => effective.origin(),
        }
    }
}

/// Returns a URL as it may be shown: without the user, and so without a password. It may be no URL at all, such as one without
/// its scheme.
fn without_user(url: &str) -> String {
    let start = url.find("://").map_or(0, |colon| colon.saturating_add(3));
    let (scheme, rest) = url.split_at_checked(start).unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => [scheme, "[REDACTED]@", host, path].concat(),
        None => url.to_owned(),
    }
}

/// All published apps.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppTable {
    /// Apps whose mount is in the path.
    root: Segment,
    /// Apps whose mount may be missing from the path.
    without_mount: HostTable<Arc<App>>,
}

#[derive(Debug, Clone, Default)]
struct Segment {
    apps: HostTable<Arc<App>>,
    children: BTreeMap<Vec<u8>, Segment>,
}

/// The result of a look-up.
pub(crate) enum Found<'s, 'p> {
    /// The app whose mount the path is under, and the rest of the path after the mount, empty for the mount itself.
    WithMount(&'s Arc<App>, &'p [u8]),
    /// The app of a path that does not include the mount.
    WithoutMount(&'s Arc<App>),
    /// The path is outside every mount.
    Outside,
}

impl AppTable {
    /// Adds an app. `Err` says why requests for it would be ambiguous.
    pub(crate) fn add(&mut self, app: &Arc<App>, hosts: &[HostPattern]) -> Result<(), Ambiguity> {
        for host in hosts {
            if app.path_shape != PathShape::Stripped {
                let mut node = &mut self.root;
                for segment in app.mount.as_str().split('/').skip(1) {
                    node = node
                        .children
                        .entry(segment.as_bytes().to_vec())
                        .or_default();
                }
                if node.apps.insert(host.clone(), Arc::clone(app)).is_some() {
                    return Err(Ambiguity::SameMount);
                }
            }
            if app.path_shape != PathShape::Full
                && self
                    .without_mount
                    .insert(host.clone(), Arc::clone(app))
                    .is_some()
            {
                return Err(Ambiguity::SameHost);
            }
        }
        Ok(())
    }

    /// Finds the app for a host and a path.
    pub(crate) fn find<'p>(&self, host: Option<&str>, path: &'p [u8]) -> Found<'_, 'p> {
        let mut found = self.root.apps.find(host).map(|app| (app, path));
        let (mut node, mut rest) = (&self.root, path);
        while let [b'/', after @ ..] = rest {
            let end = after
                .iter()
                .position(|octet| *octet == b'/')
                .unwrap_or(after.len());
            let Some((segment, tail)) = after.split_at_checked(end) else {
                break;
            };
            let Some(child) = node.children.get(decode_unreserved(segment).as_ref()) else {
                break;
            };
            (node, rest) = (child, tail);
            if let Some(app) = child.apps.find(host) {
                found = Some((app, rest));
            }
        }
        match found {
            Some((app, rest)) => Found::WithMount(app, rest),
            None => match self.without_mount.find(host) {
                Some(app) => Found::WithoutMount(app),
                None => Found::Outside,
            },
        }
    }
}

/// Why requests for two apps would be ambiguous.
pub(crate) enum Ambiguity {
    /// Both have the same mount and host.
    SameMount,
    /// Both have the same host and accept paths without their mount.
    SameHost,
}

/// Decodes escaped unreserved characters, which equal the characters themselves, RFC 3986 §6.2.2.2.
fn decode_unreserved(segment: &[u8]) -> Cow<'_, [u8]> {
    if !segment.contains(&b'%') {
        return Cow::Borrowed(segment);
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [octet, after @ ..] = rest {
        rest = after;
        let mut octet = *octet;
        if let (b'%', [high, low, tail @ ..]) = (octet, after)
            && let Some(escaped) = decode_hex(*high, *low)
            && is_unreserved(escaped)
        {
            octet = escaped;
            rest = tail;
        }
        decoded.push(octet);
    }
    Cow::Owned(decoded)
}

/// Parses the authorities that a setting lists.
pub(crate) fn parse_authorities(
    setting: &str,
    written: Vec<String>,
    errors: &mut Vec<ConfigError>,
) -> Vec<Authority> {
    let mut authorities = Vec::with_capacity(written.len());
    for value in written {
        match Authority::parse(value.as_bytes()) {
            Some(authority) => authorities.push(authority),
            None => errors.push(ConfigError::Authority {
                setting: setting.to_owned(),
                value,
            }),
        }
    }
    authorities
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_not_shown() {
        for (url, shown) in [
            (
                "https://u:hunter2@a.example/p@q",
                "https://[REDACTED]@a.example/p@q",
            ),
            (
                "https://u:hunter2@x@a.example",
                "https://[REDACTED]@a.example",
            ),
            ("u:hunter2@a.example", "[REDACTED]@a.example"),
            ("https://a.example/p@q", "https://a.example/p@q"),
            ("https://a.example?u@v", "https://a.example?u@v"),
            ("", ""),
            ("://", "://"),
        ] {
            assert_eq!(without_user(url), shown, "{url}");
        }
    }
}
