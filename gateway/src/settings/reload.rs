//! Reads the settings again while the gateway runs.
//!
//! A setting that takes effect only when the gateway starts keeps its value, so that the settings in use always fit together
//! and to what runs; the operator is told which have changed. The others are read as at start, with the same checks.

use std::collections::BTreeSet;

use crate::observe::config::Config;
use crate::settings::error::SettingErrors;
use crate::settings::fluxlit_variables::{self, Meaning};
use crate::settings::{Setting, Settings};

/// Settings that were read again.
pub(crate) struct Reloaded {
    pub(crate) settings: Settings,
    /// The variables whose new values are in use.
    pub(crate) changed: Vec<String>,
    /// The variables whose old values stay in use until a restart.
    pub(crate) waiting: Vec<String>,
    /// The variables with whose old values the app runs until a restart. What they mean to the gateway is in use.
    pub(crate) of_app: Vec<String>,
}

impl Settings {
    /// Reads the files again.
    ///
    /// # Errors
    ///
    /// Returns every error that was found; the old settings are still valid.
    pub(crate) fn reload(&self) -> Result<Reloaded, SettingErrors> {
        let mut sources = self.sources.read_again();
        let pinned = PINNED.iter().chain(match self.app {
            // Streamlit was started with the mount.
            Some(_) => &PINNED_WITH_APP[..],
            None => &[],
        });
        let pinned: Vec<&'static str> = pinned.copied().collect();
        let mut waiting: Vec<String> = sources
            .pin(&self.sources, &pinned)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let mut settings = Self::read(self.app.clone(), sources)?;
        let mut changed = changed_names(&self.raw(), &settings.raw());
        changed.retain(|name| fluxlit_variables::meaning(name) != Some(Meaning::App));
        let mut of_app = Vec::new();
        if self.app.is_some() {
            of_app = changed_names(&self.child_environment, &settings.child_environment);
            of_app.retain(|name| !pinned.contains(&name.as_str()));
            // It is what the app was started with.
            settings
                .child_environment
                .clone_from(&self.child_environment);
        }
        waiting.sort();
        waiting.dedup();
        Ok(Reloaded {
            changed,
            waiting,
            of_app,
            settings,
        })
    }

    /// Returns each setting with its value, and with the text that was read, because the value of a secret is not shown.
    fn raw(&self) -> Vec<(String, String)> {
        let raw = |setting: &Setting| {
            let text = self.sources.find(&setting.name).map(|found| found.text);
            (setting.name.clone(), format!("{} {text:?}", setting.value))
        };
        self.table.iter().map(raw).collect()
    }

    /// Returns a hash of the settings in use, as 16 hexadecimal digits. It does not depend on secrets, so that they cannot be
    /// found by trying.
    pub fn hash(&self) -> String {
        self.config().hash
    }

    /// Returns what metrics tell about the settings.
    pub(crate) fn config(&self) -> Config {
        let table = self.table.iter();
        let table = table.map(|setting| (setting.name.as_str(), &setting.value));
        Config::new(table, self.warnings.len())
    }
}

/// Returns the names that have another value, or that only one of the lists has.
fn changed_names(old: &[(String, String)], new: &[(String, String)]) -> Vec<String> {
    let (old, new): (BTreeSet<_>, BTreeSet<_>) = (old.iter().collect(), new.iter().collect());
    let differing = old.symmetric_difference(&new);
    let mut names: Vec<String> = differing.map(|(name, _)| name.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// The variables that take effect when the gateway starts: sockets, threads, connections to upstreams, the app's process,
/// buffers, and what the log and the spans are started with.
const PINNED: [&str; 20] = [
    "FLUXLIT_API_HEALTH_PATH",
    "FLUXLIT_API_MOUNT_PATH",
    "FLUXLIT_API_UPSTREAM",
    "FLUXLIT_DEBUG",
    "FLUXLIT_GATEWAY_ADMIN_ADDRESS",
    "FLUXLIT_GATEWAY_HOST",
    "FLUXLIT_GATEWAY_MAX_HEADER_BYTES",
    "FLUXLIT_GATEWAY_PORT",
    "FLUXLIT_GATEWAY_REUSE_PORT",
    "FLUXLIT_GATEWAY_WORKERS",
    "FLUXLIT_LOG_LEVEL",
    "FLUXLIT_OTLP_ENDPOINT",
    "FLUXLIT_OTLP_SERVICE_NAME",
    "FLUXLIT_PYTHON",
    "FLUXLIT_STREAMLIT_COMMAND",
    "FLUXLIT_STREAMLIT_RUN_CLI_ARGS",
    "FLUXLIT_STREAMLIT_UPSTREAM",
    "FLUXLIT_TLS_CERTIFICATE",
    "FLUXLIT_TLS_CLIENT_CA",
    "FLUXLIT_TLS_KEY",
];

/// The variables with which an app is started.
const PINNED_WITH_APP: [&str; 3] = [
    "FLUXLIT_MOUNTS",
    "FLUXLIT_ROOT_PATH",
    "FLUXLIT_STREAMLIT_PUBLIC_PATH",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{App, Sources, StreamlitFiles};

    fn read(folder: &Path, is_started: bool) -> Settings {
        let app =
            is_started.then(|| App::script("app.py".to_owned(), 8501, StreamlitFiles::default()));
        let upstream = ("FLUXLIT_STREAMLIT_UPSTREAM", "http://127.0.0.1:8501");
        let environment = (!is_started).then_some(upstream);
        let environment = environment.map(|(name, value)| (name.into(), value.into()));
        Settings::read(app, Sources::read(Vec::new(), None, folder, environment)).expect("settings")
    }

    #[test]
    fn what_takes_effect_at_start_keeps_its_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fluxlit.toml");
        for (is_started, mount, changed, waiting, of_app) in [
            (
                false,
                "/b",
                &[
                    "FLUXLIT_DROP_COOKIES",
                    "FLUXLIT_PUBLIC_BASE_URL",
                    "FLUXLIT_ROOT_PATH",
                ][..],
                &["FLUXLIT_GATEWAY_PORT", "FLUXLIT_TLS_CLIENT_CA"][..],
                &[][..],
            ),
            (
                true,
                "/a",
                &["FLUXLIT_DROP_COOKIES", "FLUXLIT_PUBLIC_BASE_URL"],
                &[
                    "FLUXLIT_GATEWAY_PORT",
                    "FLUXLIT_ROOT_PATH",
                    "FLUXLIT_TLS_CLIENT_CA",
                ],
                &["FLUXLIT_PUBLIC_BASE_URL", "FLUXLIT_TITLE"],
            ),
        ] {
            let first = "root_path = \"/a\"\ngateway_port = 1\n";
            std::fs::write(&file, first).expect("a file");
            let settings = read(folder.path(), is_started);
            let title = if is_started { "title = \"x\"\n" } else { "" };
            let second = format!(
                "root_path = \"/b\"\npublic_base_url = \"https://portal.example.com{mount}\"\ngateway_port = 2\ndrop_cookies = [\"a\"]\ntls_client_ca = \"x\"\n{title}"
            );
            std::fs::write(&file, second).expect("a file");
            let reloaded = settings.reload().expect("settings");
            assert_eq!(reloaded.settings.policy.mount(), mount);
            assert_eq!(reloaded.settings.listen.port(), 1);
            assert_eq!(reloaded.changed, changed);
            assert_eq!(reloaded.waiting, waiting);
            assert_eq!(reloaded.of_app, of_app);
            assert_ne!(settings.hash(), reloaded.settings.hash());
            // What was kept is kept by the next reload too.
            let again = reloaded.settings.reload().expect("settings");
            assert_eq!(again.settings.listen.port(), 1);
            assert_eq!((again.changed.len(), again.waiting), (0, reloaded.waiting));
            assert_eq!(again.of_app, reloaded.of_app);
            assert_eq!(again.settings.hash(), reloaded.settings.hash());
        }
    }

    #[test]
    fn a_file_that_has_set_something_and_is_gone_is_an_error() {
        for (name, text, is_error) in [
            ("fluxlit.toml", "allowed_hosts = [\"a\"]\n", true),
            (
                "pyproject.toml",
                "[tool.fluxlit]\nallowed_hosts = [\"a\"]\n",
                true,
            ),
            (".env", "FLUXLIT_ALLOWED_HOSTS=a\n", true),
            // Nothing is lost.
            ("fluxlit.toml", "", false),
            ("pyproject.toml", "[project]\n", false),
            (".env", "PASSWORD=x\n", false),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join(name);
            std::fs::write(&file, text).expect("a file");
            let settings = read(folder.path(), false);
            std::fs::remove_file(&file).expect("removed");
            let error = settings.reload().err().map(|error| error.to_string());
            assert_eq!(error.is_some(), is_error, "{text:?}: {error:?}");
            if let Some(error) = error {
                let path = file.display().to_string();
                assert_eq!(error.matches(&path).count(), 1, "{error}");
                assert!(error.contains("is gone: put it back"), "{error}");
            }
            // Another file can take its place only while it is there.
            let other = folder.path().join("fluxlit.toml");
            std::fs::write(&other, "allowed_hosts = [\"b\"]\n").expect("a file");
            let is_same = other == file;
            assert_eq!(settings.reload().is_err(), is_error && !is_same, "{text:?}");
            std::fs::write(&file, text).expect("a file");
            assert!(settings.reload().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_file_that_a_variable_names_and_that_is_gone_is_one_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("own.toml");
        std::fs::write(&file, "streamlit_upstream = \"http://127.0.0.1:1\"\n").expect("a file");
        let variable = ("FLUXLIT_SETTINGS_FILE".into(), file.clone().into());
        let sources = Sources::read(Vec::new(), None, folder.path(), [variable]);
        let settings = Settings::read(None, sources).expect("settings");
        std::fs::remove_file(&file).expect("removed");
        let error = settings.reload().err().expect("an error").to_string();
        let path = file.display().to_string();
        assert_eq!(error.matches(&path).count(), 1, "{error}");
    }

    #[test]
    fn settings_that_do_not_fit_to_what_runs_are_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("fluxlit.toml");
        let upstream = "streamlit_upstream = \"http://127.0.0.1:8501/a\"\n";
        std::fs::write(&file, format!("{upstream}root_path = \"/a\"\n")).expect("a file");
        let sources = Sources::read(Vec::new(), None, folder.path(), []);
        let settings = Settings::read(None, sources).expect("settings");
        let other = upstream.replace("/a", "/b");
        std::fs::write(&file, format!("{other}root_path = \"/b\"\n")).expect("a file");
        let error = settings.reload().err().expect("an error").to_string();
        assert!(error.contains("FLUXLIT_ROOT_PATH is `/b`"), "{error}");
    }
}
