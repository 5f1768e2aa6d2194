//! Which request headers may nobody but us set?
//!
//! Frameworks, CDNs and proxies each read their own header for the client's address, the scheme, the host, the path or
//! the user, and every proxy passes the others' through. So all of them are removed, whoever sends them, after the one
//! family that is read has been read. A name is compared without case and with `_` read as `-`, because CGI and WSGI
//! map both spellings to one variable.

use crate::labels::labeled_enum;

labeled_enum! {
    /// Why a header is protected; also the group under which its removal is counted.
    pub enum HeaderGroup {
        /// A name that a CGI server would turn into a variable with a special meaning.
        Cgi = "cgi",
        /// The client's address, under the name that some CDN or proxy uses.
        ClientAddress = "client_address",
        /// `x-forwarded-client-cert`, which Envoy's connection manager owns where there is one.
        ClientCertificate = "client_certificate",
        /// The standard forwarding headers and everything that begins with `X-Forwarded-`.
        Forwarding = "forwarding",
        /// The host.
        Host = "host",
        /// The user, as named by an authenticating proxy; a trusted peer may pass it by name.
        Identity = "identity",
        /// Listed in `strip_headers`.
        Listed = "listed",
        /// Nominated by `Connection`.
        Nominated = "nominated",
        /// The path or the method.
        Path = "path",
        /// The scheme.
        Scheme = "scheme",
    }
}

/// The group of a header name; `None` if the policy does not govern it.
pub(crate) fn group_of(name: &[u8]) -> Option<HeaderGroup> {
    if !may_be_governed(name) {
        return None;
    }
    let mut buffer = [0_u8; LONGEST_NAME];
    let mut used: usize = 0;
    for (place, octet) in buffer.iter_mut().zip(name) {
        *place = match octet {
            b'_' => b'-',
            octet => octet.to_ascii_lowercase(),
        };
        used = used.saturating_add(1);
    }
    let start = buffer.get(..used)?;
    let whole = used == name.len();
    match start {
        b"x-forwarded-client-cert" if whole => Some(HeaderGroup::ClientCertificate),
        b"x-forwarded-user"
        | b"x-forwarded-email"
        | b"x-forwarded-groups"
        | b"x-forwarded-preferred-username"
        | b"x-forwarded-access-token"
        | b"x-forwarded-tls-client-cert"
        | b"x-forwarded-tls-client-cert-info"
        | b"remote-user"
        | b"x-remote-user"
        | b"x-client-cert"
            if whole =>
        {
            Some(HeaderGroup::Identity)
        }
        _ if start.starts_with(b"x-forwarded-") => Some(HeaderGroup::Forwarding),
        _ if start.starts_with(b"x-auth-request-")
            || start.starts_with(b"x-ssl-client-")
            || start.starts_with(b"ssl-client-") =>
        {
            Some(HeaderGroup::Identity)
        }
        _ if !whole => None,
        b"forwarded" | b"x-real-ip" => Some(HeaderGroup::Forwarding),
        b"x-client-ip"
        | b"client-ip"
        | b"x-cluster-client-ip"
        | b"true-client-ip"
        | b"cf-connecting-ip"
        | b"cf-connecting-ipv6"
        | b"cf-pseudo-ipv4"
        | b"fastly-client-ip"
        | b"fly-client-ip"
        | b"x-azure-clientip"
        | b"x-azure-socketip"
        | b"x-appengine-user-ip"
        | b"x-originating-ip"
        | b"x-remote-ip"
        | b"x-remote-addr"
        | b"x-proxyuser-ip"
        | b"x-original-forwarded-for"
        | b"x-original-for"
        | b"x-envoy-external-address" => Some(HeaderGroup::ClientAddress),
        b"front-end-https" | b"x-url-scheme" | b"x-scheme" | b"x-proxied-https"
        | b"x-original-proto" => Some(HeaderGroup::Scheme),
        b"x-host" | b"x-original-host" | b"x-http-host-override" => Some(HeaderGroup::Host),
        b"x-original-url"
        | b"x-original-uri"
        | b"x-original-method"
        | b"x-original-path"
        | b"x-rewrite-url"
        | b"x-envoy-original-path"
        | b"x-script-name"
        | b"script-name"
        | b"path-info"
        | b"x-ingress-path"
        | b"x-original-prefix" => Some(HeaderGroup::Path),
        // A CGI server turns it into HTTP_PROXY, which client libraries obey (httpoxy).
        b"proxy" => Some(HeaderGroup::Cgi),
        _ => None,
    }
}

/// Whether a governed name begins like this one; most names of a request do not.
fn may_be_governed(name: &[u8]) -> bool {
    let [first, second, ..] = name else {
        return false;
    };
    matches!(
        (first.to_ascii_lowercase(), second.to_ascii_lowercase()),
        (b'x', b'-' | b'_')
            | (b'c', b'f' | b'l')
            | (b'f', b'a' | b'l' | b'o' | b'r')
            | (b'p', b'a' | b'r')
            | (b'r', b'e')
            | (b's', b'c' | b's')
            | (b't', b'r')
    )
}

/// Compares two header names without case and with `_` read as `-`.
pub(crate) fn same_name(one: &[u8], two: &[u8]) -> bool {
    let fold = |octet: &u8| match octet {
        b'_' => b'-',
        octet => octet.to_ascii_lowercase(),
    };
    one.len() == two.len() && one.iter().map(fold).eq(two.iter().map(fold))
}

/// The longest name in the list above, `x-forwarded-tls-client-cert-info`.
const LONGEST_NAME: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_does_not_matter() {
        for (name, want) in [
            ("x-forwarded-for", HeaderGroup::Forwarding),
            ("X-FORWARDED-FOR", HeaderGroup::Forwarding),
            ("X_Forwarded-For", HeaderGroup::Forwarding),
            ("x_forwarded_for", HeaderGroup::Forwarding),
            (
                "x-forwarded-anything-that-somebody-may-read-one-day",
                HeaderGroup::Forwarding,
            ),
            ("Forwarded", HeaderGroup::Forwarding),
            ("X_Real_IP", HeaderGroup::Forwarding),
            ("True-Client-IP", HeaderGroup::ClientAddress),
            ("Front_End_Https", HeaderGroup::Scheme),
            ("X-Host", HeaderGroup::Host),
            ("Script-Name", HeaderGroup::Path),
            ("Proxy", HeaderGroup::Cgi),
        ] {
            assert_eq!(group_of(name.as_bytes()), Some(want), "{name}");
        }
        for name in [
            "X-Auth-Request-User",
            "ssl_client_verify",
            "X-Forwarded-Email",
        ] {
            assert_eq!(
                group_of(name.as_bytes()),
                Some(HeaderGroup::Identity),
                "{name}"
            );
        }
    }

    #[test]
    fn near_misses_are_left_alone() {
        for name in [
            "",
            "host",
            "cookie",
            "x-forwarded",
            "xx-forwarded-for",
            "forwarded-for",
            "x-real-ip-2",
            "proxy-authorization",
            "x-request-id",
            "x-envoy-expected-rq-timeout-ms",
            "x-original-forwarded-for-and-then-some-more",
        ] {
            assert_eq!(group_of(name.as_bytes()), None, "{name}");
        }
    }
}
