//! Repeats a request that was refused, after a pause, because a limit of the rate may have been used up before.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{Client, Failure, Response, is_refusal};

/// Sends a request; if `may_wait`, repeats it after each of [`PAUSES`], and then at once, for as long as it is refused.
///
/// # Errors
///
/// If it is not answered.
pub(crate) async fn get(
    client: &Client,
    target: String,
    may_wait: bool,
) -> Result<Response, Failure> {
    let mut response = client.get(&target).await?;
    for pause in PAUSES {
        if !may_wait || !is_refusal(response.status) {
            break;
        }
        sleep(pause).await;
        response = client.get(&target).await?;
    }
    // One of several upstreams that fails may have been selected each time.
    let start = Instant::now();
    for _ in 0..AT_ONCE {
        if !may_wait || !is_refusal(response.status) || start.elapsed() > ENOUGH {
            break;
        }
        response = client.get(&target).await?;
    }
    Ok(response)
}

/// A limit of six requests a minute lets one pass within this time.
pub(crate) const PAUSES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// How often a request is repeated at once, if the refusals take no longer than [`ENOUGH`].
const AT_ONCE: usize = 8;
const ENOUGH: Duration = Duration::from_secs(2);
