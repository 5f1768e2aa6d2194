//! Names the proxies that an EnvoyFilter of Istio patches, and the guard of their routes.

use serde_json::{Value, json};

use crate::lint::document::normalized;
use crate::lint::gap::Gap;
use crate::lint::presence::{GUARD, is_guarded};

/// The proxies that an EnvoyFilter can name. Requests to an app do not pass the outbound listeners of its sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Gateway,
    SidecarInbound,
    SidecarOutbound,
    Waypoint,
}

impl Context {
    const ALL: [Self; 4] = [
        Self::Gateway,
        Self::SidecarInbound,
        Self::SidecarOutbound,
        Self::Waypoint,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "GATEWAY",
            Self::SidecarInbound => "SIDECAR_INBOUND",
            Self::SidecarOutbound => "SIDECAR_OUTBOUND",
            Self::Waypoint => "WAYPOINT",
        }
    }

    /// Returns the proxy for a sentence.
    pub(crate) fn proxy(self) -> &'static str {
        match self {
            Self::Gateway => "the gateway",
            Self::SidecarInbound => "the sidecar",
            Self::SidecarOutbound => "outbound listeners of sidecars",
            Self::Waypoint => "the waypoint",
        }
    }

    /// Returns the `match` of a patch that applies to every route.
    fn condition(self) -> Value {
        match self {
            // The definition of this context needs the field.
            Self::Waypoint => json!({"context": self.name(), "waypoint": {}}),
            _ => json!({"context": self.name()}),
        }
    }

    /// Returns the patch that guards every route, in short.
    pub(crate) fn guard(self) -> String {
        let condition = match self {
            Self::Waypoint => "{context: WAYPOINT, waypoint: {}}".to_owned(),
            _ => format!("{{context: {}}}", self.name()),
        };
        format!(
            "add a patch with applyTo: HTTP_ROUTE, match: {condition}, operation: MERGE and value: {{match: {{{GUARD}}}}}"
        )
    }

    /// Returns why a patch for `theirs` does not apply to the proxy of the filter; `None` if it does. A patch without a context
    /// applies to every proxy. `patch` says what it does, such as `records the peer`.
    pub(crate) fn gap(own: Option<Self>, theirs: Option<Self>, patch: &str) -> Option<Gap> {
        let theirs = theirs?;
        // A filter in front of an app is not in an outbound listener, whatever else is not known of it.
        let is_elsewhere = own.map_or(theirs == Self::SidecarOutbound, |own| own != theirs);
        let wanted = own.map_or("GATEWAY, SIDECAR_INBOUND or WAYPOINT", Self::name);
        is_elsewhere.then(|| Gap {
            is_certain: true,
            is_of_patch: true,
            own: format!("runs in {}", own.map_or("front of an app", Self::proxy)),
            theirs: format!("is for {} (context {})", theirs.proxy(), theirs.name()),
            hint: format!("set context: {wanted} in the patch that {patch}"),
        })
    }

    /// Returns the proxies that a patch is for; `None` if it names none.
    pub(crate) fn of_patch(patch: &Value) -> Option<Self> {
        let named = |context: &Self| patch["match"]["context"] == context.name();
        Self::ALL.into_iter().find(named)
    }
}

/// Returns the proxies in which a patch adds the guard to every route.
pub(crate) fn guarded_context(patch: &Value) -> Option<Context> {
    let value = normalized(patch["patch"]["value"].clone());
    let context = Context::of_patch(patch)?;
    // Nothing else in `match`: it applies to every route.
    let is_guard = patch["applyTo"] == "HTTP_ROUTE"
        && patch["match"] == context.condition()
        && patch["patch"]["operation"] == "MERGE"
        && is_guarded(&value);
    is_guard.then_some(context)
}
