//! Recognizes a server that requires a certificate of the client.

use crate::client::{Client, Failure, Response, TlsFault};

/// Returns the failure if a request got this because the client has no certificate. nginx and Apache say so in a page; others
/// end the connection after the handshake of TLS 1.3, and before a response.
pub(crate) async fn missing(
    client: &Client,
    result: &Result<Response, Failure>,
) -> Option<Failure> {
    let how = match result {
        Ok(response) => {
            let text = response.text();
            let page = CERTIFICATE_PAGES
                .iter()
                .find(|page| text.contains(**page))?;
            format!("answers {} with `{page}`", response.status)
        }
        Err(Failure::Closed) if client.site.is_tls => {
            let (_, peer) = client.connect_with(&[b"http/1.1"]).await.ok()?;
            if !peer?.asks_for_certificate {
                return None;
            }
            "closes the connection".to_owned()
        }
        Err(_) => return None,
    };
    Some(Failure::Tls(
        TlsFault::ClientCertificate,
        format!("the server asks for a certificate of the client, and {how} without one"),
    ))
}

/// What nginx and Apache say to a client without a certificate; Apache, if only a part of the site requires one.
const CERTIFICATE_PAGES: [&str; 2] = [
    "No required SSL certificate was sent",
    "Cannot perform Post-Handshake Authentication",
];
