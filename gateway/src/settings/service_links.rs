//! Removes the variables that Kubernetes sets in a pod for each Service of the namespace.
//!
//! For a Service called `fluxlit-gateway` they are `FLUXLIT_GATEWAY_SERVICE_HOST`, `FLUXLIT_GATEWAY_PORT=tcp://10.0.0.11:80`,
//! `FLUXLIT_GATEWAY_PORT_80_TCP_ADDR` and others, in the format of Docker's container links. `FLUXLIT_GATEWAY_PORT` is also a
//! setting, but such a URL is never a valid port, so the two can be told apart.

use crate::settings::warning::SettingWarning;

/// Returns the variables that are not set by Kubernetes, and a warning for each Service whose variables were removed.
pub(super) fn without_service_links(
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Vec<(String, String)>, Vec<SettingWarning>) {
    let mut environment: Vec<(String, String)> = environment.into_iter().collect();
    let services: Vec<String> = environment
        .iter()
        .filter(|(_, value)| is_link(value))
        .filter_map(|(name, _)| name.strip_suffix("_PORT"))
        .filter(|service| service.starts_with(OURS))
        .map(str::to_owned)
        .collect();
    environment.retain(|(name, value)| {
        !services
            .iter()
            .filter_map(|service| name.strip_prefix(service.as_str()))
            .any(|rest| {
                matches!(rest, "_SERVICE_HOST" | "_SERVICE_PORT")
                    || rest.starts_with("_SERVICE_PORT_")
                    || rest.starts_with("_PORT_")
                    || (rest == "_PORT" && is_link(value))
            })
    });
    let warnings = services
        .iter()
        .map(|service| {
            let name = service.to_ascii_lowercase().replace('_', "-");
            SettingWarning::new(
                "service_link",
                format!(
                    "{service}_PORT is ignored because Kubernetes sets it for the Service `{name}`; set \
                     `enableServiceLinks: false` in the pod's specification"
                ),
            )
        })
        .collect();
    (environment, warnings)
}

fn is_link(value: &str) -> bool {
    ["tcp://", "udp://", "sctp://"]
        .iter()
        .any(|scheme| value.starts_with(scheme))
}

/// The beginning of the names of settings.
const OURS: &str = "FLUXLIT";
