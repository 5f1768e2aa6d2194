//! Decides which request headers are removed because only the policy may set them.
//!
//! Frameworks, CDNs and proxies each read their own header for the client's address, the scheme, the host, the path or
//! the user, and every proxy passes the headers of the others through. So all of them are removed, no matter who sends
//! them, after the one family that is trusted has been read. Names are compared without case and with `_` read as `-`,
//! because CGI and WSGI map both spellings to the same variable.

use crate::config::ClientCertificateHeader;
use crate::connection_headers::connection_group;
use crate::header::is_same_name;
use crate::header_group::HeaderGroup;
use crate::identity_headers::is_identity_header;

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
