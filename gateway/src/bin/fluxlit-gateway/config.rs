//! Prints the effective settings: `fluxlit-gateway config`.
//!
//! The JSON has the members that scripts read from `fluxlit config --json`, and more; `docs/settings.md` describes it.

use clap::Args;
use fluxlit_gateway::{Setting, SettingWarning, Settings};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config_for;
use crate::exit::{Exit, Unusable};
use crate::output;
use crate::target::{self, Target};

/// Print the effective settings and where each comes from
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Exit with 1 if there is a warning
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    front: Box<config_for::FrontArguments>,
}

/// Reads the settings and prints them.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let (settings, _port) = target::read_settings(&arguments.target).map_err(Unusable)?;
    if let Some(exit) = arguments.front.run(&settings) {
        return exit;
    }
    if arguments.json {
        output::write_json(&Report::new(&settings))?;
    } else {
        print(&settings)?;
    }
    if arguments.strict && !settings.warnings.is_empty() {
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

/// Prints one line for each setting with its value and origin, and the warnings to standard error.
fn print(settings: &Settings) -> anyhow::Result<()> {
    let mut text = String::new();
    let table = settings.table.iter();
    for setting in table.filter(|setting| !setting.value.is_null()) {
        let value = setting.value.to_string();
        text += &format!(
            "{}={}  # {}\n",
            setting.name,
            setting.value.as_str().unwrap_or(&value),
            setting.origin
        );
    }
    for (name, value) in &Computed::new(settings).0 {
        if !value.is_null() {
            let shown = value.to_string();
            let shown = value.as_str().unwrap_or(&shown);
            text += &format!("# {name}: {shown}\n");
        }
    }
    output::write(text)?;
    for warning in &settings.warnings {
        eprintln!("warning: {warning}");
    }
    for advice in &settings.advice {
        eprintln!("advice: {advice}");
    }
    Ok(())
}

/// The JSON of the settings.
#[derive(Serialize)]
struct Report<'s> {
    /// What is served: the app or script to start, or the URL of a running Streamlit.
    target: Value,
    binding: Value,
    /// The settings file with its keys; `null` if there is none.
    project_file: Value,
    computed: Computed,
    /// The value of each setting, by its key in a settings file.
    settings: Map<String, Value>,
    /// Each setting with its value, default and origin.
    origins: &'s [Setting],
    warnings: Vec<Warning<'s>>,
}

/// Values that follow from the settings, by name.
#[derive(Serialize)]
#[serde(transparent)]
struct Computed(Map<String, Value>);

#[derive(Serialize)]
struct Warning<'s> {
    level: &'static str,
    #[serde(flatten)]
    warning: &'s SettingWarning,
}

fn with_level<'s>(
    level: &'static str,
    warnings: &'s [SettingWarning],
) -> impl Iterator<Item = Warning<'s>> {
    warnings
        .iter()
        .map(move |warning| Warning { level, warning })
}

impl<'s> Report<'s> {
    fn new(settings: &'s Settings) -> Self {
        let key = |setting: &Setting| {
            let name = &setting.name;
            let key = name.strip_prefix("FLUXLIT_").unwrap_or(name);
            key.to_ascii_lowercase()
        };
        let table = settings.table.iter();
        let values = |setting: &Setting| (key(setting), setting.value.clone());
        let by_key: Map<String, Value> = table.clone().map(values).collect();
        let log_level = by_key.get("log_level").cloned().unwrap_or_default();
        let target = match &settings.app {
            Some(app) => match &app.fluxlit {
                Some(fluxlit) => fluxlit.target.written().to_owned(),
                None => app.script.clone(),
            },
            None => upstream(settings),
        };
        let file = settings.sources.settings_file().map(|path| {
            let from_file = table.filter(|setting| setting.is_from_file());
            let mut keys: Map<String, Value> = from_file.map(values).collect();
            keys.insert("path".to_owned(), path.display().to_string().into());
            keys
        });
        Self {
            target: target.into(),
            binding: json!({
                "host": settings.listen.ip(),
                "port": settings.listen.port(),
                "log_level": log_level,
            }),
            project_file: file.map_or(Value::Null, Value::Object),
            computed: Computed::new(settings),
            settings: by_key,
            origins: &settings.table,
            warnings: with_level("warn", &settings.warnings)
                .chain(with_level("info", &settings.advice))
                .collect(),
        }
    }
}

impl Computed {
    fn new(settings: &Settings) -> Self {
        let rule = |name: &str| settings.rules.get(name).cloned().unwrap_or_default();
        let names = settings.child_environment.iter().map(|(name, _)| name);
        let host = settings.listen.ip();
        // The address of a listener on all interfaces is not one to connect to.
        let host = match (host.is_unspecified(), host.is_ipv4()) {
            (true, true) => "127.0.0.1".to_owned(),
            (true, false) => "[::1]".to_owned(),
            (false, true) => host.to_string(),
            (false, false) => format!("[{host}]"),
        };
        let scheme = if settings.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let values = [
            ("public_mount_path", settings.policy.mount().into()),
            ("public_mounts", mounts(settings)),
            ("public_base_url", rule("public_base_url")),
            (
                "derived_internal_api_base",
                format!(
                    "{scheme}://{host}:{}{}",
                    settings.listen.port(),
                    settings.api.sub_app.path()
                )
                .into(),
            ),
            (
                "ambient_internal_api_base",
                std::env::var("FLUXLIT_INTERNAL_API_BASE").map_or(Value::Null, Value::from),
            ),
            (
                "streamlit_upstream",
                match settings.app {
                    // Its port is chosen at each start.
                    Some(_) => Value::Null,
                    None => upstream(settings).into(),
                },
            ),
            ("trust", trust(settings)),
            ("child_environment", names.cloned().collect()),
            ("hash", settings.hash().into()),
        ];
        Self(
            values
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .collect(),
        )
    }
}

/// Returns the URL of Streamlit.
fn upstream(settings: &Settings) -> String {
    let upstream = &settings.upstream;
    format!("http://{}{}", upstream.authority(), upstream.base)
}

/// Returns the public paths, each with its hosts.
fn mounts(settings: &Settings) -> Value {
    match settings.rules.get("mounts") {
        Some(mounts) => mounts.clone(),
        None => json!([{ "root_path": settings.policy.mount() }]),
    }
}

/// Returns whose forwarded headers are believed.
fn trust(settings: &Settings) -> Value {
    let rules = &settings.rules;
    let is_on = rules.get("trust_proxy") == Some(&Value::Bool(true));
    let mut trust = Map::from_iter([("is_on".to_owned(), is_on.into())]);
    for name in [
        "forwarded_allow_ips",
        "trusted_hops",
        "trusted_identities",
        "trust_any_peer",
        "forwarded_source",
        "trusted_pass_headers",
    ] {
        if let Some(value) = rules.get(name) {
            trust.insert(name.to_owned(), value.clone());
        }
    }
    trust.into()
}

const EXAMPLES: &str = "\
Examples:
  fluxlit-gateway config
  fluxlit-gateway config app.py --root-path /apps/my-app --json
  fluxlit-gateway config --strict
  fluxlit-gateway config app.py --for nginx
  fluxlit-gateway config app.py --for traefik --output traefik.yml
  fluxlit-gateway config app.py --for caddy --certificate cert.pem --key key.pem";
