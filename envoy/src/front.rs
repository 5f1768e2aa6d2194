//! Starts the other proxies that users put in front of the gateway, nginx and Caddy, with the configuration in `fronts/`.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fluxlit_support::service::{Service, ServiceError};

/// A proxy in front of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Caddy, which removes the mount from the path: `fronts/Caddyfile`.
    Caddy,
    /// nginx, which forwards the whole path: `fronts/nginx-full.conf`.
    NginxFull,
    /// nginx, which removes the mount from the path: `fronts/nginx-stripped.conf`.
    NginxStripped,
}

impl Front {
    /// Returns true if the proxy removes the mount from the path.
    pub fn is_stripping(self) -> bool {
        match self {
            Self::NginxFull => false,
            Self::Caddy | Self::NginxStripped => true,
        }
    }

    /// Starts the executable on `listen`, in front of a gateway. Configuration and log are written to `folder`.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(
        self,
        executable: &Path,
        listen: SocketAddr,
        gateway: SocketAddr,
        folder: &Path,
    ) -> Result<Service, ServiceError> {
        let text = self.shipped(listen, gateway);
        self.start_printed(executable, &text, listen, folder)
    }

    /// The same with a configuration that `fluxlit-gateway config --for` has printed, which listens on `listen`.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start_printed(
        self,
        executable: &Path,
        text: &str,
        listen: SocketAddr,
        folder: &Path,
    ) -> Result<Service, ServiceError> {
        let name = match self {
            Self::Caddy => "Caddy",
            Self::NginxFull | Self::NginxStripped => "nginx",
        };
        let folder = folder
            .canonicalize()
            .map_err(|source| ServiceError::Start { name, source })?;
        let file = folder.join("front.conf");
        std::fs::write(&file, self.with_own_files(text))
            .map_err(|source| ServiceError::Start { name, source })?;
        let mut command = Command::new(executable);
        match self {
            Self::Caddy => {
                command
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(&file)
                    // Caddy stores certificates there.
                    .env("XDG_DATA_HOME", &folder)
                    .env("XDG_CONFIG_HOME", &folder);
            }
            Self::NginxFull | Self::NginxStripped => {
                command
                    .arg("-p")
                    .arg(&folder)
                    .args(["-e", "stderr", "-c"])
                    .arg(&file);
            }
        }
        Service::start(name, command, &folder.join("front.log"), |_| {
            TcpStream::connect_timeout(&listen, Duration::from_secs(1)).is_ok()
        })
    }

    /// Returns the shipped file with other addresses.
    fn shipped(self, listen: SocketAddr, gateway: SocketAddr) -> String {
        let (shipped, own) = match self {
            Self::Caddy => (include_str!("../fronts/Caddyfile"), "http://:10000"),
            Self::NginxFull => (include_str!("../fronts/nginx-full.conf"), NGINX_LISTEN),
            Self::NginxStripped => (include_str!("../fronts/nginx-stripped.conf"), NGINX_LISTEN),
        };
        let port = own.replace("10000", &listen.port().to_string());
        let text = replace_once(shipped, own, &port);
        replace_once(&text, "127.0.0.1:8000", &gateway.to_string())
    }

    /// Keeps the program in the foreground, with files in its own folder.
    fn with_own_files(self, text: &str) -> String {
        match self {
            Self::Caddy => replace_once(text, "\n{\n", CADDY_OPTIONS),
            Self::NginxFull | Self::NginxStripped => {
                replace_once(text, "\nevents {\n", "\ndaemon off;\nevents {\n")
            }
        }
    }
}

fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(
        text.matches(from).count(),
        1,
        "{from} must occur once in {text}"
    );
    text.replace(from, to)
}

const NGINX_LISTEN: &str = "listen 127.0.0.1:10000";

const CADDY_OPTIONS: &str = "
{
	admin off
	persist_config off
";
