//! Which app is a request for?
//!
//! Mounts lie in a tree of path segments, and at each place in a table of hosts, so that finding one costs the same
//! among hundreds as alone. The longest mount that covers the path wins; where two hosts' entries lie at the same
//! path, the more specific host does.

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
    pub(crate) shape: PathShape,
    pub(crate) upstream_path: UpstreamPath,
    pub(crate) redirect_bare_mount: bool,
    pub(crate) cookie_path: CookiePath,
    /// Names by which the app calls itself.
    pub(crate) own_names: Vec<Authority>,
    /// The address under which browsers know the app, if it is fixed.
    pub(crate) public: Option<PublicBase>,
}

impl App {
    /// Reads one entry of `mounts`, or the settings of the only one. `at` is where the entry stands; what it leaves
    /// out is as in `top`.
    pub(crate) fn read(
        at: &str,
        written: MountConfig,
        top: &App,
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
            Some(root_path) => Mount::read(&root_path).unwrap_or_else(|value| {
                errors.push(ConfigError::Mount {
                    setting: format!("{at}root_path"),
                    value,
                });
                Mount::default()
            }),
        };
        let public = match public_base_url {
            None => top.public.clone(),
            Some(value) => {
                let read = PublicBase::read(&value);
                if read.is_none() {
                    errors.push(ConfigError::BaseUrl {
                        setting: format!("{at}public_base_url"),
                        value,
                    });
                }
                read
            }
        };
        Self {
            mount,
            shape: root_path_shape.unwrap_or(top.shape),
            upstream_path: upstream_path.unwrap_or(top.upstream_path),
            redirect_bare_mount: redirect_bare_mount.unwrap_or(top.redirect_bare_mount),
            cookie_path: cookie_path.unwrap_or(top.cookie_path),
            own_names: match upstream_authorities {
                None => top.own_names.clone(),
                Some(names) => {
                    read_authorities(&format!("{at}upstream_authorities"), names, errors)
                }
            },
            public,
        }
    }

    /// `scheme://host:port` of the URLs that are written for this app.
    pub(crate) fn origin(&self, effective: &Effective) -> Option<String> {
        match &self.public {
            Some(public) => public.origin.origin(),
            None => effective.origin(),
        }
    }
}

/// All published apps.
#[derive(Debug, Clone, Default)]
pub(crate) struct AppTable {
    /// Those whose mount is in the path.
    root: Segment,
    /// Those whose mount is not, or not always.
    without_mount: HostTable<Arc<App>>,
}

#[derive(Debug, Clone, Default)]
struct Segment {
    apps: HostTable<Arc<App>>,
    below: BTreeMap<Vec<u8>, Segment>,
}

/// Where a path leads.
pub(crate) enum Found<'s, 'p> {
    /// To this app; the rest of the path after the mount, empty for the mount itself.
    Under(&'s Arc<App>, &'p [u8]),
    /// To this app, without its mount in the path.
    Bare(&'s Arc<App>),
    /// Nowhere.
    Outside,
}

impl AppTable {
    /// Adds an app; `Err` names the entry of `mounts` that no request could tell from it.
    pub(crate) fn add(&mut self, app: &Arc<App>, hosts: &[HostPattern]) -> Result<(), Ambiguity> {
        for host in hosts {
            if app.shape != PathShape::Stripped {
                let mut place = &mut self.root;
                for segment in app.mount.as_str().split('/').skip(1) {
                    place = place.below.entry(segment.as_bytes().to_vec()).or_default();
                }
                if place.apps.insert(host.clone(), Arc::clone(app)).is_some() {
                    return Err(Ambiguity::SameMount);
                }
            }
            if app.shape != PathShape::Full
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

    pub(crate) fn find<'p>(&self, host: Option<&str>, path: &'p [u8]) -> Found<'_, 'p> {
        let mut found = self.root.apps.find(host).map(|app| (app, path));
        let (mut place, mut rest) = (&self.root, path);
        while let [b'/', after @ ..] = rest {
            let end = after
                .iter()
                .position(|octet| *octet == b'/')
                .unwrap_or(after.len());
            let Some((segment, behind)) = after.split_at_checked(end) else {
                break;
            };
            let Some(below) = place.below.get(decode_unreserved(segment).as_ref()) else {
                break;
            };
            (place, rest) = (below, behind);
            if let Some(app) = below.apps.find(host) {
                found = Some((app, rest));
            }
        }
        match found {
            Some((app, rest)) => Found::Under(app, rest),
            None => match self.without_mount.find(host) {
                Some(app) => Found::Bare(app),
                None => Found::Outside,
            },
        }
    }
}

/// Why an app cannot be added.
pub(crate) enum Ambiguity {
    /// Another one has the same mount and host.
    SameMount,
    /// Another one of the same host takes paths without a mount.
    SameHost,
}

/// Escaped unreserved characters equal the characters themselves, RFC 3986 §6.2.2.2.
fn decode_unreserved(segment: &[u8]) -> Cow<'_, [u8]> {
    if !segment.contains(&b'%') {
        return Cow::Borrowed(segment);
    }
    let mut decoded = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [octet, after @ ..] = rest {
        rest = after;
        let mut octet = *octet;
        if let (b'%', [high, low, behind @ ..]) = (octet, after)
            && let Some(escaped) = decode_hex(*high, *low)
            && is_unreserved(escaped)
        {
            octet = escaped;
            rest = behind;
        }
        decoded.push(octet);
    }
    Cow::Owned(decoded)
}

pub(crate) fn read_authorities(
    setting: &str,
    written: Vec<String>,
    errors: &mut Vec<ConfigError>,
) -> Vec<Authority> {
    let mut read = Vec::with_capacity(written.len());
    for value in written {
        match Authority::read(value.as_bytes()) {
            Some(authority) => read.push(authority),
            None => errors.push(ConfigError::Authority {
                setting: setting.to_owned(),
                value,
            }),
        }
    }
    read
}
