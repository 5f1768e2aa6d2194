//! The other proxies that people have in front: nginx and Caddy, as `fronts/` configures them.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::service::{Service, ServiceError};

/// A proxy in front of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Caddy, taking the mount off: `fronts/Caddyfile`.
    Caddy,
    /// nginx, passing the path on: `fronts/nginx-full.conf`.
    NginxFull,
    /// nginx, taking the mount off: `fronts/nginx-stripped.conf`.
    NginxStripped,
}

impl Front {
    /// Whether it takes the mount off.
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
        let what = match self {
            Self::Caddy => "Caddy",
            Self::NginxFull | Self::NginxStripped => "nginx",
        };
        let folder = folder
            .canonicalize()
            .map_err(|source| ServiceError::Start { what, source })?;
        let file = folder.join("front.conf");
        let text = self.configuration(listen, gateway);
        std::fs::write(&file, text).map_err(|source| ServiceError::Start { what, source })?;
        let mut command = Command::new(executable);
        match self {
            Self::Caddy => {
                command
                    .args(["run", "--adapter", "caddyfile", "--config"])
                    .arg(&file)
                    // Where it would keep certificates.
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
        Service::start(what, command, &folder.join("front.log"), |_| {
            TcpStream::connect_timeout(&listen, Duration::from_secs(1)).is_ok()
        })
    }

    /// The shipped file with other addresses, and for nginx with the main block that a distribution brings.
    fn configuration(self, listen: SocketAddr, gateway: SocketAddr) -> String {
        let (shipped, own) = match self {
            Self::Caddy => (include_str!("../fronts/Caddyfile"), "http://:10000"),
            Self::NginxFull => (include_str!("../fronts/nginx-full.conf"), NGINX_LISTEN),
            Self::NginxStripped => (include_str!("../fronts/nginx-stripped.conf"), NGINX_LISTEN),
        };
        let port = own.replace("10000", &listen.port().to_string());
        let text = replace_once(shipped, own, &port);
        let text = replace_once(&text, "127.0.0.1:8000", &gateway.to_string());
        match self {
            Self::Caddy => text,
            Self::NginxFull | Self::NginxStripped => NGINX_MAIN.replace("SERVER", &text),
        }
    }
}

fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(
        text.matches(from).count(),
        1,
        "{from} stands once in {text}"
    );
    text.replace(from, to)
}

const NGINX_LISTEN: &str = "listen 127.0.0.1:10000";

const NGINX_MAIN: &str = "daemon off;
pid nginx.pid;
worker_processes 1;
events {}
http {
access_log off;
client_body_temp_path body;
proxy_temp_path proxy;
fastcgi_temp_path fastcgi;
scgi_temp_path scgi;
uwsgi_temp_path uwsgi;
SERVER
}
";
