//! What does a running Envoy say of itself?

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::wire::{self, Kind};

/// The admin interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admin {
    pub(super) address: SocketAddr,
}

impl Admin {
    /// Whether Envoy serves.
    pub(super) async fn is_ready(&self) -> bool {
        matches!(self.get("/ready").await, Ok(body) if body.starts_with(b"LIVE"))
    }

    /// Where each listener has come to be, by its name; those on Unix sockets are left out.
    pub(super) async fn listeners(&self) -> anyhow::Result<BTreeMap<String, SocketAddr>> {
        let body = self.get("/listeners?format=json").await?;
        let value: Value = serde_json::from_slice(&body).context("the list of listeners")?;
        let statuses = value["listener_statuses"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let address = |status: &Value| {
            let socket = &status["local_address"]["socket_address"];
            let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
            let address = SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port);
            Some((status["name"].as_str()?.to_owned(), address))
        };
        Ok(statuses.iter().filter_map(address).collect())
    }

    /// How many bytes the listeners of cases have read so far.
    pub(super) async fn received_bytes(&self) -> anyhow::Result<u64> {
        self.counter("http.case.downstream_cx_rx_bytes_total").await
    }

    /// The value of a counter; 0 before it has counted anything.
    pub(super) async fn counter(&self, name: &str) -> anyhow::Result<u64> {
        let (_, what) = name.rsplit_once('.').context("a counter's name has dots")?;
        let body = self.get(&format!("/stats?usedonly&filter={what}")).await?;
        let text = String::from_utf8_lossy(&body);
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(value.map_or(Ok(0), str::parse)?)
    }

    /// The counters and gauges that filters have defined and used, by the names that they gave them.
    pub(super) async fn metrics(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let body = self
            .get(&format!("/stats?usedonly&filter=^{CUSTOM}"))
            .await?;
        let text = String::from_utf8_lossy(&body);
        let metric = |line: &str| {
            // What a histogram says is no number.
            let (name, value) = line.strip_prefix(CUSTOM)?.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(metric).collect())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let mut connection = BufReader::new(TcpStream::connect(self.address).await?);
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        connection.flush().await?;
        let head = wire::read_head(&mut connection)
            .await?
            .context("Envoy said nothing")?;
        Ok(
            wire::read_rest(&mut connection, &head.headers, Kind::Response)
                .await
                .body,
        )
    }
}

/// Envoy's own word before the name of a filter's metric.
const CUSTOM: &str = "wasmcustom.";
