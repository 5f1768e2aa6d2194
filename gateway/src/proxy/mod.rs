//! Handles one request, whichever version of HTTP the client speaks: decides, forwards, and passes the response on.
//!
//! It knows neither listeners nor client connections: [`server`](crate::server) hands in a
//! [`decide::Incoming`], a body to read and a [`downstream::Downstream`] to respond on.
//!
//! May use `worker`, `upstream`, `settings`, `http`, `observe` and `net`.

pub(crate) mod decide;
pub(crate) mod downstream;
pub(crate) mod exchange;
mod failure;
mod forward;
mod handshake;
mod internal;
pub(crate) mod local_reply;
mod response;
pub(crate) mod tunnel;
mod upstream_head;
