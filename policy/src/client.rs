//! Resolves the client, scheme and host of a request from its peer and the forwarded headers.
//!
//! The hops are read from the right, beginning with the one nearest to us. Each trusted hop vouches for the one to its
//! left; the first untrusted hop is the client, and nothing to the left of it is read. An element that cannot be read
//! ends the walk at the last address that a trusted hop named: skipping it would let the client choose the result.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::address::{parse_element, parse_node, trim};
use crate::config::{ForwardedSource, XffMode};
use crate::effective::{Authority, Effective, Scheme, parse_forwarded_port};
use crate::fields::{Field, Fields};
use crate::forwarded::{self, Element};
use crate::header::lines;
use crate::message::Request;
use crate::peer::Peer;
use crate::trust::Trust;

/// The client that a request is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address; `None` if the peer has none and no trusted hop named one.
    pub address: Option<IpAddr>,
    /// How the address was found.
    pub source: ClientSource,
}

/// How a client's address was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSource {
    /// It is the first untrusted address from the right.
    Header,
    /// Every address is trusted, so it is the leftmost; possibly a proxy's.
    HeaderAllTrusted,
    /// It is the peer's; no header was used.
    Peer,
    /// The list has an unreadable element, so it is the last address that a trusted hop named; possibly a proxy's.
    Stopped,
}

/// What a request says about its client, after trust was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) client: Client,
    pub(crate) effective: Effective,
    /// The client and the trusted hops after it, as far as trusted hops named them; in `chain` mode only.
    pub(crate) attested: Vec<IpAddr>,
}

/// Resolves clients as configured.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) trust: Trust,
    pub(crate) source: ForwardedSource,
    /// The header in which a trusted peer names the client, in lower case.
    pub(crate) client_ip_header: Option<String>,
    pub(crate) xff_mode: XffMode,
}

impl Resolver {
    /// Resolves a request. `host`: the host that the request itself names.
    pub(crate) fn resolve(
        &self,
        request: &Request<'_>,
        fields: Fields<'_>,
        peer_trusted: bool,
        host: Option<Authority>,
    ) -> Resolved {
        if request.is_reentry {
            return from_own_headers(request, fields, host);
        }
        if !peer_trusted {
            return Resolved {
                client: Client {
                    address: request.peer.address(),
                    source: ClientSource::Peer,
                },
                effective: effective(listener_scheme(request.tls), host, None),
                attested: Vec::new(),
            };
        }
        match self.source {
            ForwardedSource::XForwarded => self.resolve_x_forwarded(request, fields, host),
            ForwardedSource::Forwarded => self.resolve_forwarded(request, fields, host),
        }
    }

    fn resolve_x_forwarded(
        &self,
        request: &Request<'_>,
        fields: Fields<'_>,
        host: Option<Authority>,
    ) -> Resolved {
        let list = ListField::of(fields, Field::XForwardedFor);
        let hops = list.rightmost_first().map(parse_element);
        let (walk, attested) = self.walk(request, list.is_blank(), hops);
        // The element at the client's index counts only if the list has one element for each hop.
        let aligned_index = |other: &ListField<'_>| match walk.index {
            Some(index) if other.len() == list.len() => Some(index),
            _ => None,
        };

        let proto = ListField::of(fields, Field::XForwardedProto);
        let scheme = match (proto.single(), aligned_index(&proto)) {
            (Some(proto), _) => Scheme::parse(proto),
            (None, Some(index)) => proto.rightmost_first().nth(index).and_then(Scheme::parse),
            (None, None) => proto.agreed_scheme(),
        };

        let pick = |field| {
            let field = ListField::of(fields, field);
            match (field.single(), aligned_index(&field)) {
                (Some(value), _) => Some(value),
                (None, Some(index)) => field.rightmost_first().nth(index),
                (None, None) => None,
            }
        };
        let forwarded_host =
            pick(Field::XForwardedHost).and_then(|value| Authority::parse(trim(value)));
        let forwarded_port = pick(Field::XForwardedPort).and_then(parse_forwarded_port);
        // A port in the forwarded host is the client's own, so it takes precedence over `X-Forwarded-Port`.
        let host_has_port = forwarded_host
            .as_ref()
            .is_some_and(|host| host.port.is_some());
        let port = forwarded_port.filter(|_| !host_has_port);
        Resolved {
            client: walk.client,
            effective: effective(
                scheme.unwrap_or(listener_scheme(request.tls)),
                forwarded_host.or(host),
                port,
            ),
            attested,
        }
    }

    fn resolve_forwarded(
        &self,
        request: &Request<'_>,
        fields: Fields<'_>,
        host: Option<Authority>,
    ) -> Resolved {
        let mut elements: Vec<Option<Element<'_>>> = Vec::new();
        let mut blank = true;
        for line in fields.lines(Field::Forwarded) {
            blank &= trim(line).is_empty();
            elements.extend(forwarded::parse_line(line));
        }
        let hops = elements.iter().rev().map(|element| {
            let node = element.as_ref()?.node.as_ref()?;
            parse_node(node)
        });
        let (walk, attested) = self.walk(request, blank, hops);
        // A parameter that the client's element lacks is taken from the nearer hops. If no element names a client, the
        // nearest element still counts, since the trusted peer wrote it.
        let of_hops = || {
            let nearest_first = elements
                .iter()
                .rev()
                .take(walk.index.unwrap_or(0).saturating_add(1));
            nearest_first.rev().flatten()
        };
        let scheme = of_hops()
            .find_map(|element| element.proto.as_deref())
            .and_then(Scheme::parse);
        let forwarded_host = of_hops()
            .find_map(|element| element.host.as_deref())
            .and_then(Authority::parse);
        Resolved {
            client: walk.client,
            effective: effective(
                scheme.unwrap_or(listener_scheme(request.tls)),
                forwarded_host.or(host),
                None,
            ),
            attested,
        }
    }

    /// Walks the hops from the right. `blank`: the field is absent, or every line of it is blank.
    fn walk(
        &self,
        request: &Request<'_>,
        blank: bool,
        hops: impl Iterator<Item = Option<IpAddr>> + Clone,
    ) -> (Walk, Vec<IpAddr>) {
        let named = self.client_ip_header.as_ref().and_then(|name| {
            let mut lines = lines(request.headers, name.as_bytes());
            let first = lines.next()?;
            // More than one line is as unreadable as a list.
            Some(parse_element(first).filter(|_| lines.next().is_none()))
        });
        let is_named = named.is_some();
        // A hop that a header names takes the place of the first one.
        let hops = named.into_iter().chain(hops.skip(usize::from(is_named)));
        let walk = walk(&self.trust, request.peer, hops.clone(), blank && !is_named);
        let attested = match (self.xff_mode, walk.index) {
            (XffMode::Chain, Some(index)) => {
                let mut attested: Vec<IpAddr> =
                    hops.take(index.saturating_add(1)).flatten().collect();
                attested.reverse();
                attested
            }
            _ => Vec::new(),
        };
        (walk, attested)
    }
}

/// Resolves a request that this policy has decided before and that the proxy has processed again, as after an internal
/// redirect: its headers are the policy's own.
fn from_own_headers(
    request: &Request<'_>,
    fields: Fields<'_>,
    host: Option<Authority>,
) -> Resolved {
    let line = |field| fields.lines(field).next();
    let address = line(Field::XRealIp).and_then(parse_element);
    let attested = ListField::of(fields, Field::XForwardedFor);
    let attested: Vec<IpAddr> = attested
        .rightmost_first()
        .filter_map(parse_element)
        .skip(usize::from(request.peer.address().is_some()))
        .collect();
    let scheme = line(Field::XForwardedProto)
        .and_then(Scheme::parse)
        .unwrap_or_else(|| listener_scheme(request.tls));
    let forwarded_host = line(Field::XForwardedHost).and_then(Authority::parse);
    let port = line(Field::XForwardedPort).and_then(parse_forwarded_port);
    Resolved {
        client: Client {
            address,
            source: ClientSource::Header,
        },
        effective: effective(scheme, forwarded_host.or(host), port),
        attested: attested.into_iter().rev().collect(),
    }
}

fn effective(scheme: Scheme, host: Option<Authority>, port: Option<u16>) -> Effective {
    let (host, host_port) = match host {
        Some(Authority { host, port }) => (Some(host), port),
        None => (None, None),
    };
    Effective {
        scheme,
        host,
        port: port.or(host_port).unwrap_or_else(|| scheme.default_port()),
    }
}

fn listener_scheme(tls: bool) -> Scheme {
    if tls { Scheme::Https } else { Scheme::Http }
}

struct Walk {
    client: Client,
    /// The index of the client's element, counted from the right; `None` if the client is the peer.
    index: Option<usize>,
}

fn walk(
    trust: &Trust,
    peer: Peer,
    mut hops: impl Iterator<Item = Option<IpAddr>>,
    blank: bool,
) -> Walk {
    let end = |address, source, index| Walk {
        client: Client { address, source },
        index,
    };
    let of_peer = |source| end(peer.address(), source, None);
    if blank {
        return of_peer(ClientSource::Peer);
    }
    if let Some(hops_in_front) = trust.hops {
        let index = hops_in_front.saturating_sub(1);
        return match hops.nth(index) {
            Some(Some(address)) => end(Some(address), ClientSource::Header, Some(index)),
            _ => of_peer(ClientSource::Stopped),
        };
    }
    let mut last = of_peer(ClientSource::Peer);
    for (index, hop) in hops.enumerate() {
        match hop {
            Some(address) if index < MAX_HOPS => {
                if !trust.peers.contains(address) {
                    return end(Some(address), ClientSource::Header, Some(index));
                }
                last = end(Some(address), ClientSource::HeaderAllTrusted, Some(index));
            }
            _ => {
                last.client.source = ClientSource::Stopped;
                return last;
            }
        }
    }
    last
}

/// A field whose lines, in order, are one comma-separated list.
#[derive(Clone, Copy)]
struct ListField<'a> {
    fields: Fields<'a>,
    field: Field,
}

impl<'a> ListField<'a> {
    fn of(fields: Fields<'a>, field: Field) -> Self {
        Self { fields, field }
    }

    fn lines(&self) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone + use<'a> {
        self.fields.lines(self.field)
    }

    fn is_blank(&self) -> bool {
        self.lines().all(|line| trim(line).is_empty())
    }

    fn rightmost_first(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        self.lines()
            .rev()
            .flat_map(|line| line.rsplit(|octet| *octet == b','))
    }

    fn len(&self) -> usize {
        self.lines()
            .map(|line| line.split(|octet| *octet == b',').count())
            .sum()
    }

    /// Returns the only element, if there is exactly one.
    fn single(&self) -> Option<&'a [u8]> {
        let mut elements = self.rightmost_first();
        let first = elements.next()?;
        elements.next().is_none().then_some(first)
    }

    /// Returns https if every element is secure, http if all are schemes but not all are secure.
    fn agreed_scheme(&self) -> Option<Scheme> {
        let mut agreed = None;
        for element in self.rightmost_first() {
            let scheme = Scheme::parse(element)?;
            agreed = match agreed {
                None | Some(Scheme::Https) => Some(scheme),
                Some(Scheme::Http) => Some(Scheme::Http),
            };
        }
        agreed
    }
}

/// The maximum number of hops that are walked, whatever the size of the header.
const MAX_HOPS: usize = 32;
