//! Names the groups of protected headers, which are the labels of their counters.

use crate::labels::labeled_enum;

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
