//! Decides whether a request for a decision record is answered: each one once, while it is new, and not too many.
//!
//! A request whose MAC is right may still be one that somebody has recorded and sends again. So it is accepted only within
//! [`ProbeGuard::WINDOW`] seconds of the clock, and its nonce is remembered for as long as it could be accepted again. The
//! number of nonces is limited; if there is no room, requests get 429, so that not even a holder of the key can use more
//! memory.
//!
//! This module reads no clock and keeps no state of its own: the gateway keeps one guard for all of its workers behind a
//! lock, and the filter keeps one in Envoy's shared data for all workers of the process. Other processes do not know the
//! nonces: a request can be repeated once to each other process with the same key, within the window.

use crate::probe::{Nonce, Probe, ProbeOutcome};

/// The nonces that were seen, and how many answers may still be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeGuard {
    /// Requests that were made before this time are refused, because their nonces are not known: they may be older than
    /// this guard. In seconds since 1970.
    oldest: u64,
    /// The answers that may be given at once.
    tokens: u32,
    /// When the last token was added, in seconds since 1970.
    refilled: u64,
    /// The time of each request with its nonce.
    seen: Vec<(u64, Nonce)>,
}

impl ProbeGuard {
    /// How far the time of a request may be from the clock, in seconds, in both directions.
    pub const WINDOW: u64 = 60;

    /// The answers that may be given at once. After that, one a second is given.
    pub const BURST: u32 = 20;

    /// The maximum number of nonces that are remembered.
    pub const MAX_NONCES: usize = 256;

    /// Makes the guard of a process that starts. `now`: seconds since 1970.
    pub fn new(now: u64) -> Self {
        Self {
            oldest: now,
            tokens: Self::BURST,
            refilled: now,
            seen: Vec::new(),
        }
    }

    /// Decides about a request whose MAC is right, and remembers it. `now`: seconds since 1970.
    pub fn admit(&mut self, probe: &Probe, now: u64) -> ProbeOutcome {
        self.forget(now);
        self.refill(now);
        let time = probe.time();
        if time < self.oldest || time.abs_diff(now) > Self::WINDOW {
            return ProbeOutcome::Expired;
        }
        if self.seen.iter().any(|(_, nonce)| nonce == probe.nonce()) {
            return ProbeOutcome::Replayed;
        }
        if self.seen.len() >= Self::MAX_NONCES {
            return ProbeOutcome::Limited;
        }
        self.seen.push((time, *probe.nonce()));
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                ProbeOutcome::Answered
            }
            None => ProbeOutcome::Limited,
        }
    }

    /// Forgets the nonces of requests that are too old. Should the clock go back, those are refused by their time.
    fn forget(&mut self, now: u64) {
        let first = now.saturating_sub(Self::WINDOW);
        let oldest = &mut self.oldest;
        self.seen.retain(|(time, _)| {
            let is_kept = *time >= first;
            if !is_kept {
                *oldest = (*oldest).max(time.saturating_add(1));
            }
            is_kept
        });
    }

    fn refill(&mut self, now: u64) {
        let seconds = now.saturating_sub(self.refilled);
        let added = u32::try_from(seconds).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(added).min(Self::BURST);
        // Also if the clock went back, so that tokens are added from then on.
        self.refilled = now;
    }

    /// Writes the guard as bytes, for a host that stores it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Self {
            oldest,
            tokens,
            refilled,
            seen,
        } = self;
        let mut bytes = vec![FORMAT];
        bytes.extend(oldest.to_le_bytes());
        bytes.extend(tokens.to_le_bytes());
        bytes.extend(refilled.to_le_bytes());
        for (time, nonce) in seen {
            bytes.extend(time.to_le_bytes());
            bytes.extend(nonce);
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] has written. If the bytes are anything else, the nonces are lost, so the result refuses
    /// every request that could have been seen before. `now`: seconds since 1970.
    pub fn from_bytes(bytes: &[u8], now: u64) -> Self {
        Self::read(bytes)
            .unwrap_or_else(|| Self::new(now.saturating_add(Self::WINDOW).saturating_add(1)))
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        if *format != FORMAT {
            return None;
        }
        let (oldest, rest) = rest.split_first_chunk()?;
        let (tokens, rest) = rest.split_first_chunk()?;
        let (refilled, rest) = rest.split_first_chunk()?;
        let (entries, rest) = rest.as_chunks::<ENTRY>();
        if !rest.is_empty() || entries.len() > Self::MAX_NONCES {
            return None;
        }
        let seen = entries.iter().filter_map(|entry| {
            let (time, nonce) = entry.split_first_chunk()?;
            Some((u64::from_le_bytes(*time), nonce.try_into().ok()?))
        });
        Some(Self {
            oldest: u64::from_le_bytes(*oldest),
            tokens: u32::from_le_bytes(*tokens),
            refilled: u64::from_le_bytes(*refilled),
            seen: seen.collect(),
        })
    }
}

/// The version of the stored form.
const FORMAT: u8 = 1;

/// The bytes of a stored time and nonce.
const ENTRY: usize = 24;
