//! Decides which request headers are removed because only the policy may set them.
//!
//! Frameworks, CDNs and proxies each read their own header for the client's address, the scheme, the host, the path or
//! the user, and every proxy passes the headers of the others through. So all of them are removed, no matter who sends
//! them, after the one family that is trusted has been read. Names are compared without case and with `_` read as `-`,
//! because CGI and WSGI map both spellings to the same variable.

use crate::config::ClientCertificateHeader;
use crate::header::{fold, is_same_name};
use crate::identity_headers::is_identity_header;
use crate::labels::labeled_enum;

/// The headers that are removed, as configured.
#[derive(Debug, Clone)]
pub(crate) struct ProtectedHeaders {
    /// Further headers to remove, in lower case.
    pub(crate) strip_headers: Vec<String>,
    /// Further identity headers, in lower case.
    pub(crate) identity_headers: Vec<String>,
    /// Identity headers that a trusted peer may pass, in lower case.
    pub(crate) trusted_pass_headers: Vec<String>,
    /// The header in which a trusted peer names the client, in lower case.
    pub(crate) client_ip_header: Option<String>,
    pub(crate) client_certificate_header: ClientCertificateHeader,
}

impl ProtectedHeaders {
    /// Returns the group for which a header is removed; `None` if it may pass.
    pub(crate) fn removal(&self, name: &[u8], peer_trusted: bool) -> Option<HeaderGroup> {
        let is_in = |list: &[String]| {
            list.iter()
                .any(|listed| is_same_name(listed.as_bytes(), name))
        };
        if is_in(&self.strip_headers) {
            return Some(group_of(name).unwrap_or(HeaderGroup::Listed));
        }
        let group = if is_in(&self.identity_headers) {
            HeaderGroup::Identity
        } else if let Some(client_ip_header) = &self.client_ip_header
            && is_same_name(client_ip_header.as_bytes(), name)
        {
            let is_read = peer_trusted && client_ip_header.as_bytes().eq_ignore_ascii_case(name);
            let is_set = matches!(group_of(name), Some(HeaderGroup::Forwarding));
            return (!is_read || is_set).then_some(HeaderGroup::ClientAddress);
        } else {
            // A name that only a trusted peer may pass is an identity header by that.
            group_of(name)
                .or_else(|| is_in(&self.trusted_pass_headers).then_some(HeaderGroup::Identity))?
        };
        let may_pass = match group {
            HeaderGroup::Identity => true,
            // Envoy sanitizes this exact name only, not other names that servers read as the same.
            HeaderGroup::ClientCertificate if name.contains(&b'_') => false,
            HeaderGroup::ClientCertificate => match self.client_certificate_header {
                ClientCertificateHeader::Keep => return None,
                ClientCertificateHeader::Remove => true,
            },
            _ => false,
        };
        let passes = may_pass
            && peer_trusted
            && self
                .trusted_pass_headers
                .iter()
                .any(|listed| listed.as_bytes().eq_ignore_ascii_case(name));
        (!passes).then_some(group)
    }
}

labeled_enum! {
    /// Why a header is protected; also the group under which its removal is counted.
    pub enum HeaderGroup {
        /// A name that a CGI server would turn into a variable with a special meaning.
        Cgi = "cgi",
        /// The client's address, under the name that some CDN or proxy uses.
        ClientAddress = "client_address",
        /// `x-forwarded-client-cert`, which Envoy's connection manager sets or removes itself.
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

/// Returns the group of a header name; `None` if it is not protected.
pub(crate) fn group_of(name: &[u8]) -> Option<HeaderGroup> {
    other_group(name).or_else(|| is_identity_header(name).then_some(HeaderGroup::Identity))
}

/// Returns the group of a header name, except for identity headers outside `X-Forwarded-*`.
fn other_group(name: &[u8]) -> Option<HeaderGroup> {
    if !may_be_protected(name) {
        return None;
    }
    let mut buffer = [0_u8; LONGEST_NAME];
    let mut used: usize = 0;
    for (slot, octet) in buffer.iter_mut().zip(name) {
        *slot = fold(*octet);
        used = used.saturating_add(1);
    }
    let start = buffer.get(..used)?;
    let whole = used == name.len();
    match start {
        b"x-forwarded-client-cert" => Some(HeaderGroup::ClientCertificate),
        b"x-forwarded-user"
        | b"x-forwarded-email"
        | b"x-forwarded-groups"
        | b"x-forwarded-preferred-username"
        | b"x-forwarded-access-token"
        | b"x-forwarded-tls-client-cert"
        | b"x-forwarded-tls-client-cert-info"
            if whole =>
        {
            Some(HeaderGroup::Identity)
        }
        _ if start.starts_with(b"x-forwarded-") => Some(HeaderGroup::Forwarding),
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
        // A CGI server turns both spellings into CONTENT_LENGTH, but only the one with a hyphen frames the message.
        b"content-length" | b"transfer-encoding" if name.contains(&b'_') => Some(HeaderGroup::Cgi),
        _ => None,
    }
}

/// Returns true if a name of these groups begins with the same two letters. This rules out most names of a request.
fn may_be_protected(name: &[u8]) -> bool {
    let [first, second, ..] = name else {
        return false;
    };
    matches!(
        (first.to_ascii_lowercase(), second.to_ascii_lowercase()),
        (b'x', b'-' | b'_')
            | (b'c', b'f' | b'l' | b'o')
            | (b'f', b'a' | b'l' | b'o' | b'r')
            | (b'p', b'a' | b'r')
            | (b's', b'c')
            | (b't', b'r')
    )
}

/// The length of the longest name above, `x-forwarded-tls-client-cert-info`.
const LONGEST_NAME: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_underscores_do_not_matter() {
        for (name, want) in [
            ("x-forwarded-for", HeaderGroup::Forwarding),
            ("X-FORWARDED-FOR", HeaderGroup::Forwarding),
            ("X_Forwarded-For", HeaderGroup::Forwarding),
            ("x_forwarded_for", HeaderGroup::Forwarding),
            (
                "x-forwarded-anything-that-an-app-may-read-one-day",
                HeaderGroup::Forwarding,
            ),
            (
                "x-forwarded-tls-client-cert-info-2",
                HeaderGroup::Forwarding,
            ),
            ("x-forwarded-client-cert-2", HeaderGroup::Forwarding),
            ("Forwarded", HeaderGroup::Forwarding),
            ("X_Real_IP", HeaderGroup::Forwarding),
            ("True-Client-IP", HeaderGroup::ClientAddress),
            ("Front_End_Https", HeaderGroup::Scheme),
            ("X-Host", HeaderGroup::Host),
            ("Script-Name", HeaderGroup::Path),
            ("Proxy", HeaderGroup::Cgi),
            ("Content_Length", HeaderGroup::Cgi),
            ("transfer_encoding", HeaderGroup::Cgi),
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
    fn similar_names_are_not_protected() {
        for name in [
            "",
            "host",
            "cookie",
            "content-length",
            "transfer-encoding",
            "content_type",
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
