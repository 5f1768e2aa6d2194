//! Holds what the checks of a site share: the client, the options, and what was seen at first.

use std::sync::{Mutex, PoisonError};

use crate::client::{Ask, Client, Failure, Response, is_refusal};
use crate::probe::difference::Difference;
use crate::probe::front::Hop;
use crate::probe::options::Options;
use crate::probe::{client_certificate, retry};

/// What the checks share.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) options: Options,
    /// The response to the health check under the mount.
    pub(crate) health: Response,
    /// The response to the page under the mount.
    pub(crate) page: Response,
    /// The health check, the page and a path that does not exist have got the same, which is not Streamlit's page.
    pub(crate) is_same_everywhere: bool,
    /// The front, as far as its responses tell.
    pub(crate) front: Hop,
    /// The first request that was found to be refused because of its User-Agent.
    difference: Mutex<Option<Difference>>,
}

impl Context {
    /// Asks for the health check and the page.
    ///
    /// # Errors
    ///
    /// If one is not answered, or the client would need a certificate.
    pub(crate) async fn look(client: Client, options: Options) -> Result<Self, Failure> {
        let health = retry::get(&client, client.site.path("/_stcore/health"), true).await;
        if let Some(failure) = client_certificate::missing(&client, &health).await {
            return Err(failure);
        }
        let mut difference = None;
        if !health.as_ref().is_ok_and(Response::is_healthy) {
            let ask = Ask::get(client.site.path("/_stcore/health"));
            difference = Difference::find(&client, &ask, &health).await;
        }
        let accepted = difference.as_ref().and_then(Difference::response);
        let health = match accepted {
            Some(response) => response,
            None => health?,
        };
        // An app that is down for one path is down for the other.
        let may_wait = !is_refusal(health.status);
        let page = retry::get(&client, client.site.path("/"), may_wait).await;
        if difference.is_none() && !page.as_ref().is_ok_and(Response::is_page) {
            let ask = Ask::get(client.site.path("/"));
            difference = Difference::find(&client, &ask, &page).await;
        }
        let is_of_doctor = difference.as_ref().is_some_and(Difference::is_of_doctor);
        let page = match difference.as_ref().and_then(Difference::response) {
            // Nothing more is sent to a front that keeps the doctor out.
            Some(response) if is_of_doctor => response,
            Some(_) => client.get(client.site.path("/")).await?,
            None => page?,
        };
        // Caddy passes the `Server` of the app on, and adds its name here.
        let from_server = Hop::of_server(&page.first("via"))
            .or_else(|| Hop::of_server(&page.first("server")))
            .or_else(|| Hop::of_server(&health.first("server")));
        let mut front = from_server.filter(|hop| *hop != Hop::Streamlit);
        if front.is_none() && !is_of_doctor {
            // HAProxy, Traefik and others say their name only in their error pages.
            let malformed = Ask::get(client.site.path("/_stcore/health"))
                .host("a b")
                .field("Doctor Field", "x");
            let refused = client.send(&malformed).await.ok();
            front = refused
                .map(|refused| Hop::of(&refused))
                .filter(|hop| *hop != Hop::Streamlit);
        }
        let is_same_everywhere = is_same(&health, &page)
            && !page.has_page()
            && is_same(&page, &client.get(client.site.path(NOWHERE)).await?);
        Ok(Self {
            client,
            options,
            health,
            page,
            is_same_everywhere,
            front: front.unwrap_or(Hop::Unknown),
            difference: Mutex::new(difference),
        })
    }

    /// Returns the request that was found to be refused because of its User-Agent.
    pub(crate) fn difference(&self) -> Option<Difference> {
        self.difference
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns why nothing more is sent, if the front keeps the doctor out by its name.
    pub(crate) fn reason_of_front(&self) -> Option<&'static str> {
        let keeps_out = self.difference()?.is_of_doctor();
        keeps_out.then_some("the front keeps the doctor out by its User-Agent; see P32")
    }

    pub(crate) fn set_difference(&self, difference: Difference) {
        *self
            .difference
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(difference);
    }

    /// Returns the path of Streamlit's WebSocket.
    pub(crate) fn stream_path(&self) -> String {
        self.client.site.path("/_stcore/stream")
    }

    /// Returns the handshake of the app's own page.
    pub(crate) fn handshake(&self) -> Ask {
        Ask::handshake(self.stream_path()).field("Origin", self.client.site.origin())
    }

    /// Opens the WebSocket of the page, also with the name of a browser if it is refused otherwise.
    pub(crate) async fn open_as_browser(&self) -> Result<Response, Failure> {
        let ask = self.handshake();
        let own = self.handshake_status(&ask).await;
        if has_status(&own, 101) {
            return own;
        }
        match Difference::find(&self.client, &ask, &own).await {
            Some(difference) => {
                if own.as_ref().is_ok_and(|own| is_refusal(own.status)) {
                    self.client.forget_last_refusal();
                }
                let keeps_out = difference.is_of_doctor();
                let other = difference.other.clone();
                self.set_difference(difference);
                if keeps_out { own } else { other }
            }
            None => own,
        }
    }

    /// Returns the result of a handshake in a few words.
    pub(crate) async fn handshake_status(&self, ask: &Ask) -> Result<Response, Failure> {
        let (response, socket) = self.client.open(ask).await?;
        if response.status == 101 {
            socket.close().await;
        }
        Ok(response)
    }

    /// Returns the hop that has made a response, or has at least passed it on.
    pub(crate) fn by(&self, response: &Response) -> Hop {
        match Hop::of(response) {
            // The errors of all Go programs look the same.
            Hop::Traefik if self.front == Hop::Caddy => Hop::Caddy,
            // All others add a Date to what they make.
            Hop::Unknown if self.front == Hop::HaProxy && response.first("date").is_empty() => {
                Hop::HaProxy
            }
            by => by,
        }
    }

    /// Names the hop that has made a response, for a sentence.
    pub(crate) fn author(&self, response: &Response) -> String {
        let by = self.by(response);
        if by.may_pass_on(response) {
            format!("{} or a hop behind it", by.name())
        } else {
            by.name().to_owned()
        }
    }

    /// Returns true if the app's side has made a response.
    pub(crate) fn is_of_app(&self, response: &Response) -> bool {
        matches!(self.by(response), Hop::Gateway | Hop::Streamlit) || has_id(response)
    }

    /// Returns true if a hop in front of the app has made a response, as far as it tells.
    pub(crate) fn is_of_front(&self, response: &Response) -> bool {
        let by = self.by(response);
        let is_signed = by != Hop::Unknown && !by.may_pass_on(response);
        let has_no_id = || has_id(&self.health) || has_id(&self.page);
        !self.is_of_app(response) && (is_signed || has_no_id())
    }

    /// Returns true if a response is an error or a redirect that the health check gets as well, whose cause P05 tells.
    pub(crate) fn is_like_health(&self, response: &Response) -> bool {
        let (status, health) = (response.status, &self.health);
        status >= 300 && status == health.status && self.by(response) == self.by(health)
    }

    /// Returns the hop to which a cure applies: the one that has answered, unless that is the app's side.
    pub(crate) fn hop(&self, answered: Hop) -> Hop {
        match answered {
            Hop::Gateway | Hop::Streamlit | Hop::Unknown => self.front,
            other => other,
        }
    }

    /// Describes a response by its status, where it redirects to, and the hop that has answered.
    pub(crate) fn answer(&self, response: &Response) -> String {
        let location = response.first("location");
        // The query may contain a secret.
        let to = match location.split('?').next() {
            Some(to) if !to.is_empty() => format!(" to `{to}`"),
            _ => String::new(),
        };
        format!("{}{to} by {}", response.status, self.author(response))
    }

    /// Describes a response or its absence.
    pub(crate) fn describe(&self, result: &Result<Response, Failure>) -> String {
        match result {
            Ok(response) => self.answer(response),
            Err(failure) => failure.to_string(),
        }
    }
}

/// Returns true if both are no error and have the same body.
fn is_same(one: &Response, other: &Response) -> bool {
    one.status == 200 && other.status == 200 && one.body == other.body
}

/// A path that does not exist, under the mount.
pub(crate) const NOWHERE: &str = "/doctor";

/// Returns true if a response has the field that the gateway writes into each one.
pub(crate) fn has_id(response: &Response) -> bool {
    response.lines("x-request-id").next().is_some()
}

/// Returns true if a request got this status.
pub(crate) fn has_status(result: &Result<Response, Failure>, status: u16) -> bool {
    result
        .as_ref()
        .is_ok_and(|response| response.status == status)
}
