//! Prints complete configurations for the proxy in front of the gateway, which agree with the gateway's settings.
//!
//! [`Site`] derives from the settings what every front has to know: the mount and who removes it, the public host, the
//! address of the gateway, the limits, the timeouts, the headers that clients must not choose. Each front has one module that
//! writes these facts in the words of its program. All of it is pure: nothing is read, nothing is written, and the same
//! settings give the same text.
//!
//! All fronts follow the same rules:
//!
//! - The gateway believes this front, so every forwarded header that it reads is replaced or removed, never appended to.
//! - `Host` stays as the client sent it, because Streamlit compares it with `Origin`.
//! - No limit is stricter than the gateway's, and no timeout shorter, so that errors come from the gateway, with a reason.
//! - No idle limit is shorter than two of Streamlit's pings.
//! - The front adds `Strict-Transport-Security` only to responses that have none, such as its own errors.

mod apache;
mod caddy;
mod configuration;
mod envoy;
mod envoy_gateway;
mod front;
mod haproxy;
mod istio;
mod kubernetes;
mod nginx;
mod site;
mod text;
mod traefik;

pub use crate::fronts::configuration::{Configuration, ConfigurationFile};
pub use crate::fronts::front::Front;
use crate::fronts::site::Site;
pub use crate::fronts::site::{FrontError, FrontOptions};
use crate::settings::Settings;

/// Prints the configuration of a front for a gateway with these settings.
///
/// # Errors
///
/// If no front can be configured for the settings.
pub fn configuration(
    front: Front,
    settings: &Settings,
    options: &FrontOptions,
) -> Result<Configuration, FrontError> {
    let site = Site::new(front, settings, options)?;
    let one = |text| vec![ConfigurationFile { suffix: "", text }];
    let files = match front {
        Front::Apache => one(apache::text(&site)),
        Front::Caddy => one(caddy::text(&site)),
        Front::Envoy => one(envoy::text(&site)),
        Front::EnvoyGateway => one(envoy_gateway::text(&site)),
        Front::Haproxy => one(haproxy::text(&site)),
        Front::Istio => one(istio::text(&site)),
        Front::Kubernetes => one(kubernetes::text(&site)),
        Front::Nginx => one(nginx::text(&site)),
        Front::Traefik => traefik::files(&site),
    };
    let warnings = site.warnings;
    Ok(Configuration { files, warnings })
}
