//! Names the proxies that an EnvoyFilter of Istio patches, and the guard of their routes.

use serde_json::{Value, json};

use crate::lint::document::normalized;
use crate::lint::presence::{GUARD, is_guarded};

/// The proxies that requests to an app pass, as an EnvoyFilter names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    Gateway,
    SidecarInbound,
    Waypoint,
}

impl Context {
    const ALL: [Self; 3] = [Self::Gateway, Self::SidecarInbound, Self::Waypoint];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "GATEWAY",
            Self::SidecarInbound => "SIDECAR_INBOUND",
            Self::Waypoint => "WAYPOINT",
        }
    }

    /// Returns the proxy for a sentence.
    pub(crate) fn proxy(self) -> &'static str {
        match self {
            Self::Gateway => "the gateway",
            Self::SidecarInbound => "the sidecar",
            Self::Waypoint => "the waypoint",
        }
    }

    /// Returns the `match` of a patch that applies to every route.
    fn condition(self) -> Value {
        match self {
            // The definition of this context needs the field.
            Self::Waypoint => json!({"context": self.name(), "waypoint": {}}),
            Self::Gateway | Self::SidecarInbound => json!({"context": self.name()}),
        }
    }

    /// Returns the patch that guards every route, in short.
    pub(crate) fn guard(self) -> String {
        let condition = match self {
            Self::Waypoint => "{context: WAYPOINT, waypoint: {}}".to_owned(),
            Self::Gateway | Self::SidecarInbound => format!("{{context: {}}}", self.name()),
        };
        format!(
            "add a patch with applyTo: HTTP_ROUTE, match: {condition}, operation: MERGE and value: {{match: {{{GUARD}}}}}"
        )
    }

    /// Returns the proxies that a patch is for.
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
