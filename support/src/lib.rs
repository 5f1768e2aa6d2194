//! Provides the environment of the programs under test: clients, upstreams, an Envoy process, certificates, ports.
//!
//! - [`client`]: connections that send exactly the bytes of a test, and [`client::get`] for a quick request.
//! - [`http1`]: the one reader and writer of HTTP/1 messages; it preserves malformed parts that libraries correct or reject.
//! - [`upstream`]: a server that plays a [`script`] and records what it received; [`upstream::serve`] for a handler that
//!   reads and writes the connection itself.
//! - [`player`]: sends the requests of cases to a listener of Envoy, as the peer, over the protocol that the case specifies.
//! - [`envoy`]: an Envoy process, its admin interface, its log, pieces of its configuration.
//! - [`process`], [`service`]: child processes that end with their owner.
//! - [`container`]: a container without privileges, in which an image of this repository runs.
//! - [`certificate`], [`port`], [`wait`].
//!
//! It knows the case format and nothing else of this project, so that every test can use it and stay an independent
//! witness. Text stands for bytes as in case files: Latin-1, one character for each byte.

pub mod certificate;
pub mod client;
pub mod container;
pub mod envoy;
pub mod http1;
pub mod player;
pub mod port;
pub mod process;
pub mod script;
pub mod service;
pub mod upstream;
pub mod wait;
