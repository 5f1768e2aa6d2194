//! Sends an upload, and tells whether Streamlit or a hop in front has answered it.

use crate::client::{Ask, Failure};
use crate::probe::context::Context;
use crate::probe::front::Hop;

/// The answer to an upload.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) by: Hop,
    /// The same for a sentence.
    pub(crate) text: String,
    /// It is HTML, or what Envoy says if its rules refuse a request. Streamlit answers uploads with plain text.
    is_of_front: bool,
}

impl Answer {
    /// Returns true if it is how Streamlit answers an upload to a session that it does not have.
    pub(crate) fn is_of_app(&self) -> bool {
        matches!(self.status, 100 | 400 | 403) && !self.is_of_front
    }
}

/// Sends an upload and returns its answer.
pub(crate) async fn answer(context: &Context, ask: &Ask) -> Result<Answer, Failure> {
    let response = context.client.send(ask).await?;
    Ok(Answer {
        status: response.status,
        by: context.by(&response),
        text: context.answer(&response),
        is_of_front: response.has_markup() || response.text().starts_with("RBAC: "),
    })
}

/// Writes a size for a sentence.
pub(crate) fn size(bytes: u64) -> String {
    if bytes < 1024 * 1024 {
        format!("{} kB", bytes / 1024)
    } else {
        format!("{} MB", bytes / (1024 * 1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_the_unit_of_settings() {
        assert_eq!(size(1_048_000), "1023 kB");
        assert_eq!(size(10 * 1024 * 1024), "10 MB");
    }
}
