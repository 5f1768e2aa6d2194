//! Converts bytes to header lines, and applies edits to a message, for all fuzz targets.

use fluxlit_policy::{Edit, Edits, Header};

/// Splits bytes into header lines at line feeds. The first byte of a line chooses its name.
pub fn lines<'a>(names: &[&'static str], bytes: &'a [u8]) -> Vec<Header<'a>> {
    bytes
        .split(|octet| *octet == b'\n')
        .filter_map(|line| {
            let (first, value) = line.split_first()?;
            let name = names[usize::from(*first) % names.len()];
            Some((name.as_bytes(), value))
        })
        .collect()
}

/// A message as a host builds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub target: Vec<u8>,
    pub lines: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Message {
    pub fn new(target: &[u8], lines: &[Header<'_>]) -> Self {
        Self {
            target: target.to_vec(),
            lines: lines
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec()))
                .collect(),
        }
    }

    pub fn headers(&self) -> Vec<Header<'_>> {
        self.lines
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect()
    }

    pub fn apply(&mut self, edits: &Edits) {
        for edit in edits.iter() {
            match edit {
                Edit::Append(name, value) => {
                    self.lines.push((name.as_bytes().to_vec(), value.to_vec()));
                }
                Edit::Host(_) => {}
                Edit::Remove(name) => self.remove(name),
                Edit::Set(name, value) => {
                    self.remove(name);
                    self.lines.push((name.as_bytes().to_vec(), value.to_vec()));
                }
                Edit::Target(target) => self.target = target.to_vec(),
            }
        }
    }

    /// Returns the values of a field's lines.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        self.lines
            .iter()
            .filter(|(other, _)| other == name.as_bytes())
            .map(|(_, value)| value.as_slice())
            .collect()
    }

    fn remove(&mut self, name: &str) {
        self.lines.retain(|(other, _)| other != name.as_bytes());
    }
}

/// Checks that no written value can end a line, and that only cookies, which are left as they are if they are invalid, have
/// other control octets.
pub fn assert_sendable(edits: &Edits) {
    for edit in edits.iter() {
        let (Edit::Append(_, value)
        | Edit::Set(_, value)
        | Edit::Host(value)
        | Edit::Target(value)) = edit
        else {
            continue;
        };
        let is_cookie =
            matches!(edit, Edit::Append(name, _) | Edit::Set(name, _) if name == "set-cookie");
        assert!(
            !value.iter().any(|octet| match octet {
                b'\r' | b'\n' | 0 => true,
                b'\t' => false,
                octet => octet.is_ascii_control() && !is_cookie,
            }),
            "{edit:?}"
        );
    }
}
