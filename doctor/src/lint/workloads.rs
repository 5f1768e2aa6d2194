//! Compares the workloads that objects of Istio are for.
//!
//! An object is for workloads of its own namespace, in the root namespace for those of every namespace. Its selector names the
//! labels that they must have; without one, it is for all of them. With `targetRefs` it is for the proxies of these Gateways or
//! Services instead. The proxy of a Gateway has a label with the Gateway's name.
//!
//! A manifest without a namespace gets one when it is applied, so it is not compared. The Gateway of Istio (not that of the
//! Gateway API) selects workloads of any namespace.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lint::document::{Group, Manifest};
use crate::lint::facts::Facts;
use crate::lint::gap::Gap;
use crate::lint::message::items;
use crate::lint::target::{self, Misplaced, is_same};

/// The workloads that an object is for.
pub(crate) struct Workloads<'a> {
    manifest: &'a Manifest,
    namespace: Option<&'a str>,
    /// True in the root namespace.
    is_everywhere: bool,
    selections: Vec<Selection<'a>>,
    /// False with `targetRefs`.
    is_for_labels: bool,
    /// The field of the spec that selects workloads by labels.
    field: &'static str,
}

/// How workloads are selected, or what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selection<'a> {
    /// By labels that they have.
    Labels(Labels<'a>),
    /// By the name of a Service or of a class of Gateways.
    Named { kind: &'a str, name: &'a str },
}

type Labels<'a> = BTreeMap<&'a str, &'a str>;

impl<'a> Workloads<'a> {
    /// Returns the workloads that a WasmPlugin, a TrafficExtension or an EnvoyFilter is for.
    pub(crate) fn of(manifest: &'a Manifest, facts: &Facts<'_>) -> Self {
        let spec = manifest.spec();
        let targets = items(&spec["targetRefs"]).chain(spec.get("targetRef"));
        let mut selections: Vec<Selection<'a>> = targets.filter_map(Selection::of_target).collect();
        let is_for_labels = selections.is_empty();
        let is_envoy_filter = manifest.kind == "EnvoyFilter";
        if is_for_labels {
            let selected = if is_envoy_filter {
                &spec["workloadSelector"]["labels"]
            } else {
                &spec["selector"]["matchLabels"]
            };
            selections.push(Selection::Labels(labels(selected)));
        }
        let namespace = manifest.namespace();
        // Gateways and Services are targets in their own namespace only.
        let is_for_classes = selections.iter().all(Selection::is_class);
        Self {
            manifest,
            namespace,
            is_everywhere: (is_for_labels || is_for_classes)
                && namespace == Some(&facts.root_namespace),
            selections,
            is_for_labels,
            field: if is_envoy_filter {
                "workloadSelector: {labels"
            } else {
                "selector: {matchLabels"
            },
        }
    }

    /// Returns what is known of the workloads: their labels are those that the object selects, and those that a Gateway or a
    /// Deployment of the same files gives them.
    pub(crate) fn known(&self, facts: &Facts<'a>) -> Vec<Selection<'a>> {
        let of_selection = |selection: &Selection<'a>| {
            let Selection::Labels(own) = selection else {
                return vec![selection.clone()];
            };
            let gateways = self.gateways(own, facts).map(gateway_labels);
            let pods = self.pods(own, facts).map(labels);
            let with_own = |mut labels: Labels<'a>| {
                labels.extend(own);
                Selection::Labels(labels)
            };
            let mut found: Vec<_> = gateways.chain(pods).map(with_own).collect();
            if found.is_empty() {
                found.push(selection.clone());
            }
            found
        };
        self.selections.iter().flat_map(of_selection).collect()
    }

    /// Returns true if `targetRefs` select them.
    pub(crate) fn has_targets(&self) -> bool {
        !self.is_for_labels
    }

    /// Returns true if a Gateway of Istio or of the Gateway API runs in these workloads, as far as the files say it.
    pub(crate) fn has_gateway(&self, facts: &Facts<'a>) -> bool {
        let mut selections = self.selections.iter();
        selections.any(|selection| match selection {
            Selection::Labels(own) => self.gateways(own, facts).next().is_some(),
            Selection::Named { .. } => false,
        })
    }

    /// Returns why no Gateway of the files runs in these workloads, if the files have Gateways.
    pub(crate) fn misses_gateways(&self, facts: &Facts<'a>) -> Option<Misplaced> {
        let [Selection::Labels(own)] = &self.selections[..] else {
            return None;
        };
        if let Some(name) = own.get(GATEWAY_NAME) {
            let gateways: Vec<&Manifest> = facts.gateways_of(Group::GatewayApi).collect();
            return Misplaced::of_target(self.manifest, name, &gateways);
        }
        let gateways = facts.gateways_of(Group::Istio);
        let mut gateways: Vec<_> = gateways
            .map(|gateway| (gateway, gateway_labels(gateway)))
            .collect();
        gateways.retain(|(_, labels)| !labels.is_empty());
        let (gateway, labels) = gateways.first()?;
        let all_differ = gateways
            .iter()
            .all(|(_, labels)| differs(own, labels).is_some());
        all_differ.then(|| Misplaced {
            own: format!("is for {}", shown(own)),
            theirs: format!("{} in {}", gateway.label(), shown(labels)),
            hint: format!(
                "set in {}: {}: {}}}, or correct the selector of {}",
                self.manifest.label(),
                self.field,
                written(labels),
                gateway.label()
            ),
        })
    }

    /// Returns why another object does not apply to a workload of this one; `None` if it does, or if that cannot be known.
    pub(crate) fn gap(&self, workload: &Selection<'a>, other: &Workloads<'a>) -> Option<Gap> {
        // One of several selections is enough, and one for some of the workloads is better than one for none.
        let of_selection = other
            .selections
            .iter()
            .map(|theirs| self.gap_of_selection(workload, theirs, other))
            .min_by_key(|gap| gap.as_ref().map(|gap| gap.is_certain))
            .flatten();
        match (of_selection, self.gap_of_namespace(other)) {
            (Some(gap), _) if gap.is_certain => Some(gap),
            (of_selection, of_namespace) => of_namespace.or(of_selection),
        }
    }

    fn gap_of_namespace(&self, other: &Workloads<'_>) -> Option<Gap> {
        if other.is_everywhere || is_same(self.namespace, other.namespace) {
            return None;
        }
        let theirs = other.namespace.unwrap_or_default();
        Some(Gap {
            is_certain: !self.is_everywhere,
            is_of_patch: false,
            own: if self.is_everywhere {
                format!(
                    "runs in every namespace (it is in the root namespace {})",
                    quoted(self.namespace)
                )
            } else {
                format!("is in the namespace {}", quoted(self.namespace))
            },
            theirs: format!("is in `{theirs}` and applies to no other namespace"),
            hint: format!(
                "set metadata.namespace: {} in {}, if that is the namespace of the proxy",
                self.namespace.unwrap_or_default(),
                other.manifest.label()
            ),
        })
    }

    fn gap_of_selection(
        &self,
        workload: &Selection<'a>,
        theirs: &Selection<'a>,
        other: &Workloads<'a>,
    ) -> Option<Gap> {
        let is_certain = match (workload, theirs) {
            (Selection::Labels(own), Selection::Labels(theirs)) => {
                let has_all = theirs
                    .iter()
                    .all(|(name, value)| own.get(name) == Some(value));
                if has_all {
                    return None;
                }
                differs(own, theirs).is_some()
            }
            (
                Selection::Named { kind, name },
                Selection::Named {
                    kind: their_kind,
                    name: their_name,
                },
            ) if kind == their_kind && name != their_name => false,
            // Which proxy is in front of a Service is not known.
            _ => return None,
        };
        let only = if is_certain { "" } else { "only " };
        Some(Gap {
            is_certain,
            is_of_patch: false,
            own: format!("runs in {}", self.shown()),
            theirs: format!("is {only}for {}", theirs.shown()),
            hint: format!(
                "set in {}: {}",
                other.manifest.label(),
                self.written(other.field)
            ),
        })
    }

    fn shown(&self) -> String {
        let shown: Vec<String> = self.selections.iter().map(Selection::shown).collect();
        shown.join(" and ")
    }

    /// Returns the field with which another object selects the same workloads.
    fn written(&self, field: &str) -> String {
        match &self.selections[..] {
            [Selection::Labels(own)] if !own.contains_key(GATEWAY_NAME) => {
                format!("{field}: {}}}", written(own))
            }
            selections => {
                let targets = selections.iter().map(|selection| match selection {
                    Selection::Labels(own) => target::written(
                        "Gateway",
                        own.get(GATEWAY_NAME).copied().unwrap_or_default(),
                    ),
                    Selection::Named { kind, name } => format!("{{kind: {kind}, name: {name}}}"),
                });
                format!("targetRefs: [{}]", targets.collect::<Vec<_>>().join(", "))
            }
        }
    }

    /// Returns the Gateways that run in the workloads with these labels.
    fn gateways<'b>(
        &'b self,
        own: &'b Labels<'a>,
        facts: &'b Facts<'a>,
    ) -> impl Iterator<Item = &'a Manifest> + 'b {
        facts.gateways.iter().copied().filter(move |gateway| {
            let known = gateway_labels(gateway);
            let is_near = match gateway.group() {
                Group::Istio => {
                    let mut shared = known
                        .iter()
                        .filter(|(name, value)| own.get(*name) == Some(value));
                    let is_same_namespace =
                        self.namespace.is_some() && self.namespace == gateway.namespace();
                    shared.next().is_some() || (own.is_empty() && is_same_namespace)
                }
                _ => {
                    known.get(GATEWAY_NAME) == own.get(GATEWAY_NAME)
                        && is_same(self.namespace, gateway.namespace())
                }
            };
            is_near && differs(own, &known).is_none()
        })
    }

    /// Returns the labels of the pods that these labels select.
    fn pods<'b>(
        &'b self,
        own: &'b Labels<'a>,
        facts: &'b Facts<'a>,
    ) -> impl Iterator<Item = &'a Value> + 'b {
        let pods = facts.pods.iter().copied();
        let selected = pods.filter(move |(namespace, pod)| {
            let known = labels(pod);
            let has_all = own
                .iter()
                .all(|(name, value)| known.get(name) == Some(value));
            !own.is_empty() && has_all && is_same(*namespace, self.namespace)
        });
        selected.map(|(_, labels)| labels)
    }
}

impl<'a> Selection<'a> {
    fn of_target(target: &'a Value) -> Option<Self> {
        let kind = target["kind"].as_str()?;
        let name = target["name"].as_str()?;
        Some(match kind {
            "Gateway" => Self::Labels(Labels::from([(GATEWAY_NAME, name)])),
            _ => Self::Named { kind, name },
        })
    }

    fn is_class(&self) -> bool {
        matches!(
            self,
            Self::Named {
                kind: "GatewayClass",
                ..
            }
        )
    }

    fn shown(&self) -> String {
        match self {
            Self::Labels(labels) => shown(labels),
            Self::Named { kind, name } => format!("the proxy of {kind} {name}"),
        }
    }
}

/// Returns the labels that are known of the proxies of a Gateway.
fn gateway_labels(gateway: &Manifest) -> Labels<'_> {
    let spec = gateway.spec();
    if gateway.group() == Group::Istio {
        return labels(&spec["selector"]);
    }
    let mut known = labels(&gateway.object["metadata"]["labels"]);
    known.extend(labels(&spec["infrastructure"]["labels"]));
    known.insert(GATEWAY_NAME, &gateway.name);
    known
}

fn labels(value: &Value) -> Labels<'_> {
    let fields = value.as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
        .collect()
}

/// Returns a label that no workload can have with both values.
fn differs<'a>(one: &Labels<'a>, other: &Labels<'a>) -> Option<&'a str> {
    let mut names = one.iter().filter_map(|(name, value)| {
        let theirs = other.get(name)?;
        (theirs != value).then_some(*name)
    });
    names.next()
}

fn shown(labels: &Labels<'_>) -> String {
    if labels.is_empty() {
        return "all workloads of the namespace".to_owned();
    }
    let is_target = labels.len() == 1;
    if let (true, Some(name)) = (is_target, labels.get(GATEWAY_NAME)) {
        return format!("the proxy of Gateway {name}");
    }
    format!("workloads with `{}`", list(labels))
}

fn written(labels: &Labels<'_>) -> String {
    format!("{{{}}}", list(labels))
}

fn list(labels: &Labels<'_>) -> String {
    let pairs = labels
        .iter()
        .map(|(name, value)| format!("{name}: {value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

fn quoted(namespace: Option<&str>) -> String {
    format!("`{}`", namespace.unwrap_or_default())
}

/// The label that the proxy of a Gateway has, <https://gateway-api.sigs.k8s.io/geps/gep-1762/>.
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
