//! Uses an app as a browser does: cookies, a session on a WebSocket, uploads and media.

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use fluxlit_support::http1::Response;
use fluxlit_support::wait::wait_for;
use fluxlit_system::session::Session;
use fluxlit_system::visitor::{Connection, Visitor};

use crate::fleet::{HOST, LIMIT, MOUNT};

/// A page in a browser, without its WebSocket.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    visitor: Visitor,
    token: String,
    session: String,
    media: String,
}

/// A page whose WebSocket is open. A thread reads from it: Streamlit closes the WebSocket of a client that answers no pings.
pub(crate) struct OpenPage {
    pub(crate) page: Page,
    reader: JoinHandle<io::Result<u16>>,
}

impl Page {
    /// Opens the page with a browser that has no cookies yet.
    pub(crate) fn open(without_cookies: &Visitor) -> io::Result<(Self, Session)> {
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
        let page = Self {
            visitor,
            token,
            session: session.id.clone(),
            media: format!("{MOUNT}{name}.txt"),
        };
        Ok((page, session))
    }

    /// Returns the browser of this page, with the cookie of another page's replica if there is one.
    pub(crate) fn browser(&self, other: Option<&Self>) -> Visitor {
        let cookies = other.unwrap_or(self).visitor.cookie.clone();
        let cookies = cookies.unwrap_or_default();
        let replica = cookies.split(';').next().unwrap_or_default();
        Visitor {
            cookie: Some(format!("{replica}; {XSRF}={}", self.token)),
            ..self.visitor.clone()
        }
    }

    /// Uploads a file to the session; returns the status. Streamlit responds with 400 if it does not have the session.
    pub(crate) fn upload(&self, through: &Visitor) -> io::Result<u16> {
        let path = format!("{MOUNT}/_stcore/upload_file/{}/a-file", self.session);
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
        let past = Visitor {
            front: gateway,
            ..self.visitor.clone()
        };
        self.upload(&past).is_ok_and(|status| status == 204)
    }

    /// Opens another WebSocket after the first one is lost, and waits until it continues the session. Until Streamlit has
    /// noticed the loss, it begins a new session.
    pub(crate) fn reconnect(&self) -> io::Result<Session> {
        let protocols = format!("streamlit, {}, {}", self.token, self.session);
        let resumed = wait_for(LIMIT, || match connect(&self.visitor, &protocols) {
            Ok(session) if session.id != self.session => None,
            session => Some(session),
        });
        resumed.unwrap_or_else(|| Err(io::Error::other("the session is not continued")))
    }

    /// Opens another WebSocket after the replica is gone: a new session begins at another one.
    pub(crate) fn move_to_another(mut self) -> io::Result<(Self, Session)> {
        let protocols = format!("streamlit, {}, {}", self.token, self.session);
        let (response, connection) = open(&self.visitor, &protocols)?;
        let replica = cookie(&response, REPLICA)?;
        self.visitor.cookie = Some(format!("{REPLICA}={replica}; {XSRF}={}", self.token));
        let session = Session::begin(connection)?;
        self.session.clone_from(&session.id);
        Ok((self, session))
    }
}

impl OpenPage {
    /// Reads from the WebSocket of a page.
    pub(crate) fn new((page, session): (Page, Session)) -> Self {
        Self {
            page,
            reader: std::thread::spawn(|| session.close_code()),
        }
    }

    /// Returns true if the WebSocket is open and its session takes uploads.
    pub(crate) fn is_open(&self) -> bool {
        let upload = self.page.upload(&self.page.visitor);
        !self.reader.is_finished() && upload.is_ok_and(|status| status == 204)
    }

    /// Waits until the server closes the WebSocket; returns the code, and the page.
    pub(crate) fn close_code(self) -> (u16, Page) {
        let code = self.reader.join().expect("no panic");
        (code.expect("a close frame"), self.page)
    }
}

fn connect(visitor: &Visitor, protocols: &str) -> io::Result<Session> {
    Session::begin(open(visitor, protocols)?.1)
}

fn open(visitor: &Visitor, protocols: &str) -> io::Result<(Response, Box<dyn Connection>)> {
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
