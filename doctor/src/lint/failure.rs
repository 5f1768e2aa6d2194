//! Finds plugins whose failure passes requests, lasts, or stops other plugins (F03).

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lint::envoy::{Envoy, HttpFilter};
use crate::lint::message::text;
use crate::outcome::Outcome;

/// Checks one FluxLit filter. `place` says where it is.
pub(crate) fn check(place: &str, filter: &HttpFilter, outcome: &mut Outcome) {
    if filter.is_module() {
        let stays = filter.config["dynamic_module_config"]["do_not_close"] == true;
        module(place, stays, "do_not_close", outcome);
        return;
    }
    let plugin = filter.plugin();
    policy(place, plugin, outcome);
    let configuration = &plugin["configuration"];
    let kind = configuration["@type"].as_str().unwrap_or_default();
    if kind.ends_with(".Struct") {
        outcome.fail(
            format!("{place}: the plugin configuration is a Struct, which Envoy passes in binary form and the filter rejects"),
            "write it as a google.protobuf.StringValue that contains the JSON text",
        );
    }
}

/// A dynamic module has no VM that could fail; a failure of it ends one request.
pub(crate) fn module(place: &str, stays_loaded: bool, field: &str, outcome: &mut Outcome) {
    if stays_loaded {
        outcome.right(format!("{place}: the module stays loaded"));
    } else {
        outcome.warn(
            format!(
                "{place}: {field} is not true, so an update can unload the module while other threads use it"
            ),
            format!("set {field}: true"),
        );
    }
}

fn policy(place: &str, plugin: &Value, outcome: &mut Outcome) {
    let failure = plugin["failure_policy"].as_str().unwrap_or_default();
    if plugin["fail_open"] == true {
        outcome.fail(
            format!("{place}: fail_open is true, so a request that makes the filter fail passes unfiltered, and all later ones"),
            RELOAD,
        );
        return;
    }
    match failure {
        "FAIL_RELOAD" => outcome.right(format!("{place}: a failed filter is started again")),
        "FAIL_OPEN" => outcome.fail(
            format!("{place}: failure_policy is FAIL_OPEN, so requests pass unfiltered after the filter has failed"),
            RELOAD,
        ),
        _ => outcome.warn(
            format!(
                "{place}: failure_policy is {}, so Envoy responds with 503 for ever after the filter has failed once",
                if failure.is_empty() || failure == "UNSPECIFIED" { "not set" } else { failure }
            ),
            RELOAD,
        ),
    }
}

/// Finds plugins that share a VM with a FluxLit filter, and so its fate.
pub(crate) fn shared_machines(envoy: &Envoy, outcome: &mut Outcome) {
    let mut machines: BTreeMap<String, Vec<(&HttpFilter, &str)>> = BTreeMap::new();
    for manager in &envoy.managers {
        for filter in manager.filters.iter().filter(|filter| filter.is_wasm()) {
            let machine = filter.plugin()["vm_config"].to_string();
            machines
                .entry(machine)
                .or_default()
                .push((filter, &manager.listener));
        }
    }
    for ours in envoy.ours().filter(|ours| ours.filter.is_wasm()) {
        let machine = ours.filter.plugin()["vm_config"].to_string();
        let sharers = machines.get(&machine).into_iter().flatten();
        let other = sharers
            .filter(|(filter, _)| filter.plugin()["name"] != ours.filter.plugin()["name"])
            .map(|(filter, listener)| format!("`{}` of listener `{listener}`", filter.name))
            .next();
        if let Some(other) = other {
            let id = text(&ours.filter.plugin()["vm_config"]["vm_id"]);
            outcome.warn(
                format!(
                    "{}: the filter shares its VM (vm_id `{id}`) with {other}, so a failure of one stops both",
                    ours.place()
                ),
                "give the FluxLit filter a vm_id of its own",
            );
        }
    }
}

const RELOAD: &str = "set failure_policy: FAIL_RELOAD (Istio: failStrategy: FAIL_RELOAD)";
