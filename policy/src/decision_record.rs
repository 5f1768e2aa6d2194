//! What was decided, for logs and metrics?
//!
//! An account is taken whether or not the decision is carried out, so that a first roll-out with `report_only` counts
//! what it would do.

use crate::exchange::{ClientSource, Reason};
use crate::protected_headers::HeaderGroup;

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionRecord {
    /// Whether the peer was believed.
    pub trust: TrustOutcome,
    /// How the request stands to the mounts.
    pub mount: MountOutcome,
    /// Why the request is answered here, if it is.
    pub reply_reason: Option<Reason>,
    removed: [u32; HeaderGroup::ALL.len()],
}

/// Whether the peer was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustOutcome {
    /// It was; how the client was found.
    Trusted(ClientSource),
    /// It was not.
    Untrusted,
    /// The direct peer cannot be told, so it was not.
    Unknown,
}

/// How a request stands to the mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MountOutcome {
    /// It is under one.
    Hit,
    /// It is under none.
    Miss,
    /// No mount was looked for: there is none, or the request is refused before.
    None,
    /// It names a mount without its trailing slash, and is redirected.
    Redirect,
}

/// What became of Strict-Transport-Security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HstsOutcome {
    /// There was none, and none is sent.
    Absent,
    /// The app's own line stays.
    Kept,
    /// The app's own lines are removed.
    Removed,
    /// Ours is sent.
    Set,
}

impl DecisionRecord {
    pub(crate) fn new(trust: TrustOutcome) -> Self {
        Self {
            trust,
            mount: MountOutcome::None,
            reply_reason: None,
            removed: [0; HeaderGroup::ALL.len()],
        }
    }

    pub(crate) fn remove(&mut self, group: HeaderGroup) {
        if let Some(count) = self.removed.get_mut(group as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// How many header lines were removed or replaced because they are not the sender's to set, by group.
    pub fn removed(&self) -> impl Iterator<Item = (HeaderGroup, u32)> {
        HeaderGroup::ALL
            .into_iter()
            .zip(self.removed)
            .filter(|(_, count)| *count > 0)
    }
}

impl TrustOutcome {
    /// A short word for metric names.
    pub fn label(self) -> &'static str {
        match self {
            Self::Trusted(ClientSource::Header) => "trusted_header",
            Self::Trusted(ClientSource::HeaderAllTrusted) => "trusted_header_all_trusted",
            Self::Trusted(ClientSource::Peer) => "trusted_peer",
            Self::Trusted(ClientSource::Stopped) => "trusted_stopped",
            Self::Untrusted => "untrusted",
            Self::Unknown => "peer_unknown",
        }
    }
}

impl MountOutcome {
    /// A short word for metric names; none if there is nothing to count.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Hit => Some("hit"),
            Self::Miss => Some("miss"),
            Self::None => None,
            Self::Redirect => Some("redirect"),
        }
    }
}

impl HstsOutcome {
    /// A short word for metric names; none if there is nothing to count.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Self::Absent => None,
            Self::Kept => Some("kept"),
            Self::Removed => Some("removed"),
            Self::Set => Some("set"),
        }
    }
}
