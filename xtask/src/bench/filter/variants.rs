//! Which ways to do the filter's job are compared, and how is Envoy configured for each?

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fluxlit_envoy::{Bootstrap, MOUNT, plugin_config};
use serde_json::{Value, json};

/// A way to do the filter's job, or none.
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// The HTTP filter in front of the router.
    filter: fn(&Modules) -> anyhow::Result<Option<Value>>,
    /// Whether it does what the filter does, so that the upstream and the client must not see a difference.
    pub(super) does_the_job: bool,
    /// Whether the targets are about it.
    pub(super) is_ours: bool,
}

pub(super) const VARIANTS: [Variant; 7] = [
    Variant {
        name: NONE,
        filter: |_| Ok(None),
        does_the_job: false,
        is_ours: false,
    },
    Variant {
        name: EMPTY,
        filter: |modules| Ok(Some(wasm("empty", &modules.empty, "{}"))),
        does_the_job: false,
        is_ours: false,
    },
    Variant {
        name: HEADER_MUTATION,
        filter: |_| header_mutation().map(Some),
        does_the_job: true,
        is_ours: false,
    },
    Variant {
        name: LUA,
        filter: |_| lua().map(Some),
        does_the_job: true,
        is_ours: false,
    },
    Variant {
        name: "fluxlit",
        filter: |modules| fluxlit(modules, "fluxlit", |_| {}).map(Some),
        does_the_job: true,
        is_ours: true,
    },
    Variant {
        name: "fluxlit, 1000 networks",
        filter: |modules| fluxlit(modules, "networks", trust_many_networks).map(Some),
        does_the_job: true,
        is_ours: true,
    },
    Variant {
        name: "fluxlit, 500 mounts",
        filter: |modules| fluxlit(modules, "mounts", publish_many_apps).map(Some),
        does_the_job: true,
        is_ours: true,
    },
];

/// The wasm modules that are measured.
pub(super) struct Modules {
    pub(super) ours: PathBuf,
    pub(super) empty: PathBuf,
}

/// The shipped listener once for each variant, with the variant's filter in the place of ours.
pub(super) fn bootstrap(modules: &Modules, addresses: &[SocketAddr]) -> anyhow::Result<Bootstrap> {
    let mut listeners = Vec::new();
    for (variant, address) in VARIANTS.iter().zip(addresses) {
        let shipped = Bootstrap::shipped().listening_on(*address);
        let mut listener = at(shipped.value(), "/static_resources/listeners/0")?.clone();
        listener["name"] = json!(variant.name);
        let filters = listener
            .pointer_mut("/filter_chains/0/filters/1/typed_config/http_filters")
            .and_then(Value::as_array_mut)
            .context("bootstrap.yaml has no HTTP filters")?;
        filters.splice(..1, (variant.filter)(modules)?);
        if variant.name == HEADER_MUTATION {
            strip_by_route(&mut listener)?;
        }
        listeners.push(listener);
    }
    Ok(Bootstrap::shipped().with_listeners(listeners))
}

/// Takes the mount off where the route is carried out: `header_mutation` may not touch `:path`.
fn strip_by_route(listener: &mut Value) -> anyhow::Result<()> {
    let route = listener
        .pointer_mut(
            "/filter_chains/0/filters/1/typed_config/route_config/virtual_hosts/0/routes/0",
        )
        .context("bootstrap.yaml has no route")?;
    route["match"]["prefix"] = json!(format!("{MOUNT}/"));
    route["route"]["prefix_rewrite"] = json!("/");
    Ok(())
}

/// Our filter, with the shipped plugin configuration after a change.
fn fluxlit(modules: &Modules, vm: &str, change: fn(&mut Value)) -> anyhow::Result<Value> {
    let mut config =
        serde_json::from_str(plugin_config()).context("cannot read plugin-config.json")?;
    change(&mut config);
    Ok(wasm(vm, &modules.ours, &config.to_string()))
}

/// As many as the policy accepts, about; none of them the peer's.
fn trust_many_networks(config: &mut Value) {
    // No two are neighbours, or they would be merged.
    let networks: Vec<String> = (0..1000)
        .map(|index| format!("10.{}.{}.0/24", index / 125, index % 125 * 2))
        .collect();
    config["trust_proxy"] = json!(true);
    config["forwarded_allow_ips"] = json!(networks);
}

/// The app that is asked for is the last of them.
fn publish_many_apps(config: &mut Value) {
    let mount = config["root_path"].take();
    let others = (0..499).map(|index| json!({"root_path": format!("/apps/app-{index}")}));
    config["mounts"] = others.chain([json!({"root_path": mount})]).collect();
    if let Some(config) = config.as_object_mut() {
        config.remove("root_path");
    }
}

fn wasm(vm: &str, module: &Path, config: &str) -> Value {
    json!({
        "name": vm,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": vm,
                "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "vm_id": vm,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": config,
                },
            },
        },
    })
}

fn header_mutation() -> anyhow::Result<Value> {
    let config: Value =
        serde_json::from_str(include_str!("../../../../envoy/bench/header_mutation.json"))
            .context("cannot read envoy/bench/header_mutation.json")?;
    Ok(json!({"name": "envoy.filters.http.header_mutation", "typed_config": config}))
}

fn lua() -> anyhow::Result<Value> {
    Ok(json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": include_str!("../../../../envoy/bench/edge.lua")},
        },
    }))
}

fn at<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("bootstrap.yaml has nothing at {pointer}"))
}

pub(super) const NONE: &str = "none";
pub(super) const EMPTY: &str = "empty";
const HEADER_MUTATION: &str = "header_mutation";
pub(super) const LUA: &str = "lua";
