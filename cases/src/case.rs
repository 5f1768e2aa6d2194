use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

/// One file of cases that share a topic and, where it helps, a configuration.
#[derive(Debug, Clone)]
pub struct CaseFile {
    /// What the cases of this file are about, in a sentence or two.
    pub about: String,
    /// The cases, in reading order.
    pub cases: Vec<Case>,
}

/// One configuration with what must come of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique in its file; what is printed when the case fails.
    pub name: String,
    /// What would go wrong if the case failed.
    pub why: String,
    /// The rule's source, such as an RFC section.
    pub source: Option<String>,
    /// The plugin configuration: the file's keys with the case's own on top.
    pub config: Map<String, Value>,
    /// What must come of it.
    pub expect: Expect,
    /// Hosts the case is not run in, each with the reason.
    pub except: BTreeMap<Host, String>,
}

/// What must come of a configuration.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// It is refused, with a message that contains each of these texts.
    Refused(Vec<String>),
    /// It serves these exchanges, in order, on one connection.
    Served(Vec<Exchange>),
}

/// A request, and what must come of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exchange {
    /// The request as it arrives.
    pub request: Request,
    /// What the upstream must receive. Absent: the request must be answered without asking the upstream.
    #[serde(default)]
    pub upstream: Option<Upstream>,
    /// What the upstream answers.
    #[serde(default)]
    pub answer: Answer,
    /// What the client must get.
    #[serde(default)]
    pub downstream: Downstream,
}

/// A request as it arrives at the listener.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The other end of the connection.
    pub peer: Peer,
    /// Whether the connection is TLS.
    #[serde(default)]
    pub tls: bool,
    /// The HTTP version on the wire.
    #[serde(default)]
    pub http: HttpVersion,
    /// The method.
    #[serde(default = "get")]
    pub method: String,
    /// The request target, or `:path`, as sent.
    #[serde(default = "root")]
    pub target: String,
    /// The `Host` field, or `:authority`; `null` for a request without one.
    #[serde(default = "app_example")]
    pub host: Option<String>,
    /// Field lines in wire order; a name may repeat.
    #[serde(default)]
    pub headers: Headers,
    /// The body; a request with neither a body nor trailers ends with its headers.
    #[serde(default)]
    pub body: String,
    /// Trailer field lines in wire order.
    #[serde(default)]
    pub trailers: Headers,
}

/// What the upstream must receive. Only what is named is compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The request target.
    #[serde(default)]
    pub target: Option<String>,
    /// The `Host` field.
    #[serde(default)]
    pub host: Option<String>,
    /// Each named field with exactly these lines; an empty list means that the field must be absent.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
    /// The same for trailers.
    #[serde(default)]
    pub trailers: BTreeMap<String, Lines>,
}

/// What the upstream answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The status.
    #[serde(default = "ok")]
    pub status: u16,
    /// Field lines in wire order; a name may repeat.
    #[serde(default)]
    pub headers: Headers,
    /// The body.
    #[serde(default)]
    pub body: String,
}

/// What the client must get. Only what is named is compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Downstream {
    /// The status.
    #[serde(default)]
    pub status: Option<u16>,
    /// Each named field with exactly these lines; an empty list means that the field must be absent.
    #[serde(default)]
    pub headers: BTreeMap<String, Lines>,
}

/// Field lines in wire order. Text is Latin-1: the character U+00E9 stands for the byte 0xE9.
pub type Headers = Vec<(String, String)>;

/// The lines one field must have, in order.
pub type Lines = Vec<String>;

/// The other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An IP connection from this address.
    Ip(IpAddr),
    /// A Unix socket.
    Unix,
    /// A connection whose peer the host cannot tell.
    Unknown,
}

/// HTTP version of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum HttpVersion {
    /// HTTP/1.0.
    #[serde(rename = "1.0")]
    Http10,
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "1.1")]
    Http11,
    /// HTTP/2.
    #[serde(rename = "2")]
    Http2,
}

/// The three places a case is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Host {
    /// The policy, called directly.
    Policy,
    /// The filter under wasmtime.
    Wasm,
    /// The filter in Envoy.
    Envoy,
}

/// Why a case file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// The file says something that the format does not know, or contradicts itself.
    #[error("{path}: case `{case}`: {problem}", path = path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// The case's name.
        case: String,
        /// What is wrong.
        problem: String,
    },
    /// The file is not JSON of the documented form; the cause names line and column.
    #[error("{path} is not a case file", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

impl CaseFile {
    /// Reads and checks one file.
    ///
    /// # Errors
    ///
    /// [`CaseError::Read`] and [`CaseError::Form`] as they say. [`CaseError::Case`] for a repeated name, for a case
    /// without a request that is not about a refused configuration, and for one that is both.
    pub fn load(path: &Path) -> Result<Self, CaseError> {
        let text = std::fs::read_to_string(path).map_err(|source| CaseError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(path, &text)
    }

    /// Reads every `*.json` file of a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// As [`CaseFile::load`], for the first file that fails.
    pub fn load_folder(folder: &Path) -> Result<Vec<(PathBuf, Self)>, CaseError> {
        let read_error = |source| CaseError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(read_error)? {
            let path = entry.map_err(read_error)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                paths.push(path);
            }
        }
        paths.sort();
        paths
            .into_iter()
            .map(|path| Self::load(&path).map(|file| (path, file)))
            .collect()
    }

    fn parse(path: &Path, text: &str) -> Result<Self, CaseError> {
        let file: FileAsWritten = serde_json::from_str(text).map_err(|source| CaseError::Form {
            path: path.to_owned(),
            source,
        })?;
        let FileAsWritten {
            about,
            config,
            cases,
        } = file;
        let mut seen = std::collections::BTreeSet::new();
        let cases = cases
            .into_iter()
            .map(|case| {
                let name = case.name.clone();
                let repeated = !seen.insert(name.clone());
                case.check(&config, repeated)
                    .map_err(|problem| CaseError::Case {
                        path: path.to_owned(),
                        case: name,
                        problem: problem.to_owned(),
                    })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { about, cases })
    }
}

impl Case {
    /// The plugin configuration as the text a host is given.
    pub fn config_text(&self) -> String {
        Value::Object(self.config.clone()).to_string()
    }

    /// Whether the case is run in `host`.
    pub fn runs_in(&self, host: Host) -> bool {
        !self.except.contains_key(&host)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAsWritten {
    about: String,
    #[serde(default)]
    config: Map<String, Value>,
    cases: Vec<CaseAsWritten>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseAsWritten {
    name: String,
    why: String,
    source: Option<String>,
    #[serde(default)]
    config: Map<String, Value>,
    #[serde(default)]
    refused: Vec<String>,
    request: Option<Request>,
    upstream: Option<Upstream>,
    answer: Option<Answer>,
    downstream: Option<Downstream>,
    #[serde(default)]
    then: Vec<Exchange>,
    #[serde(default)]
    except: BTreeMap<Host, String>,
}

impl CaseAsWritten {
    fn check(self, shared: &Map<String, Value>, repeated: bool) -> Result<Case, &'static str> {
        let Self {
            name,
            why,
            source,
            config: own,
            refused,
            request,
            upstream,
            answer,
            downstream,
            then,
            except,
        } = self;
        if repeated {
            return Err("the name is used twice");
        }
        let expect = match request {
            Some(_) if !refused.is_empty() => {
                return Err("a refused configuration serves no `request`");
            }
            Some(request) => {
                let first = Exchange {
                    request,
                    upstream,
                    answer: answer.unwrap_or_default(),
                    downstream: downstream.unwrap_or_default(),
                };
                Expect::Served(std::iter::once(first).chain(then).collect())
            }
            None if upstream.is_some() || answer.is_some() || downstream.is_some() => {
                return Err("`upstream`, `answer` and `downstream` need a `request`");
            }
            None if refused.is_empty() => {
                return Err("needs a `request`, or `refused` if the configuration must not load");
            }
            None => Expect::Refused(refused),
        };
        let mut config = shared.clone();
        config.extend(own);
        Ok(Case {
            name,
            why,
            source,
            config,
            expect,
            except,
        })
    }
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            status: ok(),
            headers: Headers::new(),
            body: String::new(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::Wasm => "wasm",
            Self::Envoy => "envoy",
        })
    }
}

impl<'de> Deserialize<'de> for Peer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "unix" => Ok(Self::Unix),
            "unknown" => Ok(Self::Unknown),
            address => address.parse().map(Self::Ip).map_err(|_| {
                D::Error::custom(format!(
                    "peer `{text}` is not an IP address, `unix` or `unknown`"
                ))
            }),
        }
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn app_example() -> Option<String> {
    Some("app.example".to_owned())
}

fn ok() -> u16 {
    200
}
