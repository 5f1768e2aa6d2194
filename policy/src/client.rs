//! Who is the request from, and what do trusted hops say about it?
//!
//! The hops are read from the right, from the one nearest to us. Each trusted hop vouches for the one to its left; the
//! first that is not trusted is the client, and nothing left of it is looked at. An element that cannot be read ends
//! the walk at the last address that somebody trusted attested: to skip it would hand the answer to the client.

use std::net::IpAddr;

use crate::address::{read_element, read_node, trim};
use crate::config::{ForwardedSource, XffMode};
use crate::effective::{Authority, Effective, Scheme, read_forwarded_port};
use crate::exchange::{Client, ClientSource, Header, Request};
use crate::forwarded::{self, Element};
use crate::peer::{Peer, TrustedPeers};

/// Whose forwarded headers are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    pub(crate) is_on: bool,
    /// Trusted peers and hops.
    pub(crate) peers: TrustedPeers,
    /// URI names of trusted peers, sorted.
    pub(crate) identities: Vec<String>,
    /// How many hops deep, where their addresses cannot be known.
    pub(crate) hops: Option<usize>,
}

impl Trust {
    /// Whether this peer may speak for a client. Counting hops trusts any peer, or those with a listed identity where
    /// there is a list.
    pub(crate) fn covers(&self, peer: Peer, identity: Option<&[u8]>) -> bool {
        let by_identity = || {
            identity.is_some_and(|identity| {
                self.identities
                    .binary_search_by(|listed| listed.as_bytes().cmp(identity))
                    .is_ok()
            })
        };
        let by_address = || match self.hops {
            Some(_) => self.identities.is_empty() && peer != Peer::Unknown,
            None => self.peers.contains_peer(peer),
        };
        self.is_on && (by_address() || by_identity())
    }
}

/// What a request says of its client, after trust was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) client: Client,
    pub(crate) effective: Effective,
    /// The client and the trusted hops after it, as far as somebody trusted attested them; in `chain` mode alone.
    pub(crate) attested: Vec<IpAddr>,
}

/// How clients are found.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub(crate) trust: Trust,
    pub(crate) source: ForwardedSource,
    /// The header by which a trusted peer names the client, in lower case.
    pub(crate) client_ip_header: Option<String>,
    pub(crate) xff_mode: XffMode,
}

impl Resolver {
    /// Resolves a request. `host` is what it names itself.
    pub(crate) fn resolve(
        &self,
        request: &Request<'_>,
        peer_trusted: bool,
        host: Option<Authority>,
    ) -> Resolved {
        if request.is_reentry {
            return from_own_headers(request, host);
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
            ForwardedSource::XForwarded => self.read_x_forwarded(request, host),
            ForwardedSource::Forwarded => self.read_forwarded(request, host),
        }
    }

    fn read_x_forwarded(&self, request: &Request<'_>, host: Option<Authority>) -> Resolved {
        let headers = request.headers;
        let list = ListField::of(headers, b"x-forwarded-for");
        let (walk, attested) = self.walk(request, list.is_blank(), &|| {
            Box::new(list.rightmost_first().map(read_element))
        });
        // A list counts at the client's place only if it has one element for each hop.
        let aligned = |other: &ListField<'_>| match walk.place {
            Some(place) if other.len() == list.len() => Some(place),
            _ => None,
        };

        let proto = ListField::of(headers, b"x-forwarded-proto");
        let scheme = match (proto.single(), aligned(&proto)) {
            (Some(proto), _) => Scheme::read(proto),
            (None, Some(place)) => proto.rightmost_first().nth(place).and_then(Scheme::read),
            (None, None) => proto.agreed_scheme(),
        }
        .unwrap_or_else(|| listener_scheme(request.tls));

        let pick = |field: &ListField<'_>| match (field.single(), aligned(field)) {
            (Some(value), _) => Some(value.to_vec()),
            (None, Some(place)) => field.rightmost_first().nth(place).map(<[u8]>::to_vec),
            (None, None) => None,
        };
        let forwarded_host = pick(&ListField::of(headers, b"x-forwarded-host"))
            .and_then(|value| Authority::read(trim(&value)));
        let forwarded_port = pick(&ListField::of(headers, b"x-forwarded-port"))
            .and_then(|value| read_forwarded_port(&value));
        // The port beside the forwarded host is the client's own, so it outranks the one that stands alone.
        let names_port = forwarded_host
            .as_ref()
            .is_some_and(|host| host.port.is_some());
        let port = forwarded_port.filter(|_| !names_port);
        Resolved {
            client: walk.client,
            effective: effective(scheme, forwarded_host.or(host), port),
            attested,
        }
    }

    fn read_forwarded(&self, request: &Request<'_>, host: Option<Authority>) -> Resolved {
        let mut elements: Vec<Option<Element<'_>>> = Vec::new();
        let mut blank = true;
        for line in lines_of(request.headers, b"forwarded") {
            blank &= trim(line).is_empty();
            match forwarded::read_line(line) {
                Some(read) => elements.extend(read.into_iter().map(Some)),
                None => elements.push(None),
            }
        }
        let (walk, attested) = self.walk(request, blank, &|| {
            Box::new(elements.iter().rev().map(|element| {
                let node = element.as_ref()?.node.as_ref()?;
                read_node(node)
            }))
        });
        // What the client's element leaves out, the nearer hops may say; so may the element next to us when it names no
        // client at all, since a trusted peer wrote it.
        let said = |read: &dyn Fn(&Element<'_>) -> Option<Vec<u8>>| {
            let nearest_first = elements
                .iter()
                .rev()
                .take(walk.place.unwrap_or(0).saturating_add(1));
            nearest_first.rev().flatten().find_map(read)
        };
        let scheme = said(&|element| element.proto.as_deref().map(<[u8]>::to_vec))
            .and_then(|proto| Scheme::read(&proto))
            .unwrap_or_else(|| listener_scheme(request.tls));
        let named = said(&|element| element.host.as_deref().map(<[u8]>::to_vec))
            .and_then(|host| Authority::read(&host));
        Resolved {
            client: walk.client,
            effective: effective(scheme, named.or(host), None),
            attested,
        }
    }

    /// Walks the hops from the right. `blank`: the field is absent, or every line of it is blank.
    fn walk<'h>(
        &self,
        request: &Request<'_>,
        blank: bool,
        hops: &dyn Fn() -> Box<dyn Iterator<Item = Option<IpAddr>> + 'h>,
    ) -> (Walk, Vec<IpAddr>) {
        let named = self.client_ip_header.as_ref().and_then(|name| {
            let mut lines = lines_of(request.headers, name.as_bytes());
            let first = lines.next()?;
            // More than one line is as unreadable as a list.
            Some(read_element(first).filter(|_| lines.next().is_none()))
        });
        let is_named = named.is_some();
        let hops = || -> Box<dyn Iterator<Item = Option<IpAddr>> + 'h> {
            match named {
                Some(named) => Box::new(std::iter::once(named).chain(hops().skip(1))),
                None => hops(),
            }
        };
        let walk = walk(&self.trust, request.peer, &mut hops(), blank && !is_named);
        let attested = match (self.xff_mode, walk.place) {
            (XffMode::Chain, Some(place)) => {
                let mut attested: Vec<IpAddr> =
                    hops().take(place.saturating_add(1)).flatten().collect();
                attested.reverse();
                attested
            }
            _ => Vec::new(),
        };
        (walk, attested)
    }
}

/// Resolves a request that this policy has decided once already and the proxy has sent on its way again, as after an
/// internal redirect: its headers are ours.
fn from_own_headers(request: &Request<'_>, host: Option<Authority>) -> Resolved {
    let line = |name: &[u8]| lines_of(request.headers, name).next();
    let address = line(b"x-real-ip").and_then(read_element);
    let attested = ListField::of(request.headers, b"x-forwarded-for");
    let attested: Vec<IpAddr> = attested
        .rightmost_first()
        .filter_map(read_element)
        .skip(usize::from(request.peer.address().is_some()))
        .collect();
    let scheme = line(b"x-forwarded-proto")
        .and_then(Scheme::read)
        .unwrap_or_else(|| listener_scheme(request.tls));
    let named = line(b"x-forwarded-host").and_then(Authority::read);
    let port = line(b"x-forwarded-port").and_then(read_forwarded_port);
    Resolved {
        client: Client {
            address,
            source: ClientSource::Header,
        },
        effective: effective(scheme, named.or(host), port),
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
    /// The client's element, counted from the right; none if the client is the peer.
    place: Option<usize>,
}

fn walk(
    trust: &Trust,
    peer: Peer,
    hops: &mut dyn Iterator<Item = Option<IpAddr>>,
    blank: bool,
) -> Walk {
    let end = |address, source, place| Walk {
        client: Client { address, source },
        place,
    };
    let of_peer = |source| end(peer.address(), source, None);
    if blank {
        return of_peer(ClientSource::Peer);
    }
    if let Some(hops_in_front) = trust.hops {
        let place = hops_in_front.saturating_sub(1);
        return match hops.nth(place) {
            Some(Some(address)) => end(Some(address), ClientSource::Header, Some(place)),
            _ => of_peer(ClientSource::Stopped),
        };
    }
    let mut last = of_peer(ClientSource::Peer);
    for (place, hop) in hops.enumerate() {
        match hop {
            Some(address) if place < MAX_HOPS => {
                if !trust.peers.contains(address) {
                    return end(Some(address), ClientSource::Header, Some(place));
                }
                last = end(Some(address), ClientSource::HeaderAllTrusted, Some(place));
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
struct ListField<'a> {
    lines: Vec<&'a [u8]>,
}

impl<'a> ListField<'a> {
    fn of(headers: &[Header<'a>], name: &[u8]) -> Self {
        Self {
            lines: lines_of(headers, name).collect(),
        }
    }

    fn is_blank(&self) -> bool {
        self.lines.iter().all(|line| trim(line).is_empty())
    }

    fn rightmost_first(&self) -> impl Iterator<Item = &'a [u8]> {
        self.lines
            .iter()
            .rev()
            .flat_map(|line| line.rsplit(|octet| *octet == b','))
    }

    fn len(&self) -> usize {
        self.lines
            .iter()
            .map(|line| line.split(|octet| *octet == b',').count())
            .sum()
    }

    fn single(&self) -> Option<&'a [u8]> {
        let mut elements = self.rightmost_first();
        let first = elements.next()?;
        elements.next().is_none().then_some(first)
    }

    /// https if every element is secure, http if all are schemes but not all secure.
    fn agreed_scheme(&self) -> Option<Scheme> {
        let mut agreed = None;
        for element in self.rightmost_first() {
            let scheme = Scheme::read(element)?;
            agreed = match agreed {
                None | Some(Scheme::Https) => Some(scheme),
                Some(Scheme::Http) => Some(Scheme::Http),
            };
        }
        agreed
    }
}

fn lines_of<'a>(headers: &[Header<'a>], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
        .map(|(_, value)| *value)
}

/// Most hops that are walked, whatever the header's size.
const MAX_HOPS: usize = 32;
