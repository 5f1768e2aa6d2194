//! Uses an app as a browser does: cookies, a session on a WebSocket, uploads and media.

use std::io;
use std::net::SocketAddr;

use fluxlit_support::http1::Response;
use fluxlit_support::wait::wait_for;
use fluxlit_system::session::Session;
use fluxlit_system::visitor::Visitor;

use crate::fleet::{HOST, LIMIT, MOUNT};

/// A browser with an open page.
pub(crate) struct Browser {
    visitor: Visitor,
    token: String,
    pub(crate) session: Session,
    media: String,
}

impl Browser {
    /// Opens the page with a browser that has no cookies yet.
    pub(crate) fn open(without_cookies: &Visitor) -> io::Result<Self> {
        let page = without_cookies.get(&format!("{MOUNT}/"), "")?;
        let replica = cookie(&page, REPLICA)?;
        let mut visitor = without_cookies.clone();
        visitor.cookie = Some(format!("{REPLICA}={replica}"));
        let health = visitor.get(&format!("{MOUNT}/_stcore/health"), "")?;
        let token = cookie(&health, XSRF)?;
        visitor.cookie = Some(format!("{REPLICA}={replica}; {XSRF}={token}"));
        let mut session = connect(&visitor, &format!("streamlit, {token}"))?;
        let found = session.find("/media/")?;
        let (name, _) = found
            .split_once(".txt")
            .ok_or_else(|| io::Error::other(format!("{found} is no text file")))?;
        Ok(Self {
            visitor,
            token,
            session,
            media: format!("{MOUNT}{name}.txt"),
        })
    }

    /// Returns this browser, but connected to another server or with the cookies of another browser.
    pub(crate) fn elsewhere(&self, server: Option<SocketAddr>, other: Option<&Self>) -> Visitor {
        let replica = |browser: &Self| {
            let cookies = browser.visitor.cookie.clone().unwrap_or_default();
            cookies.split(';').next().unwrap_or_default().to_owned()
        };
        Visitor {
            front: server.unwrap_or(self.visitor.front),
            cookie: Some(format!(
                "{}; {XSRF}={}",
                replica(other.unwrap_or(self)),
                self.token
            )),
            ..self.visitor.clone()
        }
    }

    /// Uploads a file to the session; returns the status. Streamlit responds with 400 if it does not have the session.
    pub(crate) fn upload(&self, through: &Visitor) -> io::Result<u16> {
        let path = format!("{MOUNT}/_stcore/upload_file/{}/a-file", self.session.id);
        let fields = format!(
            "X-Xsrftoken: {}\r\nContent-Type: multipart/form-data; boundary=b\r\n",
            self.token
        );
        let body = b"--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nabc\r\n--b--\r\n";
        Ok(through.request("PUT", &path, &fields, body)?.status)
    }

    /// Requests the file that only this session offers; returns the status.
    pub(crate) fn media(&self, through: &Visitor) -> io::Result<u16> {
        Ok(through.get(&self.media, "")?.status)
    }

    /// Returns true if the gateway at this address has the session.
    pub(crate) fn is_on(&self, gateway: SocketAddr) -> bool {
        let status = self.upload(&self.elsewhere(Some(gateway), None));
        status.is_ok_and(|status| status == 204)
    }

    /// Loses its WebSocket, and opens another one that continues the session.
    pub(crate) fn reconnect(&mut self) -> io::Result<()> {
        let id = self.session.id.clone();
        let protocols = format!("streamlit, {}, {id}", self.token);
        self.session = connect(&self.visitor, "streamlit")?;
        // The old one is closed. Until Streamlit notices that, it begins a new session.
        let resumed = wait_for(LIMIT, || {
            let session = connect(&self.visitor, &protocols);
            match session {
                Ok(session) if session.id != id => None,
                session => Some(session),
            }
        });
        self.session =
            resumed.unwrap_or_else(|| Err(io::Error::other("the session is not continued")))?;
        Ok(())
    }

    /// Waits until the server closes the WebSocket; returns the code, and the page.
    pub(crate) fn close_code(self) -> (u16, Page) {
        let id = self.session.id.clone();
        let code = self.session.close_code().expect("a close frame");
        let page = Page {
            visitor: self.visitor,
            token: self.token,
            id,
            media: self.media,
        };
        (code, page)
    }
}

/// A page whose WebSocket was closed.
pub(crate) struct Page {
    visitor: Visitor,
    token: String,
    id: String,
    media: String,
}

impl Page {
    /// Opens another WebSocket, as a page does, whose replica is gone. A new session begins.
    pub(crate) fn return_to_another(mut self) -> io::Result<Browser> {
        let protocols = format!("streamlit, {}, {}", self.token, self.id);
        let (response, connection) = open(&self.visitor, &protocols)?;
        let replica = cookie(&response, REPLICA)?;
        self.visitor.cookie = Some(format!("{REPLICA}={replica}; {XSRF}={}", self.token));
        Ok(Browser {
            visitor: self.visitor,
            token: self.token,
            session: Session::begin(connection)?,
            media: self.media,
        })
    }
}

fn connect(visitor: &Visitor, protocols: &str) -> io::Result<Session> {
    Session::begin(open(visitor, protocols)?.1)
}

fn open(
    visitor: &Visitor,
    protocols: &str,
) -> io::Result<(Response, Box<dyn fluxlit_system::visitor::Connection>)> {
    let fields = format!("Sec-WebSocket-Protocol: {protocols}\r\n");
    let path = format!("{MOUNT}/_stcore/stream");
    let (response, connection) = visitor.socket_with(&path, &format!("http://{HOST}"), &fields)?;
    if response.status == 101 {
        Ok((response, connection))
    } else {
        Err(io::Error::other(format!("{response:?}")))
    }
}

/// Returns the value of a cookie that a response sets.
fn cookie(response: &Response, name: &str) -> io::Result<String> {
    let cookies = response.values("set-cookie");
    let value = cookies.iter().find_map(|cookie| {
        let value = cookie.strip_prefix(name)?.strip_prefix('=')?;
        value.split(';').next()
    });
    value
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no {name} in {response:?}")))
}

/// The cookie that names the replica, as in `lds.yaml`.
const REPLICA: &str = "fluxlit_replica";

/// Streamlit's protection of uploads.
const XSRF: &str = "_streamlit_xsrf";
