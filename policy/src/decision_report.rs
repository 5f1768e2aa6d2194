//! Builds and reads the decision record of one request, which `doctor --probe` asks for.
//!
//! The report says what a hop believes about the request and what it does with it: the facts that it has derived, and the
//! names of the fields that it removes and sets. It contains no value of a field, other than the client, the scheme, the
//! host and the port as the policy has resolved them. Both hosts answer with the same report, because it is built here.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::client::ClientSource;
use crate::config::{PathShape, UpstreamPath};
use crate::decision::{Action, Decision};
use crate::decision_record::{MountOutcome, TrustOutcome};
use crate::edit::{Edit, Edits};
use crate::effective::Scheme;
use crate::labels::labeled_enum;
use crate::message::Request;
use crate::mount::Mount;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::probe::{Hop, Probe, ProbeKey, ProbeOutcome, SEAL_FIELD, to_hex};
use crate::reason::Reason;
use crate::request_edits::RequestEditor;
use crate::target::Target;

/// What one hop has decided about the request that asked for this report.
///
/// Later versions may add members; a reader ignores those that it does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionReport {
    /// The hop that has answered.
    pub hop: Hop,
    /// The version of the program or module that has answered.
    pub version: String,
    /// A hash of the settings of the policy, without the probe key, as 32 hexadecimal digits. Equal settings have equal
    /// hashes; absent settings count as absent, even though the two hosts have different defaults.
    pub config_hash: String,
    /// The nonce of the request.
    pub nonce: String,
    /// The host that the prober has asked.
    pub asked_host: String,
    /// True if decisions are only counted and logged: the rest of this report is what would be done.
    pub report_only: bool,
    /// The kind of the direct peer's address.
    pub peer: PeerKind,
    /// Whether the peer is trusted, and how the client was found.
    pub trust: TrustOutcome,
    /// True if an untrusted peer sent forwarded headers, which were ignored.
    pub forwarded_ignored: bool,
    /// The client's address; absent if the peer has none and no trusted hop named one.
    pub client: Option<IpAddr>,
    /// How the client's address was found.
    pub client_source: ClientSource,
    /// True if the connection to this hop is TLS.
    pub tls: bool,
    /// The effective scheme.
    pub scheme: Scheme,
    /// The effective host; absent if the request names none.
    pub host: Option<String>,
    /// The effective port.
    pub port: u16,
    /// The origin of the URLs that are written into responses, such as `https://portal.example.com`.
    pub origin: Option<String>,
    /// The path under which browsers know the app, without trailing slash; empty if there is none, or if the request was
    /// rejected before an app was found.
    pub mount: String,
    /// How the path relates to the mounts; absent if there is no mount, or the request was rejected before.
    pub mount_outcome: Option<MountOutcome>,
    /// Whether the path of a request should include the mount, as configured.
    pub path_shape: PathForm,
    /// Whether the path of this request includes the mount; absent if there is no mount, or the path is outside it.
    pub received_path: Option<PathForm>,
    /// Whether the path that is sent upstream includes the mount, as configured.
    pub upstream_path: PathForm,
    /// Why the request is not forwarded; absent if it is.
    pub reply: Option<Reason>,
    /// The names of the fields that are removed, in lower case and sorted.
    pub removed: Vec<String>,
    /// The names of the fields that the upstream receives with the policy's value, in lower case and sorted.
    pub set: Vec<String>,
    /// The names of the fields that would be removed from the request of an untrusted peer, and that pass, in lower case
    /// and sorted.
    pub passed: Vec<String>,
}

labeled_enum! {
    /// The kind of a peer's address.
    pub enum PeerKind {
        /// An IP address.
        Ip = "ip",
        /// A Unix socket.
        Unix = "unix",
        /// The host cannot tell the peer.
        Unknown = "unknown",
    }
}

labeled_enum! {
    /// Whether a path includes the mount.
    pub enum PathForm {
        /// Both are accepted.
        Auto = "auto",
        /// It includes the mount.
        Full = "full",
        /// It does not include the mount.
        Stripped = "stripped",
    }
}

/// Why an answer is not the report that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The seal is missing or wrong: the answer does not come from a hop with this key, or it was changed on the way.
    #[error("the answer is not sealed with this key")]
    Seal,
    /// The body is not a report of this version.
    #[error("the report cannot be read")]
    Body(#[source] serde_json::Error),
    /// The report is about another request.
    #[error("the report is about another request")]
    OtherRequest,
}

/// The answer to a request for a decision record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The status.
    pub status: u16,
    /// The fields, without `Content-Type` ([`Self::CONTENT_TYPE`]) and `Content-Length`.
    pub fields: Vec<(&'static str, String)>,
    /// The body, which is JSON.
    pub body: String,
}

impl ProbeAnswer {
    /// The media type of the body.
    pub const CONTENT_TYPE: &'static str = "application/json";
}

impl DecisionReport {
    /// Reads the answer to `probe`. `seal`: the value of [`SEAL_FIELD`], empty if it is absent.
    ///
    /// # Errors
    ///
    /// See [`ReportError`].
    pub fn open(
        key: &ProbeKey,
        probe: &Probe,
        seal: &[u8],
        body: &[u8],
    ) -> Result<Self, ReportError> {
        if !key.is_seal(seal, probe.nonce(), body) {
            return Err(ReportError::Seal);
        }
        let report: Self = serde_json::from_slice(body).map_err(ReportError::Body)?;
        let is_of_probe = report.hop == probe.hop() && report.nonce == to_hex(probe.nonce());
        is_of_probe
            .then_some(report)
            .ok_or(ReportError::OtherRequest)
    }
}

impl Policy {
    /// Finds a request for the decision record of this hop, see [`Probe`]. `None` for every other request, and always if
    /// `probe_key` is not set.
    ///
    /// # Errors
    ///
    /// [`ProbeOutcome::Invalid`] if it was not made with this key. Count it, and treat the request like any other.
    pub fn probe(&self, request: &Request<'_>, hop: Hop) -> Option<Result<Probe, ProbeOutcome>> {
        Probe::find(self.probe_key.as_ref()?, request, hop)
    }

    /// Returns true if decision records can be asked for.
    pub fn answers_probes(&self) -> bool {
        self.probe_key.is_some()
    }

    /// Answers a request for a decision record as [`ProbeGuard`](crate::ProbeGuard) has decided; `None` if the request must
    /// be treated like any other.
    pub fn answer_probe(
        &self,
        request: &Request<'_>,
        probe: &Probe,
        outcome: ProbeOutcome,
    ) -> Option<ProbeAnswer> {
        let key = self.probe_key.as_ref()?;
        let answer = |status, body: String| {
            let seal = key.seal(probe.nonce(), body.as_bytes());
            let mut fields = vec![("cache-control", "no-store".to_owned()), (SEAL_FIELD, seal)];
            if status == TOO_MANY_REQUESTS {
                fields.push(("retry-after", "1".to_owned()));
            }
            ProbeAnswer {
                status,
                fields,
                body,
            }
        };
        match outcome {
            ProbeOutcome::Answered => {
                let report = self.report(request, probe);
                // A struct of texts, numbers and lists always serializes.
                Some(answer(200, serde_json::to_string(&report).ok()?))
            }
            ProbeOutcome::Limited => {
                let body = r#"{"detail":"Too many decision records were asked for."}"#;
                Some(answer(TOO_MANY_REQUESTS, body.to_owned()))
            }
            ProbeOutcome::Expired
            | ProbeOutcome::Invalid
            | ProbeOutcome::Replayed
            | ProbeOutcome::Unavailable => None,
        }
    }

    fn report(&self, request: &Request<'_>, probe: &Probe) -> DecisionReport {
        let Decision {
            action,
            exchange,
            record,
        } = self.decide(request, Edits::default());
        let fields = FieldNames::of(self, request, &action);
        let app = &exchange.app;
        let is_mounted = matches!(record.mount, Some(MountOutcome::Hit));
        DecisionReport {
            hop: probe.hop(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_hash: self.config_hash.clone(),
            nonce: to_hex(probe.nonce()),
            asked_host: probe.host().to_owned(),
            report_only: self.report_only,
            peer: match request.peer {
                Peer::Ip(_) => PeerKind::Ip,
                Peer::Unix => PeerKind::Unix,
                Peer::Unknown => PeerKind::Unknown,
            },
            trust: record.trust,
            forwarded_ignored: exchange.forwarded_ignored,
            client: exchange.client.address,
            client_source: exchange.client.source,
            tls: request.tls,
            scheme: exchange.effective.scheme,
            host: exchange.effective.host.as_deref().map(str::to_owned),
            port: exchange.effective.port,
            origin: app.origin(&exchange.effective),
            mount: exchange.mount(),
            mount_outcome: record.mount,
            path_shape: match app.path_shape {
                PathShape::Auto => PathForm::Auto,
                PathShape::Full => PathForm::Full,
                PathShape::Stripped => PathForm::Stripped,
            },
            received_path: is_mounted
                .then(|| received_path(request, &app.mount))
                .flatten(),
            upstream_path: match app.upstream_path {
                UpstreamPath::Full => PathForm::Full,
                UpstreamPath::Stripped => PathForm::Stripped,
            },
            reply: record.reply_reason,
            removed: fields.removed.into_iter().collect(),
            set: fields.set.into_iter().collect(),
            passed: fields.passed.into_iter().collect(),
        }
    }
}

/// What happens to the fields of a request, by name.
#[derive(Default)]
struct FieldNames {
    removed: BTreeSet<String>,
    set: BTreeSet<String>,
    passed: BTreeSet<String>,
}

impl FieldNames {
    fn of(policy: &Policy, request: &Request<'_>, action: &Action) -> Self {
        let mut names = Self::default();
        let Action::Forward(forward) = action else {
            return names;
        };
        for edit in forward.edits.iter() {
            match edit {
                Edit::Append(name, _) | Edit::Set(name, _) => {
                    names.set.insert(name.to_string());
                }
                Edit::Host(_) => {
                    names.set.insert("host".to_owned());
                }
                Edit::Remove(name) => {
                    names.removed.insert(name.to_string());
                }
                Edit::Target(_) => {}
            }
        }
        let protected = &policy.request_editor.protected;
        for (name, _) in request.headers {
            let text = String::from_utf8_lossy(name).to_ascii_lowercase();
            if names.removed.contains(&text) || names.set.contains(&text) {
                continue;
            }
            if RequestEditor::sets(&text) {
                // It has the policy's value already, so there is no edit.
                names.set.insert(text);
            } else if protected.removal(name, false).is_some() {
                names.passed.insert(text);
            }
        }
        names
    }
}

/// Returns whether the path of a request includes the mount; `None` if there is no mount.
fn received_path(request: &Request<'_>, mount: &Mount) -> Option<PathForm> {
    let target = Target::parse(request.method, request.target).ok()?;
    if mount.is_none() {
        return None;
    }
    Some(match mount.strip(target.path) {
        Some(_) => PathForm::Full,
        None => PathForm::Stripped,
    })
}

/// RFC 6585 §4.
const TOO_MANY_REQUESTS: u16 = 429;
