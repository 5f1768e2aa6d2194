//! Contains the tables of HPACK, RFC 7541 §2.3, which a decoder and an encoder have one each of.

use std::collections::VecDeque;

use fluxlit_policy::Header;

/// The lines that the peer may refer to, RFC 7541 §2.3.2, the newest first.
#[derive(Debug)]
pub(super) struct DynamicTable {
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

#[derive(Debug)]
struct Entry {
    /// Name and value.
    text: Box<[u8]>,
    name_end: usize,
}

impl DynamicTable {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size: 0,
            max: TABLE_SIZE,
        }
    }

    /// Returns a line of the static table or of this one, RFC 7541 §2.3.3.
    pub(super) fn get(&self, index: usize) -> Option<Header<'_>> {
        let index = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC_TABLE.get(index) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(index - STATIC_TABLE.len())?;
        entry.text.split_at_checked(entry.name_end)
    }

    pub(super) fn insert(&mut self, text: &[u8], name_end: usize) {
        let size = text.len() + LINE_OVERHEAD;
        self.evict(size);
        // A larger line empties the table and is not added, RFC 7541 §4.4.
        if size <= self.max {
            self.size += size;
            self.entries.push_front(Entry {
                text: text.into(),
                name_end,
            });
        }
    }

    /// Changes the maximum size, RFC 7541 §4.3.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(0);
    }

    /// Returns the index of a line, RFC 7541 §2.3.3. `text`: name and value.
    pub(super) fn find(&self, text: &[u8], name_end: usize) -> Option<usize> {
        // The lengths rule out most lines.
        let is_same = |entry: &Entry| entry.name_end == name_end && *entry.text == *text;
        let position = self.entries.iter().position(is_same)?;
        Some(STATIC_TABLE.len() + 1 + position)
    }

    /// Returns true if a line with a text of this length takes no more than a quarter of the table.
    pub(super) fn is_small(&self, length: usize) -> bool {
        length + LINE_OVERHEAD <= self.max / 4
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.entries.len(), self.size, self.max)
    }

    /// Removes the oldest lines until `size` more bytes fit.
    fn evict(&mut self, size: usize) {
        while self.size + size > self.max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.text.len() + LINE_OVERHEAD;
        }
    }
}

/// What each line adds to its name and value, RFC 7541 §4.1 and RFC 9113 §10.5.1.
pub(super) const LINE_OVERHEAD: usize = 32;

/// Size of the dynamic table in bytes, RFC 9113 §6.5.2.
pub(super) const TABLE_SIZE: usize = 4096;

/// The static table, RFC 7541 appendix A.
pub(super) const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
