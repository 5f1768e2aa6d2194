//! The gateway as a process, between a raw client and a raw upstream: what is on the wire is what is judged.

mod health;
mod process;
mod proxy;
mod support;
mod tunnel;
