//! Finds the app and the path for a request, or redirects the client.

use std::sync::Arc;

use crate::address::trim;
use crate::app::{App, AppTable, Found};
use crate::config::{OutsideMount, PathShape, UpstreamPath};
use crate::decision::Reply;
use crate::decision_record::{ArrivedPath, MountOutcome};
use crate::effective::Scheme;
use crate::exchange::{Exchange, ForwardedPrefix, SentPath};
use crate::fields::{Field, Fields};
use crate::message::Request;
use crate::mount::Mount;
use crate::reason::Reason;
use crate::target::{Target, collapse_leading_slashes};

/// Routes requests as configured.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    pub(crate) apps: AppTable,
    /// The settings that apply outside every mount.
    pub(crate) outside: Arc<App>,
    pub(crate) has_mounts: bool,
    pub(crate) outside_mount: OutsideMount,
    pub(crate) prefix_from_header: bool,
    pub(crate) redirect_to_https: bool,
}

/// The app that a request is for, and the path within that app.
pub(crate) struct Route<'s, 'p> {
    pub(crate) app: &'s Arc<App>,
    pub(crate) forwarded_prefix: ForwardedPrefix,
    /// What follows the mount in the path; empty for the mount itself.
    rest: &'p [u8],
    /// The path without the mount.
    pub(crate) stripped: &'p [u8],
    pub(crate) is_under_mount: bool,
    /// True if the path included the mount.
    has_mount: bool,
}

impl Router {
    /// Finds the app for a request, and the path within that app.
    pub(crate) fn find<'s, 'p>(
        &'s self,
        request: &Request<'_>,
        fields: Fields<'_>,
        peer_trusted: bool,
        path: &'p [u8],
        host: Option<&str>,
    ) -> Result<Route<'s, 'p>, Reason> {
        let route = |app: &'s Arc<App>, prefix: &Mount, rest: &'p [u8]| Route {
            forwarded_prefix: if prefix.is_none() {
                ForwardedPrefix::OfApp
            } else {
                ForwardedPrefix::Joined(prefix.join(&app.mount))
            },
            app,
            rest,
            stripped: match rest {
                [] => b"/",
                rest => collapse_leading_slashes(rest),
            },
            is_under_mount: true,
            has_mount: true,
        };
        if request.is_reentry
            && let Some((app, prefix)) = self.app_of_first_pass(fields, host)
        {
            // The upstream redirects to its own paths: with the mount if it receives the mount, otherwise without.
            let rest = match app.upstream_path {
                UpstreamPath::Full => prefix.join(&app.mount).strip(path).unwrap_or(path),
                UpstreamPath::Stripped => path,
            };
            return Ok(route(app, &prefix, rest));
        }
        let prefix = if peer_trusted && self.prefix_from_header {
            forwarded_prefix(fields)
        } else {
            Mount::default()
        };
        match self.apps.find(host, path) {
            Found::WithMount(app, rest) => Ok(route(app, &prefix, rest)),
            Found::WithoutMount(app) => Ok(Route {
                has_mount: false,
                ..route(app, &prefix, collapse_leading_slashes(path))
            }),
            Found::Outside => match self.outside_mount {
                OutsideMount::Pass => Ok(Route {
                    app: &self.outside,
                    forwarded_prefix: ForwardedPrefix::None,
                    rest: path,
                    stripped: collapse_leading_slashes(path),
                    is_under_mount: false,
                    has_mount: false,
                }),
                OutsideMount::Reject => Err(Reason::OutsideMount),
            },
        }
    }

    /// Returns true if a trusted peer sent an `X-Forwarded-Prefix` that [`Router::find`] ignores. A field that only says that
    /// there is no prefix is not ignored.
    pub(crate) fn ignores_prefix(
        &self,
        request: &Request<'_>,
        fields: Fields<'_>,
        peer_trusted: bool,
    ) -> bool {
        self.prefix_from_header
            && peer_trusted
            && !request.is_reentry
            && forwarded_prefix(fields).is_none()
            && fields
                .lines(Field::XForwardedPrefix)
                .any(|value| !value.iter().all(|octet| *octet == b'/'))
    }

    /// Finds, on re-entry, the app of the first pass by the `X-Forwarded-Prefix` that was set then, and the prefix that a
    /// header had put in front of its mount.
    fn app_of_first_pass(
        &self,
        fields: Fields<'_>,
        host: Option<&str>,
    ) -> Option<(&Arc<App>, Mount)> {
        let whole = forwarded_prefix(fields);
        let whole = whole.as_str();
        whole.match_indices('/').find_map(|(start, _)| {
            let (prefix, mount) = whole.split_at_checked(start)?;
            match self.apps.find(host, mount.as_bytes()) {
                Found::WithMount(app, []) => Some((app, Mount::parse(prefix).ok()?)),
                Found::WithoutMount(app) if app.mount.as_str() == mount => {
                    Some((app, Mount::parse(prefix).ok()?))
                }
                _ => None,
            }
        })
    }

    /// Returns the reply that the client gets because it must use another URL; `None` if the request is forwarded.
    pub(crate) fn redirect(
        &self,
        request: &Request<'_>,
        fields: Fields<'_>,
        exchange: &Exchange,
        route: &Route<'_, '_>,
        target: &Target<'_>,
    ) -> Option<Reply> {
        if request.is_reentry {
            return None;
        }
        let is_read = matches!(request.method, b"GET" | b"HEAD");
        let public = exchange.public_mount();
        let public = public.as_str();
        if self.redirect_to_https
            && exchange.effective.scheme == Scheme::Http
            && !HEALTH_PATHS.contains(&route.stripped)
        {
            if is_grpc(fields) {
                return Some(Reason::PlainGrpc.into());
            }
            if is_websocket(request, fields) {
                return Some(Reason::PlainWebSocket.into());
            }
            if !is_read {
                return None;
            }
            // Without a host, no URL can be written.
            let Some(origin) = https_origin(exchange) else {
                return Some(Reason::BadHost.into());
            };
            let path = match route.is_under_mount {
                true => [public.as_bytes(), route.rest].concat(),
                false => route.stripped.to_vec(),
            };
            let path = collapse_leading_slashes(&path);
            let slash: &[u8] = if path.is_empty() { b"/" } else { b"" };
            return Some(Reply {
                reason: Reason::PlainHttp,
                location: Some([origin.as_bytes(), path, slash, target.query].concat()),
            });
        }
        let follows_redirects = is_read && !fields.has_any(&[Field::Upgrade]) && !is_grpc(fields);
        if route.rest.is_empty() && exchange.app.redirect_bare_mount && follows_redirects {
            return Some(Reply {
                reason: Reason::BareMount,
                location: Some([public.as_bytes(), b"/", target.query].concat()),
            });
        }
        None
    }
}

impl<'p> Route<'_, 'p> {
    fn prefix(&self) -> &Mount {
        self.forwarded_prefix.of(self.app)
    }

    /// Returns the outcome to record; `None` if there are no mounts.
    pub(crate) fn outcome(&self, has_mounts: bool) -> Option<MountOutcome> {
        has_mounts.then_some(if self.is_under_mount {
            MountOutcome::Hit
        } else {
            MountOutcome::Miss
        })
    }

    /// Returns whether the path arrived with the mount; `None` unless both are accepted.
    pub(crate) fn arrived(&self) -> Option<ArrivedPath> {
        let is_either = self.is_under_mount
            && self.app.path_shape == PathShape::Auto
            && !self.app.mount.is_none();
        is_either.then_some(if self.has_mount {
            ArrivedPath::Full
        } else {
            ArrivedPath::Stripped
        })
    }

    /// Returns the form of the path to send upstream.
    pub(crate) fn sent_path(&self) -> SentPath {
        if !self.is_under_mount || (self.prefix().is_none() && self.app.public_base.is_none()) {
            return SentPath::NoMount;
        }
        match self.app.upstream_path {
            UpstreamPath::Full => SentPath::Full,
            UpstreamPath::Stripped => SentPath::Stripped,
        }
    }

    /// Returns what follows the mount in the path of an app that receives its mount.
    pub(crate) fn rest_as_path(&self) -> &'p [u8] {
        // Without a mount in front, a double slash would begin an authority.
        if self.prefix().is_none() {
            collapse_leading_slashes(self.rest)
        } else {
            self.rest
        }
    }
}

/// Parses `X-Forwarded-Prefix`; empty if it is absent, repeated or invalid.
fn forwarded_prefix(fields: Fields<'_>) -> Mount {
    fields
        .only_line(Field::XForwardedPrefix)
        .and_then(Mount::parse_prefix)
        .unwrap_or_default()
}

/// Returns the origin under which the app is served over https: the fixed one, else that of the same host with the default
/// port, because the port of the plain-text listener does not speak TLS.
fn https_origin(exchange: &Exchange) -> Option<String> {
    if let Some(public) = &exchange.app.public_base
        && public.origin.scheme == Scheme::Https
    {
        return public.origin.origin();
    }
    let host = exchange.effective.host.as_ref()?;
    Some(["https://", host].concat())
}

fn is_grpc(fields: Fields<'_>) -> bool {
    fields.lines(Field::ContentType).any(|value| {
        value
            .get(..GRPC.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
    })
}

/// Returns true for a WebSocket handshake, RFC 6455 §4.1.
fn is_websocket(request: &Request<'_>, fields: Fields<'_>) -> bool {
    let is_offered = |value: &[u8]| {
        value
            .split(|octet| *octet == b',')
            .any(|protocol| trim(protocol).eq_ignore_ascii_case(b"websocket"))
    };
    request.method == b"GET" && fields.lines(Field::Upgrade).any(is_offered)
}

const GRPC: &[u8] = b"application/grpc";

/// Paths by which load balancers check the app: they use plain http and follow no redirects.
const HEALTH_PATHS: [&[u8]; 6] = [
    b"/_stcore/health",
    b"/_stcore/script-health-check",
    b"/api/healthz",
    b"/api/readyz",
    b"/healthz",
    b"/readyz",
];
