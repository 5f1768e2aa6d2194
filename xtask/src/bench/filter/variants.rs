//! Lists the compared ways to do the filter's job, and configures Envoy for each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, ensure};
use fluxlit_envoy::{Bootstrap, MOUNT, plugin_config};
use serde_json::{Value, json};

/// A way to do the filter's job, or a reference point that does not do it.
pub(super) struct Variant {
    pub(super) name: String,
    /// The HTTP filter before the router.
    filter: Option<Value>,
    /// True if it does what the filter does, so that the upstream and the client must not see a difference.
    pub(super) does_the_job: bool,
    /// Which targets apply to it; `None` for a reference point.
    pub(super) form: Option<Form>,
    /// True if WebSocket frames and bodies are measured as well.
    pub(super) has_streams: bool,
}

/// The forms of the policy in Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Filter,
    DynamicModule,
}

impl Variant {
    /// Returns the name as one of a file.
    pub(super) fn file_name(&self) -> String {
        self.name.replace([' ', ','], "-")
    }
}

/// Returns all variants: the reference points, the shipped filter and dynamic module, and the modules of `--module`.
pub(super) fn variants(modules: &Modules) -> anyhow::Result<Vec<Variant>> {
    let reference = |name: &str, filter, does_the_job| Variant {
        name: name.to_owned(),
        filter,
        does_the_job,
        form: None,
        has_streams: !does_the_job,
    };
    let ours = |name: &str, module: &Path, change: fn(&mut Value)| -> anyhow::Result<Variant> {
        let mut config =
            serde_json::from_str(plugin_config()).context("cannot read plugin-config.json")?;
        change(&mut config);
        Ok(Variant {
            name: name.to_owned(),
            filter: Some(wasm(name, module, &config.to_string())),
            does_the_job: true,
            form: Some(Form::Filter),
            has_streams: true,
        })
    };
    let mut variants = vec![
        reference(NONE, None, false),
        reference(EMPTY, Some(wasm(EMPTY, &modules.empty, "{}")), false),
        reference(HEADER_MUTATION, Some(header_mutation()?), true),
        Variant {
            has_streams: false,
            ..reference(
                SHORT_LUA,
                Some(lua(include_str!("../../../../envoy/bench/short.lua"))),
                false,
            )
        },
        reference(
            LUA,
            Some(lua(include_str!("../../../../envoy/bench/edge.lua"))),
            true,
        ),
        ours("fluxlit", &modules.ours, |_| {})?,
        Variant {
            filter: Some(dynamic_module(&modules.native)?),
            form: Some(Form::DynamicModule),
            ..ours("fluxlit, dynamic module", &modules.ours, |_| {})?
        },
    ];
    for NamedModule { name, path } in &modules.others {
        ensure!(
            variants.iter().all(|variant| variant.name != *name),
            "there is a variant `{name}` already: choose another name for --module"
        );
        variants.push(ours(name, path, |_| {})?);
    }
    for (name, change) in [
        (
            "fluxlit, 1000 networks",
            trust_many_networks as fn(&mut Value),
        ),
        ("fluxlit, 500 mounts", publish_many_apps),
    ] {
        variants.push(Variant {
            has_streams: false,
            ..ours(name, &modules.ours, change)?
        });
    }
    Ok(variants)
}

/// The measured modules.
pub(super) struct Modules {
    pub(super) ours: PathBuf,
    /// The dynamic module.
    pub(super) native: PathBuf,
    pub(super) empty: PathBuf,
    /// Other builds of the filter.
    pub(super) others: Vec<NamedModule>,
}

/// A module of `--module NAME=PATH`.
#[derive(Clone)]
pub(super) struct NamedModule {
    name: String,
    path: PathBuf,
}

impl FromStr for NamedModule {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, path) = text
            .split_once('=')
            .context("expected NAME=PATH, such as before=old/fluxlit_filter.wasm")?;
        let path = std::fs::canonicalize(path).with_context(|| format!("cannot find {path}"))?;
        let name = name.to_owned();
        Ok(Self { name, path })
    }
}

/// Returns a bootstrap with the shipped listener once for each variant, with the variant's filter in place of ours.
pub(super) fn bootstrap(
    variants: &[&Variant],
    addresses: &[SocketAddr],
) -> anyhow::Result<Bootstrap> {
    let mut listeners = Vec::new();
    for (variant, address) in variants.iter().zip(addresses) {
        let mut shipped = Bootstrap::shipped()
            .without_access_log()
            .listening_on(*address);
        if variant.form.is_none() {
            // The routes match what only our filter stores.
            shipped = shipped.without_guard();
        }
        let mut listener = at(shipped.value(), LISTENER)?.clone();
        listener["name"] = json!(variant.name);
        let filters = listener
            .pointer_mut(FILTERS)
            .and_then(Value::as_array_mut)
            .context("bootstrap.yaml has no HTTP filters")?;
        filters.splice(..1, variant.filter.clone());
        if variant.name == HEADER_MUTATION {
            strip_by_route(&mut listener)?;
        }
        respond_directly(&mut listener)?;
        listeners.push(listener);
    }
    Ok(Bootstrap::shipped().with_listeners(listeners))
}

/// Strips the mount by the route, because `header_mutation` cannot change `:path`.
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

/// Makes Envoy respond to [`DIRECT`] itself, without an upstream. Some variants strip the mount.
fn respond_directly(listener: &mut Value) -> anyhow::Result<()> {
    let routes = listener
        .pointer_mut("/filter_chains/0/filters/1/typed_config/route_config/virtual_hosts/0/routes")
        .and_then(Value::as_array_mut)
        .context("bootstrap.yaml has no routes")?;
    let mut condition = routes.first().context("no route")?["match"].clone();
    if let Some(condition) = condition.as_object_mut() {
        condition.remove("prefix");
    }
    for path in [DIRECT.to_owned(), format!("{MOUNT}{DIRECT}")] {
        condition["path"] = json!(path);
        let response = json!({"status": 200, "body": {"inline_string": "ok"}});
        routes.insert(0, json!({"match": condition, "direct_response": response}));
    }
    Ok(())
}

/// Trusts about as many networks as the policy accepts; the peer is in none of them.
fn trust_many_networks(config: &mut Value) {
    // No two are adjacent, or they would be merged.
    let networks: Vec<String> = (0..1000)
        .map(|index| format!("10.{}.{}.0/24", index / 125, index % 125 * 2))
        .collect();
    config["trust_proxy"] = json!(true);
    config["forwarded_allow_ips"] = json!(networks);
}

/// Publishes many apps; the requested one is the last.
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

/// Returns the filter that loads the dynamic module, as shipped.
fn dynamic_module(library: &Path) -> anyhow::Result<Value> {
    let shipped = Bootstrap::shipped()
        .with_module(library)
        .with_plugin_config(plugin_config());
    Ok(at(shipped.value(), &format!("{LISTENER}{FILTERS}/0"))?.clone())
}

fn header_mutation() -> anyhow::Result<Value> {
    let config: Value =
        serde_json::from_str(include_str!("../../../../envoy/bench/header_mutation.json"))
            .context("cannot read envoy/bench/header_mutation.json")?;
    Ok(json!({"name": "envoy.filters.http.header_mutation", "typed_config": config}))
}

fn lua(script: &str) -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    })
}

fn at<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("bootstrap.yaml has nothing at {pointer}"))
}

/// The listener of bootstrap.yaml, and its HTTP filters.
const LISTENER: &str = "/static_resources/listeners/0";
const FILTERS: &str = "/filter_chains/0/filters/1/typed_config/http_filters";

/// The path without the mount to which Envoy responds itself.
pub(super) const DIRECT: &str = "/direct";

pub(super) const NONE: &str = "none";
pub(super) const EMPTY: &str = "empty";
pub(super) const HEADER_MUTATION: &str = "header_mutation";
pub(super) const LUA: &str = "lua";
pub(super) const SHORT_LUA: &str = "short lua";
