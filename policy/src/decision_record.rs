//! Records what was decided about a request, for logs and metrics.
//!
//! A record is made whether or not the decision is carried out, so that a first roll-out with `report_only` counts what
//! would be done.

use crate::client::ClientSource;
use crate::header_group::HeaderGroup;
use crate::labels::labeled_enum;
use crate::reason::Reason;

/// What was decided about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionRecord {
    /// Whether the peer was trusted, and how the client was found.
    pub trust: TrustOutcome,
    /// How the path relates to the mounts; `None` if there is no mount, or the request was rejected before.
    pub mount: Option<MountOutcome>,
    /// Why the policy replies to the request itself; `None` if it is forwarded.
    pub reply_reason: Option<Reason>,
    /// True if a trusted peer sent an `X-Forwarded-Prefix` that is ignored, because it is repeated or invalid. Only with
    /// `prefix_from_header`.
    pub prefix_ignored: bool,
    /// Whether the path arrived with the mount; `None` unless `root_path_shape` is `auto` and there is a mount.
    pub arrived: Option<ArrivedPath>,
    removed: [u32; HeaderGroup::ALL.len()],
}

labeled_enum! {
    /// Whether the peer was trusted to name the client, and how the client was found.
    pub enum TrustOutcome {
        /// Not trusted.
        Untrusted = "untrusted",
        /// Not trusted, because the direct peer is unknown.
        PeerUnknown = "peer_unknown",
        /// Trusted; the client is the first untrusted address from the right.
        TrustedHeader = "trusted_header",
        /// Trusted; every address in the header is trusted, so the client is the leftmost.
        TrustedHeaderAllTrusted = "trusted_header_all_trusted",
        /// Trusted; no header names a client, so the client is the peer.
        TrustedPeer = "trusted_peer",
        /// Trusted; the header has an unreadable element, so the client is the last address that a trusted hop named.
        TrustedStopped = "trusted_stopped",
    }
}

labeled_enum! {
    /// How the path of a request relates to the mounts.
    pub enum MountOutcome {
        /// The path is under a mount.
        Hit = "hit",
        /// The path is outside every mount.
        Miss = "miss",
        /// The path is a mount without its trailing slash, and is redirected.
        Redirect = "redirect",
    }
}

labeled_enum! {
    /// Whether the path of a request included the mount.
    pub enum ArrivedPath {
        /// With the mount.
        Full = "full",
        /// Without it, because a proxy in front has removed it.
        Stripped = "stripped",
    }
}

labeled_enum! {
    /// What was done with `Strict-Transport-Security` in a response.
    pub enum HstsOutcome {
        /// The app's own line is kept.
        Kept = "kept",
        /// The app's own lines are removed.
        Removed = "removed",
        /// The policy's line is sent.
        Set = "set",
    }
}

/// The warning for [`DecisionRecord::prefix_ignored`].
pub const PREFIX_IGNORED_WARNING: &str = "an X-Forwarded-Prefix of a trusted peer is ignored: it must be one line with one \
     path such as /apps/my-app, of letters, digits, . _ ~ - and single slashes, at most 256 bytes";

impl DecisionRecord {
    pub(crate) fn new(trust: TrustOutcome) -> Self {
        Self {
            trust,
            mount: None,
            reply_reason: None,
            prefix_ignored: false,
            arrived: None,
            removed: [0; HeaderGroup::ALL.len()],
        }
    }

    /// Records that the policy replies to the request itself.
    pub(crate) fn reply(&mut self, reason: Reason) {
        self.reply_reason = Some(reason);
        match reason {
            Reason::BareMount => self.mount = Some(MountOutcome::Redirect),
            Reason::OutsideMount => self.mount = Some(MountOutcome::Miss),
            _ => {}
        }
    }

    /// Counts one header line that is removed or replaced.
    pub(crate) fn count_removed(&mut self, group: HeaderGroup) {
        if let Some(count) = self.removed.get_mut(group as usize) {
            *count = count.saturating_add(1);
        }
    }

    /// Returns how many header lines of each group are removed or replaced because the sender must not set them.
    pub fn removed(&self) -> impl Iterator<Item = (HeaderGroup, u32)> {
        HeaderGroup::ALL
            .iter()
            .copied()
            .zip(self.removed)
            .filter(|(_, count)| *count > 0)
    }
}

impl TrustOutcome {
    /// Returns the outcome for a trusted peer whose client was found in this way.
    pub(crate) fn trusted(source: ClientSource) -> Self {
        match source {
            ClientSource::Header => Self::TrustedHeader,
            ClientSource::HeaderAllTrusted => Self::TrustedHeaderAllTrusted,
            ClientSource::Peer => Self::TrustedPeer,
            ClientSource::Stopped => Self::TrustedStopped,
        }
    }
}
