//! Tells the current time in the format of `Date`, RFC 9110 §5.6.7.

use std::cell::{Ref, RefCell};
use std::time::SystemTime;

/// A clock that formats the time once a second. It is read only by a response that has no `Date`.
#[derive(Default)]
pub(crate) struct DateClock(RefCell<(u64, String)>);

impl DateClock {
    /// Returns the current time.
    pub(crate) fn text(&self) -> Ref<'_, str> {
        let now = SystemTime::now();
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if self.0.borrow().0 != second {
            self.0.replace((second, httpdate::fmt_http_date(now)));
        }
        Ref::map(self.0.borrow(), |(_, date)| date.as_str())
    }
}
