//! Checks the certificate, and the address families (P01, P28).

use std::net::SocketAddr;

use url::Host;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::client::{Client, Failure, Site, TlsFault};
use crate::outcome::Outcome;
use crate::probe::context::Context;
use crate::probe::cures::CLIENT_CERTIFICATE;
use crate::probe::front::Hop;

/// P01: the certificate, at one address of each family.
pub(crate) async fn certificate(client: &Client, outcome: &mut Outcome) {
    if !client.site.is_tls {
        return outcome.skip("the URL is http");
    }
    for address in one_of_each_family(client.addresses()) {
        let connected = client.at(address).connect_with(&[b"h2", b"http/1.1"]).await;
        let peer = match connected {
            Ok((_, Some(peer))) => peer,
            Ok((_, None)) => continue,
            Err(Failure::Tls(fault, text)) => {
                outcome.fail(
                    format!("{address}: TLS fails: {text}"),
                    cure(fault, &client.site),
                );
                continue;
            }
            Err(failure) => {
                outcome.fail(
                    format!("{address}: {failure}"),
                    "let the front listen at this address, or remove the address from DNS",
                );
                continue;
            }
        };
        let parsed = peer
            .chain
            .first()
            .map(|certificate| X509Certificate::from_der(certificate));
        let Some(Ok((_, certificate))) = parsed else {
            outcome.warn(
                format!("{address}: the certificate cannot be read"),
                "replace it",
            );
            continue;
        };
        let left = certificate.validity().time_to_expiration();
        let days = left.map_or(0, |left| left.whole_days());
        let protocol = peer
            .protocol
            .as_deref()
            .map_or("none".into(), String::from_utf8_lossy);
        if days < SHORT_DAYS {
            outcome.warn(
                format!("{address}: the certificate expires in {days} days"),
                "renew it, and look at why it was not renewed automatically",
            );
        } else {
            outcome.right(format!(
                "{address}: {}, {days} days left, ALPN {protocol}",
                peer.version
            ));
        }
    }
}

/// Says what to do if TLS to this site fails.
pub(crate) fn cure(fault: TlsFault, site: &Site) -> String {
    match fault {
        TlsFault::Expired => "renew the certificate, and look at why it was not renewed automatically; if it is valid, correct the clock of this machine".to_owned(),
        TlsFault::Authority => format!("use a certificate that is none of an authority. {}", own_certificate(site)),
        TlsFault::ClientCertificate => CLIENT_CERTIFICATE.hint(Hop::Unknown),
        TlsFault::OldVersion => "let the front offer TLS 1.2 and 1.3 (nginx: ssl_protocols TLSv1.2 TLSv1.3;)".to_owned(),
        TlsFault::UnknownIssuer => format!("send the whole chain with the certificate (nginx: the file of ssl_certificate has the intermediate certificates too); for a private authority use --ca-file. {}", own_certificate(site)),
        TlsFault::WrongName => format!("get a certificate that lists this host, or use the host that the certificate lists. {}", own_certificate(site)),
        TlsFault::Other => "let the front speak TLS on this port, with a certificate for this host".to_owned(),
    }
}

/// Says how to make a certificate for tests: everything at once that the doctor and browsers need, because each missing part
/// hides the next one.
fn own_certificate(site: &Site) -> String {
    let kind = match site.host {
        Host::Domain(_) => "DNS",
        Host::Ipv4(_) | Host::Ipv6(_) => "IP",
    };
    let host = site.host.to_string();
    let name = host.trim_matches(['[', ']']);
    format!(
        "For a test without an authority: `openssl req -x509 -newkey rsa:2048 -nodes -days 90 -keyout key.pem -out cert.pem -subj /CN={name} -addext subjectAltName={kind}:{name} -addext basicConstraints=critical,CA:FALSE`, then `--ca-file cert.pem`"
    )
}

/// P28: both families give the same results.
pub(crate) async fn families(context: &Context, outcome: &mut Outcome) {
    let addresses = one_of_each_family(context.client.addresses());
    let [first, second] = addresses.as_slice() else {
        return outcome.skip("the host has addresses of one family only");
    };
    let mut results = Vec::new();
    for address in [first, second] {
        let client = context.client.at(*address);
        let handshake: Result<_, Failure> = async {
            let (response, socket) = client.open(&context.handshake()).await?;
            if response.status == 101 {
                socket.close().await;
            }
            Ok(response)
        }
        .await;
        results.push((
            handshake.as_ref().map(|response| response.status).ok(),
            context.describe(&handshake),
        ));
    }
    match results.as_slice() {
        [(one, _), (other, _)] if one == other => {
            outcome.right("the WebSocket handshake has the same result over IPv4 and IPv6");
        }
        [(_, one), (_, other)] => outcome.fail(
            format!("the WebSocket handshake differs by address family: {first}: {one}; {second}: {other}"),
            "let DNS name only addresses whose listener has the same configuration",
        ),
        _ => {}
    }
}

/// Returns the first address of each family.
fn one_of_each_family(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let of = |is_v4: bool| addresses.iter().find(|address| address.is_ipv4() == is_v4);
    of(true).into_iter().chain(of(false)).copied().collect()
}

const SHORT_DAYS: i64 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_of_each_family_is_taken() {
        let addresses = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1"]
            .map(|text| text.parse().expect("an address"));
        let taken: Vec<String> = one_of_each_family(&addresses)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(taken, ["1.1.1.1:1", "[::1]:1"]);
    }
}
