//! Compares the gateway with a direct connection to the same Streamlit, and tries it in front of other servers.
//!
//! Each row is sent to both, and the whole responses are compared: status, every header line, every byte of the body.
//! Deliberate differences are listed, with the reason. Two generations of Streamlit are tested: 1.67 is served by Starlette
//! and uvicorn, 1.45 by Tornado. The app has a public host name: Streamlit accepts every local Origin, which hides defects.

mod support;

#[path = "gateway/compare.rs"]
mod compare;
#[path = "gateway/deliberate.rs"]
mod deliberate;
#[path = "gateway/fluxlit.rs"]
mod fluxlit;
#[path = "gateway/handshakes.rs"]
mod handshakes;
#[path = "gateway/http.rs"]
mod http;
#[path = "gateway/pair.rs"]
mod pair;
#[path = "gateway/session.rs"]
mod session;
#[path = "gateway/sessions.rs"]
mod sessions;
#[path = "gateway/users.rs"]
mod users;
#[path = "gateway/wsgi.rs"]
mod wsgi;
