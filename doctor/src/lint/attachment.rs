//! Compares the listeners of Gateways that policies of Envoy Gateway are for.
//!
//! A policy is for Gateways of its own namespace, for one listener with a `sectionName`, or for the Gateways of a route.

use serde_json::Value;

use crate::lint::document::{Group, Manifest};
use crate::lint::facts::{Facts, ListenerGuard};
use crate::lint::gap::Gap;
use crate::lint::message::items;
use crate::lint::target::{Misplaced, forwards, is_same, written};

/// A Gateway, or one listener of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment<'a> {
    namespace: Option<&'a str>,
    gateway: &'a str,
    listener: Option<&'a str>,
}

impl<'a> Attachment<'a> {
    /// Returns what a policy is for; nothing if that cannot be known.
    pub(crate) fn of(policy: &'a Manifest, facts: &Facts<'a>) -> Vec<Self> {
        let mut found = Vec::new();
        for target in targets(policy) {
            let own = Self {
                namespace: policy.namespace(),
                gateway: target["name"].as_str().unwrap_or_default(),
                listener: target["sectionName"].as_str(),
            };
            match target["kind"].as_str() {
                Some("Gateway") => found.push(own),
                Some(kind) if kind.ends_with("Route") => {
                    let mut routes = facts.of_kind(kind);
                    let route = routes.find(|route| {
                        route.name == own.gateway && is_same(route.namespace(), own.namespace)
                    });
                    found.extend(route.into_iter().flat_map(Self::of_route));
                }
                _ => return Vec::new(),
            }
        }
        found
    }

    /// Returns the listeners in which a policy has to do with requests that are forwarded, as far as the files say it.
    pub(crate) fn forwarding(policy: &'a Manifest, facts: &Facts<'a>) -> Vec<Self> {
        let of_attachment = |own: Self| {
            let listeners = own.forwarding_listeners(facts);
            if own.listener.is_some() || listeners.is_empty() {
                return vec![own];
            }
            let of_listener = |listener| Self {
                listener: Some(listener),
                ..own.clone()
            };
            listeners.into_iter().map(of_listener).collect()
        };
        let own = Self::of(policy, facts).into_iter();
        own.flat_map(of_attachment).collect()
    }

    /// Returns why another policy does not apply here; `None` if it does, or if that cannot be known.
    pub(crate) fn gap(&self, other: &'a Manifest, facts: &Facts<'a>) -> Option<Gap> {
        let theirs = Self::of(other, facts);
        let gaps = theirs.iter().map(|theirs| self.gap_of(theirs, other));
        let mut gaps: Vec<Option<Gap>> = gaps.collect();
        if gaps.iter().any(Option::is_none) {
            return None;
        }
        gaps.pop().flatten()
    }

    /// Returns why a guard does not apply here: its policy, or the listener that it patches, is another one.
    pub(crate) fn gap_of_guard(&self, guard: &ListenerGuard<'a>, facts: &Facts<'a>) -> Option<Gap> {
        let of_policy = self.gap(guard.manifest, facts);
        if of_policy.is_some() {
            return of_policy;
        }
        // Otherwise the names follow another scheme.
        let [namespace, gateway, listener] = guard.listener.split('/').collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let is_here = is_same(self.namespace, Some(namespace))
            && self.gateway == gateway
            && self.listener.is_none_or(|own| own == listener);
        let label = guard.manifest.label();
        let wanted = format!(
            "{}/{}/{}",
            self.namespace.unwrap_or(namespace),
            self.gateway,
            self.listener.unwrap_or(listener)
        );
        (!is_here).then(|| Gap {
            is_certain: true,
            is_of_patch: false,
            own: format!("runs in {}", self.shown()),
            theirs: format!("patches the listener `{}`", guard.listener),
            hint: format!(
                "set name: {wanted} in the patch of {label}, or add a patch with this name"
            ),
        })
    }

    fn gap_of(&self, theirs: &Self, other: &Manifest) -> Option<Gap> {
        let label = other.label();
        let gap = |own: String, theirs: String, hint: String| {
            Some(Gap {
                is_certain: true,
                is_of_patch: false,
                own,
                theirs,
                hint,
            })
        };
        let field = if other.kind == "EnvoyPatchPolicy" {
            format!("targetRef: {}", written("Gateway", self.gateway))
        } else {
            format!("targetRefs: [{}]", written("Gateway", self.gateway))
        };
        if self.gateway != theirs.gateway {
            return gap(
                format!("runs in {}", self.shown()),
                format!("is for Gateway {}", theirs.gateway),
                format!("set in {label}: {field}"),
            );
        }
        if !is_same(self.namespace, theirs.namespace) {
            let (own, theirs) = (self.namespace, theirs.namespace);
            let own = own.unwrap_or_default();
            return gap(
                format!("runs in {} in the namespace `{own}`", self.shown()),
                format!(
                    "is in `{}` and applies to no Gateway of another namespace",
                    theirs.unwrap_or_default()
                ),
                format!("set metadata.namespace: {own} in {label}"),
            );
        }
        match (self.listener, theirs.listener) {
            (Some(own), Some(theirs)) if own != theirs => gap(
                format!("runs in {}", self.shown()),
                format!("is for the listener `{theirs}`"),
                format!("remove sectionName from {label}, or set sectionName: {own}"),
            ),
            _ => None,
        }
    }

    fn shown(&self) -> String {
        let of_listener = self
            .listener
            .map_or_else(String::new, |name| format!(", listener `{name}`"));
        format!("Gateway {}{of_listener}", self.gateway)
    }

    /// Returns the Gateways that a route belongs to.
    fn of_route(route: &'a Manifest) -> impl Iterator<Item = Self> {
        items(&route.spec()["parentRefs"]).filter_map(|parent| {
            let is_gateway = parent["kind"].as_str().is_none_or(|kind| kind == "Gateway");
            is_gateway.then_some(Self {
                namespace: parent["namespace"].as_str().or(route.namespace()),
                gateway: parent["name"].as_str()?,
                listener: parent["sectionName"].as_str(),
            })
        })
    }

    /// Returns the listeners of the Gateway whose routes forward requests.
    fn forwarding_listeners(&self, facts: &Facts<'a>) -> Vec<&'a str> {
        let mut gateways = facts.gateways_of(Group::GatewayApi);
        let own = gateways.find(|gateway| {
            gateway.name == self.gateway && is_same(gateway.namespace(), self.namespace)
        });
        let Some(own) = own else {
            return Vec::new();
        };
        let routes = facts
            .of_kind("HTTPRoute")
            .chain(facts.of_kind("GRPCRoute"))
            .filter(|route| forwards(route));
        let parents: Vec<Self> = routes
            .flat_map(Self::of_route)
            .filter(|parent| {
                parent.gateway == self.gateway && is_same(parent.namespace, self.namespace)
            })
            .collect();
        items(&own.spec()["listeners"])
            .filter_map(|listener| listener["name"].as_str())
            .filter(|name| {
                let mut parents = parents.iter();
                parents.any(|parent| parent.listener.is_none_or(|listener| listener == *name))
            })
            .collect()
    }
}

/// Returns why a policy applies to no Gateway and no route of the files, if they have any of that kind.
pub(crate) fn misplaced(policy: &Manifest, facts: &Facts<'_>) -> Option<Misplaced> {
    let mut first = None;
    for target in targets(policy) {
        let kind = target["kind"].as_str().unwrap_or_default();
        let name = target["name"].as_str().unwrap_or_default();
        let objects: Vec<&Manifest> = match kind {
            "Gateway" => facts.gateways_of(Group::GatewayApi).collect(),
            kind if kind.ends_with("Route") => facts.of_kind(kind).collect(),
            _ => Vec::new(),
        };
        let found = Misplaced::of_target(policy, name, &objects)
            .or_else(|| misses_listener(policy, target, &objects));
        // One of several targets is enough.
        first.get_or_insert(found?);
    }
    first
}

fn misses_listener(policy: &Manifest, target: &Value, gateways: &[&Manifest]) -> Option<Misplaced> {
    let section = target["sectionName"].as_str()?;
    let gateway = gateways.iter().find(|gateway| {
        target["name"] == gateway.name && is_same(gateway.namespace(), policy.namespace())
    })?;
    let listeners = items(&gateway.spec()["listeners"]);
    let names: Vec<&str> = listeners
        .filter_map(|listener| listener["name"].as_str())
        .collect();
    let is_missing = !names.is_empty() && !names.contains(&section);
    is_missing.then(|| Misplaced {
        own: format!("is for the listener `{section}`"),
        theirs: format!(
            "the listeners of {} (`{}`)",
            gateway.label(),
            names.join("`, `")
        ),
        hint: format!(
            "set sectionName in {} to one of these names",
            policy.label()
        ),
    })
}

/// Returns the targets of a policy; none if they are selected by labels.
fn targets(policy: &Manifest) -> impl Iterator<Item = &Value> {
    let spec = policy.spec();
    let is_by_labels = !spec["targetSelectors"].is_null();
    let targets = items(&spec["targetRefs"]).chain(spec.get("targetRef"));
    targets.filter(move |_| !is_by_labels)
}
