//! Decides which request headers are removed because only the policy may set them.
//!
//! Frameworks, CDNs and proxies each read their own header for the client's address, the scheme, the host, the path or
//! the user, and every proxy passes the headers of the others through. So all of them are removed, no matter who sends
//! them, after the one family that is trusted has been read. Names are compared without case and with `_` read as `-`,
//! because CGI and WSGI map both spellings to the same variable.

use crate::config::ClientCertificateHeader;
use crate::connection_headers::{connection_group, connection_headers};
use crate::header::is_same_name;
use crate::header_group::HeaderGroup;
use crate::identity_headers::{identity_headers, is_identity_header};

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

/// Returns the names that are removed from the requests of untrusted peers, in lower case, each with its group. Of the names
/// with a common beginning or end, such as `x-auth-*`, there is one. Names that only a configuration lists are not there.
pub fn protected_headers() -> impl Iterator<Item = (HeaderGroup, String)> {
    let names = connection_headers().chain(identity_headers());
    names.filter_map(|name| Some((group_of(name.as_bytes())?, name)))
}

/// Returns the group of a header name; `None` if it is not protected.
pub(crate) fn group_of(name: &[u8]) -> Option<HeaderGroup> {
    connection_group(name).or_else(|| is_identity_header(name).then_some(HeaderGroup::Identity))
}

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
            ("X-Forwarded", HeaderGroup::ClientAddress),
            ("forwarded_for", HeaderGroup::ClientAddress),
            ("Any-Vendor_Client-IP", HeaderGroup::ClientAddress),
            ("Fly_Forwarded-Proto", HeaderGroup::Scheme),
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
    fn every_name_is_listed_once() {
        let names: Vec<String> = protected_headers().map(|(_, name)| name).collect();
        let listed = connection_headers().chain(identity_headers()).count();
        assert_eq!(names.len(), listed, "each name is removed");
        let unique: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        for name in [
            "cf-connecting-ip",
            "forwarded",
            "probe-real-ip",
            "proxy",
            "tailscale-probe",
            "x-forwarded-for",
            "x-forwarded-probe",
            "x-forwarded-user",
            "x-original-url",
            "x-real-ip",
        ] {
            assert!(unique.contains(&name.to_owned()), "{name}");
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
            "x-forwarde",
            "x-forwarded2",
            "xforwarded-fo",
            "forwarded-for-2",
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
