//! Where does a setting's value come from, and what was wrong with it?
//!
//! Command line before environment before file before default. Every fault is kept, so that an operator sees all of
//! them at once.

use std::net::IpAddr;
use std::time::Duration;

use fluxlit_policy::{SubApp, SubAppPath};
use serde_json::Value;

use crate::settings::file::SettingsFile;
use crate::settings::{Api, Origin, Setting, SettingError, TlsFiles, Upstream};

/// Where values come from, and what was wrong with them.
pub(super) struct Source<'a> {
    pub(super) flags: &'a [(&'static str, String)],
    pub(super) environment: &'a [(String, String)],
    pub(super) file: &'a SettingsFile,
    pub(super) table: Vec<Setting>,
    pub(super) errors: Vec<SettingError>,
}

impl Source<'_> {
    /// The value that is set, if one is.
    pub(super) fn get(&mut self, name: &'static str) -> Option<String> {
        let (value, origin) = self.find(name)?;
        self.table.push(Setting {
            name: name.to_owned(),
            value: value.clone().into(),
            origin,
        });
        Some(value)
    }

    /// Notes what the value that was asked for last is, when it is more than text.
    fn understood(&mut self, value: impl Into<Value>) {
        if let Some(setting) = self.table.last_mut() {
            setting.value = value.into();
        }
    }

    /// The same, without noting that it was asked for.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.find(name).map(|(value, _)| value)
    }

    fn find(&self, name: &str) -> Option<(String, Origin)> {
        if let Some((_, value)) = self.flags.iter().find(|(flag, _)| *flag == name) {
            return Some((value.clone(), Origin::CommandLine));
        }
        let value = |of: &[(String, String)]| {
            let (_, value) = of.iter().find(|(variable, _)| variable == name)?;
            Some(value.clone())
        };
        let of_environment = value(self.environment).map(|value| (value, Origin::Environment));
        of_environment.or_else(|| Some((value(&self.file.values)?, Origin::File)))
    }

    pub(super) fn text(&mut self, name: &'static str, default: &str) -> String {
        self.get(name).unwrap_or_else(|| {
            self.table.push(Setting {
                name: name.to_owned(),
                value: default.into(),
                origin: Origin::Default,
            });
            default.to_owned()
        })
    }

    pub(super) fn wrong(&mut self, name: &'static str, value: String, expected: &'static str) {
        self.errors.push(SettingError::Value {
            name,
            value,
            expected,
        });
    }

    /// A whole number within bounds.
    pub(super) fn whole<N>(&mut self, name: &'static str, default: &str, least: N, most: N) -> N
    where
        N: std::str::FromStr + PartialOrd + Copy + std::fmt::Display + Into<Value>,
    {
        let value = self.text(name, default);
        match value.trim().parse::<N>() {
            Ok(number) if (least..=most).contains(&number) => {
                self.understood(number);
                number
            }
            _ => {
                self.errors.push(SettingError::Range {
                    name,
                    value,
                    least: least.to_string(),
                    most: most.to_string(),
                });
                least
            }
        }
    }

    pub(super) fn flag(&mut self, name: &'static str, default: &str) -> bool {
        let value = self.text(name, default);
        if let Some(flag) = read_boolean(&value) {
            self.understood(flag);
            return flag;
        }
        self.wrong(name, value, "1, true, yes, on, 0, false, no or off");
        false
    }

    /// A list with commas; empty if it is not set.
    pub(super) fn list(&mut self, name: &'static str) -> Vec<String> {
        let value = self.get(name).unwrap_or_default();
        value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    pub(super) fn socket_address(&mut self, name: &'static str) -> Option<std::net::SocketAddr> {
        let value = self.get(name)?;
        let read = value.trim().parse().ok();
        if read.is_none() {
            self.wrong(
                name,
                value,
                "an address with a port, such as 127.0.0.1:9901",
            );
        }
        read
    }

    /// Seconds, or 0 for none.
    pub(super) fn seconds_or_none(&mut self, name: &'static str, default: &str) -> Duration {
        let is_none = self
            .value(name)
            .is_some_and(|value| value.trim().parse() == Ok(0.0));
        if is_none {
            let _ = self.get(name);
            self.understood(0.0);
            return Duration::ZERO;
        }
        self.seconds(name, default)
    }

    pub(super) fn seconds(&mut self, name: &'static str, default: &str) -> Duration {
        let value = self.text(name, default);
        let seconds = value.trim().parse::<f64>().ok();
        match seconds.filter(|seconds| (0.001..=86_400.0).contains(seconds)) {
            Some(seconds) => {
                self.understood(seconds);
                Duration::from_secs_f64(seconds)
            }
            None => {
                self.wrong(name, value, "a number of seconds from 0.001 to 86400");
                Duration::ZERO
            }
        }
    }

    pub(super) fn address(&mut self, name: &'static str, default: IpAddr) -> IpAddr {
        let value = self.text(name, &default.to_string());
        value.trim().parse().unwrap_or_else(|_| {
            self.wrong(name, value, "an IP address, such as 127.0.0.1 or 0.0.0.0");
            default
        })
    }

    pub(super) fn upstream(&mut self, starts_app: bool) -> Option<Upstream> {
        let name = "FLUXLIT_STREAMLIT_UPSTREAM";
        let Some(url) = self.get(name) else {
            if !starts_app {
                self.errors.push(SettingError::NothingToServe);
            }
            return None;
        };
        if starts_app {
            self.wrong(
                name,
                url,
                "used together with a script to start: give one of them",
            );
            return None;
        }
        let read = Upstream::read(url.trim());
        if read.is_none() {
            self.wrong(
                name,
                url,
                "a URL such as http://127.0.0.1:8501 or http://127.0.0.1:8501/apps/my-app",
            );
        }
        read
    }

    /// The API: where it is published, and who serves it.
    pub(super) fn api(&mut self, mount: &str) -> Option<Api> {
        let name = "FLUXLIT_API_MOUNT_PATH";
        let path = self.text(name, "/api");
        let mut part = SubApp::parse(&path, SubAppPath::Stripped);
        if part.is_none() {
            self.wrong(name, path, "a path such as /api");
        }
        let name = "FLUXLIT_API_UPSTREAM";
        let upstream = self.get(name).and_then(|url| {
            let read = Upstream::read(url.trim());
            if read.is_none() {
                self.wrong(name, url, "a URL such as http://127.0.0.1:9000");
            }
            read
        });
        if let (Some(upstream), Some(api)) = (&upstream, &part)
            && !upstream.base.is_empty()
        {
            let own = api.path().to_owned();
            if upstream.base == own {
                part = SubApp::parse(&own, SubAppPath::MountStripped);
            } else if upstream.base == [mount, &own].concat() {
                part = SubApp::parse(&own, SubAppPath::Full);
            } else {
                self.errors.push(SettingError::ApiUpstreamPath {
                    base: upstream.base.clone(),
                    mount: mount.to_owned(),
                    part: own,
                });
            }
        }
        let health_path = self.get("FLUXLIT_API_HEALTH_PATH").and_then(|path| {
            let is_path =
                path.starts_with('/') && path.bytes().all(|octet| octet.is_ascii_graphic());
            if !is_path {
                self.wrong("FLUXLIT_API_HEALTH_PATH", path, "a path such as /healthz");
                return None;
            }
            Some(path)
        });
        Some(Api {
            part: part?,
            upstream,
            health_path,
        })
    }

    pub(super) fn tls(&mut self) -> Option<TlsFiles> {
        let (certificate, key) = ("FLUXLIT_TLS_CERTIFICATE", "FLUXLIT_TLS_KEY");
        match (self.get(certificate), self.get(key)) {
            (Some(certificate), Some(key)) => Some(TlsFiles {
                certificate: certificate.into(),
                key: key.into(),
            }),
            (None, None) => None,
            (certificate_is_set, _) => {
                let (set, missing) = match certificate_is_set {
                    Some(_) => (certificate, key),
                    None => (key, certificate),
                };
                self.errors.push(SettingError::HalfOfTls { set, missing });
                None
            }
        }
    }

    /// Says which names of the file are no settings.
    pub(super) fn refuse_unread_keys(&mut self) {
        let is_read = |name: &str| self.table.iter().any(|setting| setting.name == name);
        let unread = self.file.values.iter().filter(|(name, _)| !is_read(name));
        let keys = unread.map(|(name, _)| name.trim_start_matches(PREFIX).to_ascii_lowercase());
        let errors: Vec<SettingError> = keys
            .filter(|key| !OF_FLUXLIT.contains(&key.as_str()))
            .map(|key| SettingError::UnknownKey {
                path: self.file.path.clone(),
                key,
            })
            .collect();
        self.errors.extend(errors);
    }

    pub(super) fn unread_variables(&self) -> Vec<String> {
        let is_read = |name: &str| {
            self.table.iter().any(|setting| setting.name == name) || KNOWN.contains(&name)
        };
        self.environment
            .iter()
            .filter(|(name, _)| name.starts_with(PREFIX) && !is_read(name))
            .map(|(name, _)| format!("{name} is not a setting of the gateway and has no effect"))
            .collect()
    }
}

pub(super) fn read_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What else FluxLit has in its file: which Python app it is, and how much that logs.
const OF_FLUXLIT: [&str; 2] = ["log_level", "target"];

/// What the variables of the gateway begin with.
pub(super) const PREFIX: &str = "FLUXLIT_";

/// Variables that FluxLit itself reads in the app's process, which the gateway passes on, and that which names the file.
const KNOWN: [&str; 2] = ["FLUXLIT_APP", "FLUXLIT_SETTINGS_FILE"];
