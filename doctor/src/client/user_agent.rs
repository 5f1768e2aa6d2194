//! Lists the names that the doctor gives itself.
//!
//! A front may refuse what does not look like a browser. So the request that was refused is repeated with a name that does, and
//! still says who it is. The last name does not: it tells whether the front refuses the doctor by its name, and is sent for nothing
//! else. Such a request names the doctor in a field of its own.

/// The User-Agent of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum UserAgent {
    /// The name of the doctor, and what it does.
    #[default]
    Own,
    /// As search engines name themselves.
    Compatible,
    /// That of a browser, with the name of the doctor after it.
    Browser,
    /// That of a browser alone; the request has the field [`DOCTOR`] as well.
    Hidden,
}

impl UserAgent {
    /// The other ones, in the order in which they are tried.
    pub(crate) const OTHERS: [Self; 3] = [Self::Compatible, Self::Browser, Self::Hidden];

    /// Returns the value of the field.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Own => concat!(
                "fluxlit-doctor/",
                env!("CARGO_PKG_VERSION"),
                " (looks for faults between browsers and a Streamlit app)"
            ),
            Self::Compatible => concat!(
                "Mozilla/5.0 (compatible; fluxlit-doctor/",
                env!("CARGO_PKG_VERSION"),
                ")"
            ),
            Self::Browser => concat!(
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 fluxlit-doctor/",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Hidden => {
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
            }
        }
    }
}

/// The field that names the doctor, and its version, where the User-Agent does not.
pub(super) const DOCTOR: &str = "X-Fluxlit-Doctor";
