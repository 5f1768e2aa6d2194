//! Compares the targets of policies with the objects of the same files.
//!
//! A policy names its targets by kind and name, and they are in its own namespace. A manifest without a namespace gets one when it
//! is applied, so it is not compared.

use crate::lint::document::Manifest;
use crate::lint::message::items;
use crate::outcome::Outcome;

/// Why the object with the filter does not apply to what the same files contain.
pub(crate) struct Misplaced {
    /// What the object is for, or where it is.
    pub(crate) own: String,
    /// What it does not apply to.
    pub(crate) theirs: String,
    /// What to write.
    pub(crate) hint: String,
}

impl Misplaced {
    /// Adds the sentence about the object with this label.
    pub(crate) fn report(self, label: &str, outcome: &mut Outcome) {
        let Self { own, theirs, hint } = self;
        outcome.fail(
            format!("{label}: it {own}, so it does not apply to {theirs}, whose requests bypass the filter"),
            hint,
        );
    }

    /// Returns why a policy does not apply to any of the objects, if it names another one of that kind; `None` without objects.
    pub(crate) fn of_target(policy: &Manifest, name: &str, objects: &[&Manifest]) -> Option<Self> {
        let named = || objects.iter().copied().filter(|object| object.name == name);
        if named().any(|object| is_same(object.namespace(), policy.namespace())) {
            return None;
        }
        if let Some(object) = named().next() {
            let (own, theirs) = (policy.namespace(), object.namespace().unwrap_or_default());
            return Some(Self {
                own: format!("is in the namespace `{}`", own.unwrap_or_default()),
                theirs: format!("{} in `{theirs}`", object.label()),
                hint: format!("set metadata.namespace: {theirs} in {}", policy.label()),
            });
        }
        // A route that only redirects needs no filter.
        let mut forwarding = objects.iter().copied().filter(|object| forwards(object));
        let object = forwarding.next().or(objects.first().copied())?;
        Some(Self {
            own: format!("is for {} {name}", object.kind),
            theirs: object.label(),
            hint: format!(
                "set in {}: targetRefs: [{}]",
                policy.label(),
                written(&object.kind, &object.name)
            ),
        })
    }
}

/// Returns true if two namespaces are the same, or one of them is not known.
pub(crate) fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Returns how a policy names an object of the Gateway API as its target.
pub(crate) fn written(kind: &str, name: &str) -> String {
    format!("{{group: gateway.networking.k8s.io, kind: {kind}, name: {name}}}")
}

/// Returns true if a route of the Gateway API forwards requests.
pub(crate) fn forwards(route: &Manifest) -> bool {
    let mut rules = items(&route.spec()["rules"]);
    rules.any(|rule| items(&rule["backendRefs"]).next().is_some())
}
