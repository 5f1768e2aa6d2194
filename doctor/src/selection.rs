//! Selects checks by id or name (`--only`, `--skip`).

use crate::check::{Check, checks};

/// Which checks run.
#[derive(Debug, Clone, Default)]
pub struct CheckSelection {
    only: Vec<String>,
    skip: Vec<String>,
}

/// The error when `--only` or `--skip` names something else.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no check; `fluxlit-gateway doctor --list` shows their ids and names")]
pub struct UnknownCheck(String);

impl CheckSelection {
    /// Selects by ids or names, such as `D05` or `ws-origin`, in any case. An empty `only` selects all.
    ///
    /// # Errors
    ///
    /// If one of them is no check.
    pub fn new(only: &[String], skip: &[String]) -> Result<Self, UnknownCheck> {
        for name in only.iter().chain(skip) {
            if !checks().any(|check| is_called(check, name)) {
                return Err(UnknownCheck(name.clone()));
            }
        }
        Ok(Self {
            only: only.to_vec(),
            skip: skip.to_vec(),
        })
    }

    /// Returns true if this check runs.
    #[must_use]
    pub fn includes(&self, check: &Check) -> bool {
        let is_in = |names: &[String]| names.iter().any(|name| is_called(check, name));
        (self.only.is_empty() || is_in(&self.only)) && !is_in(&self.skip)
    }
}

fn is_called(check: &Check, name: &str) -> bool {
    check.id.eq_ignore_ascii_case(name) || check.name.eq_ignore_ascii_case(name)
}
