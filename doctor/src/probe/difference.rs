//! Finds out whether the response to a request depends on its User-Agent.
//!
//! A request that is refused is repeated with the name of a browser. If that alone changes the response, each time, the
//! other checks are sent with it: they would blame an access rule, which no browser meets. A front that refuses every name with
//! `fluxlit-doctor` in it keeps the doctor out, and is left alone.

use std::time::Duration;

use crate::client::{Ask, Client, Failure, Response, UserAgent};

/// A request whose response depends on its User-Agent.
#[derive(Debug, Clone)]
pub(crate) struct Difference {
    pub(crate) ask: Ask,
    /// The response with the name of the doctor.
    pub(crate) own: Result<Response, Failure>,
    /// The first name that gets another one.
    pub(crate) user_agent: UserAgent,
    pub(crate) other: Result<Response, Failure>,
}

impl Difference {
    /// Looks for a name with which the request gets another response than `own`, each time. The client uses that name from now
    /// on, if it has the doctor's in it.
    pub(crate) async fn find(
        client: &Client,
        ask: &Ask,
        own: &Result<Response, Failure>,
    ) -> Option<Self> {
        if client.user_agent() != UserAgent::Own || !may_depend_on_name(own) {
            return None;
        }
        let ask = ask.clone().limit(PATIENCE);
        for user_agent in UserAgent::OTHERS {
            let other = send(client, &ask, user_agent).await;
            if kind(&other) == kind(own) {
                continue;
            }
            // Upstreams that take turns would answer the first two alike or the last two.
            for (name, expected) in [
                (user_agent, &other),
                (UserAgent::Own, own),
                (UserAgent::Own, own),
                (user_agent, &other),
            ] {
                if kind(&send(client, &ask, name).await) != kind(expected) {
                    return None;
                }
            }
            if user_agent != UserAgent::Hidden {
                client.set_user_agent(user_agent);
            }
            return Some(Self {
                ask,
                own: own.clone(),
                user_agent,
                other,
            });
        }
        None
    }

    /// Returns the response to the name that was found.
    pub(crate) fn response(&self) -> Option<Response> {
        self.other.as_ref().ok().cloned()
    }

    /// Returns true if the front refuses every name with that of the doctor in it.
    pub(crate) fn is_of_doctor(&self) -> bool {
        self.user_agent == UserAgent::Hidden
    }
}

/// Returns true unless there is no connection, which no field of a request can change.
fn may_depend_on_name(result: &Result<Response, Failure>) -> bool {
    matches!(
        result,
        Ok(_) | Err(Failure::Closed | Failure::Malformed | Failure::Silent(_))
    )
}

async fn send(client: &Client, ask: &Ask, user_agent: UserAgent) -> Result<Response, Failure> {
    let ask = ask.clone().user_agent(user_agent).rationed();
    let (response, socket) = client.open(&ask).await?;
    if response.status == 101 {
        socket.close().await;
    }
    Ok(response)
}

/// What two responses have in common if their difference does not matter.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Response {
        status: u16,
        says_ok: bool,
        has_page: bool,
    },
    Silent,
    Failed,
}

fn kind(result: &Result<Response, Failure>) -> Kind {
    match result {
        Ok(response) => Kind::Response {
            status: response.status,
            says_ok: response.says_ok(),
            has_page: response.has_page(),
        },
        Err(Failure::Silent(_)) => Kind::Silent,
        Err(_) => Kind::Failed,
    }
}

/// How long each repetition waits for a response. Silence was waited for longer.
const PATIENCE: Duration = Duration::from_secs(5);
