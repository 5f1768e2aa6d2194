//! Handles one request of any HTTP version: decides, forwards, and passes the response on.
//!
//! It does not know listeners or client connections: [`server`](crate::server) passes in a [`request::Incoming`], a body to
//! read from and a [`downstream::Downstream`] to respond on.
//!
//! May use `worker`, `upstream`, `settings`, `http`, `observe` and `net`.

pub(crate) mod decide;
pub(crate) mod downstream;
pub(crate) mod exchange;
pub(crate) mod failure;
mod forward;
mod handshake;
pub(crate) mod in_flight;
mod internal;
pub(crate) mod local_reply;
pub(crate) mod outcome;
mod probe;
pub(crate) mod request;
mod response;
pub(crate) mod tunnel;
mod upstream_head;
