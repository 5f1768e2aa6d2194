//! Describes the gateway and its Streamlit for the doctor, which knows neither the settings nor their files.

use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;

use anyhow::Context;
use fluxlit_doctor::app::{Limits, Options, Subject};
use fluxlit_doctor::fluxlit::Facts;
use fluxlit_gateway::{Origin, Settings, python};
use serde_json::{Map, Value};

use crate::modules::{self, Modules, folder_of_script};
use crate::target::Target;

/// Returns what the checks of the app need.
pub(crate) fn subject(settings: &Settings, target: &Target) -> anyhow::Result<Subject> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let streamlit: Option<SocketAddr> = if settings.app.is_some() {
        None
    } else {
        let authority = settings.upstream.authority();
        let mut addresses = authority
            .to_socket_addrs()
            .with_context(|| format!("{authority} has no address"))?;
        addresses.next()
    };
    let mut options = options(target.app.as_deref());
    if settings.app.is_some() {
        options.trusted_user_headers = settings.trusted_user_headers.keys().cloned().collect();
    }
    Ok(Subject {
        program,
        app: target.run_arguments(),
        settings: variables(settings),
        policy: settings.rules.clone(),
        streamlit,
        authority: settings.upstream.authority(),
        base: settings.upstream.base.clone(),
        mount: settings.policy.mount().to_owned(),
        public: text(&settings.rules, "public_base_url").parse().ok(),
        limits: Limits {
            websocket_line_bytes: settings.limits.websocket_line_bytes,
            websocket_fields: settings.limits.websocket_fields,
            fields: settings.limits.fields,
            body_bytes: settings.limits.body_bytes,
            websocket_idle: settings.limits.websocket_idle,
        },
        streamlit_command: settings.streamlit_command.clone(),
        options,
        api: settings.api.sub_app.path().to_owned(),
        warnings: [&settings.warnings, &settings.advice]
            .into_iter()
            .flatten()
            .map(ToString::to_string)
            .collect(),
    })
}

/// Returns the variables of the settings that have no default value.
fn variables(settings: &Settings) -> Vec<(String, String)> {
    let set = settings
        .table
        .iter()
        .filter(|setting| setting.origin != Origin::Default && !setting.value.is_null());
    set.map(|setting| {
        let value = match &setting.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        (setting.name.clone(), value)
    })
    // A secret is replaced in the table, and no self-test needs one.
    .filter(|(_, value)| !value.contains("[REDACTED]"))
    .collect()
}

/// Returns what FluxLit's checks need.
pub(crate) fn facts(settings: &Settings, target: Option<&str>) -> Facts {
    let rules = &settings.rules;
    let has = |name: &str| {
        rules
            .get(name)
            .is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
    };
    let list = match rules.get("forwarded_allow_ips") {
        Some(Value::Array(items)) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(","),
        _ => text(rules, "forwarded_allow_ips").to_owned(),
    };
    let has_api = settings.app.as_ref().is_some_and(|app| app.api.is_some());
    Facts {
        trusts_proxy: has("trust_proxy"),
        forwarded_allow_ips: list,
        names_proxies_otherwise: has("trusted_hops") || has("trusted_identities"),
        mount: settings.policy.mount().to_owned(),
        public_base_url: text(rules, "public_base_url").to_owned(),
        forwarded_headers: forwarded_headers(settings),
        ..facts_of_target(target, has_api, &python(settings))
    }
}

/// Returns what is known if the settings are invalid.
pub(crate) fn facts_without_settings(target: Option<&str>) -> Facts {
    facts_of_target(target, false, "python3".as_ref())
}

/// `has_api`: whether an API is started, for which Python looks in the current folder first.
fn facts_of_target(target: Option<&str>, has_api: bool, python: &OsStr) -> Facts {
    let Some(target) = target else {
        return Facts::default();
    };
    let current = has_api || target.contains(':');
    let folder = folder_of_script(target);
    let folders = current.then_some(".").into_iter().chain(folder);
    let Modules { paths, shadows } = modules::find(python, folders);
    Facts {
        target: Some(target.to_owned()),
        import_paths: paths,
        shadows,
        ..Facts::default()
    }
}

fn forwarded_headers(settings: &Settings) -> Vec<String> {
    let setting = settings
        .table
        .iter()
        .find(|setting| setting.name == FORWARDED_HEADERS);
    let names = setting.map(|setting| match &setting.value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    });
    let names = names
        .and_then(|names| names.as_array().cloned())
        .unwrap_or_default();
    names
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect()
}

/// Returns Streamlit's options from the places that `streamlit run` reads; a later one counts more.
fn options(script: Option<&str>) -> Options {
    let folders = [
        std::env::home_dir(),
        std::env::current_dir().ok(),
        script.and_then(|script| Path::new(script).parent().map(Path::to_owned)),
    ];
    let mut options = Options::default();
    for folder in folders.into_iter().flatten() {
        let path = folder.join(".streamlit").join("config.toml");
        let file: Option<Map<String, Value>> = std::fs::read_to_string(&path)
            .ok()
            .and_then(|text| toml::from_str(&text).ok());
        if let Some(Value::Object(server)) = file.as_ref().and_then(|file| file.get("server")) {
            let place = path.display().to_string();
            read_options(&mut options, &place, |name| server.get(name).cloned());
        }
    }
    read_options(&mut options, "environment", |name| {
        let text = std::env::var(format!("STREAMLIT_SERVER_{}", upper_snake_case(name))).ok()?;
        Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    });
    options
}

fn read_options(options: &mut Options, place: &str, value: impl Fn(&str) -> Option<Value>) {
    let megabytes = |name: &str| value(name)?.as_u64().map(|size| (size, place.to_owned()));
    if let Some(size) = megabytes("maxUploadSize") {
        options.max_upload_size = Some(size);
    }
    if let Some(Value::String(path)) = value("baseUrlPath") {
        options.base_url_path = Some(path);
    }
    match value("trustedUserHeaders") {
        Some(Value::Object(mapping)) => {
            options.trusted_user_headers = mapping.keys().cloned().collect();
        }
        Some(Value::String(text)) => {
            let mapping: Map<String, Value> = serde_json::from_str(&text).unwrap_or_default();
            options.trusted_user_headers = mapping.keys().cloned().collect();
        }
        _ => {}
    }
}

/// Returns `MAX_UPLOAD_SIZE` for `maxUploadSize`, as Streamlit names its variables.
fn upper_snake_case(name: &str) -> String {
    let mut upper = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            upper.push('_');
        }
        upper.push(letter.to_ascii_uppercase());
    }
    upper
}

fn text<'a>(rules: &'a Map<String, Value>, name: &str) -> &'a str {
    rules.get(name).and_then(Value::as_str).unwrap_or_default()
}

const FORWARDED_HEADERS: &str = "FLUXLIT_GATEWAY_FORWARD_CLIENT_HEADERS_TO_STREAMLIT";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_of_streamlit_are_read_from_files_and_variables() {
        assert_eq!(upper_snake_case("maxUploadSize"), "MAX_UPLOAD_SIZE");
        let mut options = Options::default();
        let file = json!({"maxUploadSize": 10, "baseUrlPath": "apps/x", "trustedUserHeaders": {"X-User": "name"}});
        read_options(&mut options, "config.toml", |name| file.get(name).cloned());
        let variables = json!({"maxUploadSize": 20});
        read_options(&mut options, "environment", |name| {
            variables.get(name).cloned()
        });
        let wanted = Options {
            max_upload_size: Some((20, "environment".to_owned())),
            trusted_user_headers: vec!["X-User".to_owned()],
            base_url_path: Some("apps/x".to_owned()),
        };
        assert_eq!(options, wanted);
    }
}
