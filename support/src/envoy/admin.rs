//! Reads the admin interface of a running Envoy.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use serde_json::Value;

use crate::client;

/// The admin interface of an Envoy.
#[derive(Debug, Clone, Copy)]
pub struct Admin {
    /// Its address.
    pub address: SocketAddr,
}

impl Admin {
    /// Returns the body of a page.
    ///
    /// # Errors
    ///
    /// If Envoy cannot be reached.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let response = client::get(self.address, path, None)?;
        Ok(String::from_utf8_lossy(&response.body).into_owned())
    }

    /// Returns true if Envoy is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.get("/ready"), Ok(body) if body.starts_with("LIVE"))
    }

    /// Returns the address of each listener by its name, except those on Unix sockets.
    ///
    /// # Errors
    ///
    /// If Envoy cannot be reached.
    pub fn listeners(&self) -> io::Result<BTreeMap<String, SocketAddr>> {
        let body = self.get("/listeners?format=json")?;
        let value: Value = serde_json::from_str(&body)?;
        let statuses = value["listener_statuses"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let address = |status: &Value| {
            let socket = &status["local_address"]["socket_address"];
            let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
            let address = SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port);
            Some((status["name"].as_str()?.to_owned(), address))
        };
        Ok(statuses.iter().filter_map(address).collect())
    }

    /// Returns the value of a counter, whose name has dots; 0 if the counter has never been incremented.
    ///
    /// # Errors
    ///
    /// If Envoy cannot be reached.
    pub fn counter(&self, name: &str) -> io::Result<u64> {
        let filter = name.rsplit('.').next().unwrap_or(name);
        let body = self.get(&format!("/stats?usedonly&filter={filter}"))?;
        let value = body
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(Ok(0), |value| value.parse().map_err(io::Error::other))
    }

    /// Returns the counters and gauges that filters have defined and used, by the names that the filters gave them.
    ///
    /// # Errors
    ///
    /// If Envoy cannot be reached.
    pub fn metrics(&self) -> io::Result<BTreeMap<String, u64>> {
        let body = self.get(&format!("/stats?usedonly&filter=^{CUSTOM}"))?;
        let metric = |line: &str| {
            let (name, value) = line.strip_prefix(CUSTOM)?.rsplit_once(": ")?;
            // The value of a histogram is not a number.
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(body.lines().filter_map(metric).collect())
    }
}

/// Envoy's prefix of the names of filters' metrics.
const CUSTOM: &str = "wasmcustom.";
