//! Processes one HTTP stream inside Envoy, whichever way the policy was loaded into it.
//!
//! The proxy-wasm filter and the dynamic module differ only in how they call Envoy. Everything else is here: which facts of
//! a request are read, how the policy's decisions are applied, what is answered, stored, counted and logged. Each of the two
//! implements [`Host`], and the compiler generates the code for it, so that the abstraction costs nothing at run time.

// From top to bottom: a module uses only modules below it.
mod stream;

mod facts;
mod mark;
mod message;
mod reply;

mod plugin;

mod configuration;
mod counters;
mod edit_memory;
mod edits;
mod version;
mod warnings;

mod host;

pub use configuration::read_policy;
pub use counters::Counters;
pub use host::{Attribute, Clock, Fields, Host, Map, Response};
pub use mark::{CLIENT, CLIENT_KEY};
pub use plugin::Plugin;
pub use reply::refuse;
pub use stream::{Flow, Stream};
pub use version::VERSION;
pub use warnings::Warnings;
