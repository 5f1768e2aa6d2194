//! Checks that Streamlit believes the gateway's forwarded headers (D09).

use crate::app::server::Server;
use crate::app::streamlit::{Found, Generation};
use crate::app::subject::Subject;
use crate::outcome::Outcome;
use crate::wire::{exchange, request};

/// D09: the scheme in Streamlit's own redirect shows whether it believes its peer. The same list governs the client's address.
pub(crate) async fn upstream_trust(
    server: &Server,
    subject: &Subject,
    found: &Found,
    outcome: &mut Outcome,
) {
    if found.base.is_empty() {
        return outcome.skip(
            "without a base path Streamlit sends no absolute redirect; --page checks the client's address instead",
        );
    }
    if found.generation == Generation::Tornado {
        return outcome.skip("a Streamlit of the Tornado generation sends no absolute redirect");
    }
    let host = subject.public_authority();
    let location = async |scheme: &str| {
        let headers = [("X-Forwarded-Proto", scheme)];
        let reply = exchange(
            server.address,
            None,
            &request("GET", &found.base, &host, &headers),
        )
        .await
        .ok()?;
        reply.lines("location").next()
    };
    match location("https").await {
        Some(location) if location.starts_with("https://") => {
            outcome.right("Streamlit believes the gateway's X-Forwarded-Proto and X-Forwarded-For");
        }
        Some(location) if location.starts_with("http://") => outcome.fail(
            "Streamlit ignores the gateway's forwarded headers (its redirect is http in spite of X-Forwarded-Proto: https), so \
             st.context.ip_address will be the gateway's address",
            format!(
                "start Streamlit with FORWARDED_ALLOW_IPS set to the address from which the gateway connects ({})",
                if server.address.ip().is_ipv6() && server.address.ip().is_loopback() {
                    "::1, which is not in the default".to_owned()
                } else if server.address.ip().is_loopback() {
                    "127.0.0.1".to_owned()
                } else {
                    "as Streamlit sees it".to_owned()
                }
            ),
        ),
        _ => outcome.skip(format!("`{}` is not answered with an absolute redirect", found.base)),
    }
}
