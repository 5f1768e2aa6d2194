//! Finds header names in a fixed list, without case and with `_` read as `-`.
//!
//! Every header of a request is looked up in several lists. So two octets rule out most names, and the first octets are
//! compared as one number.

use crate::header::is_same_name;

/// A sorted list of names in lower case and with hyphens. A final `*` stands for any end of a name.
pub(crate) struct NameList<const COUNT: usize> {
    names: [&'static str; COUNT],
    keys: [u64; COUNT],
    starts: Pairs,
}

impl<const COUNT: usize> NameList<COUNT> {
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "evaluated by the compiler, which has no iterators in constants"
    )]
    pub(crate) const fn new(names: [&'static str; COUNT]) -> Self {
        let mut keys = [0; COUNT];
        let mut starts = Pairs([0; 32]);
        let mut index = 0;
        while index < COUNT {
            let mut name = names[index].as_bytes();
            starts.add(name[0], name[1]);
            if let [family @ .., b'*'] = name {
                name = family;
            }
            keys[index] = key(name);
            index += 1;
        }
        Self {
            names,
            keys,
            starts,
        }
    }

    /// Returns false if no entry begins like this name.
    pub(crate) fn may_contain(&self, name: &[u8]) -> bool {
        match name {
            [first, second, ..] => self.starts.contains(*first, *second),
            _ => false,
        }
    }

    /// Returns the place of the entry that stands for this name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<usize> {
        if !self.may_contain(name) {
            return None;
        }
        let key = key(name);
        let after = self.keys.partition_point(|other| *other <= key);
        // An entry that matches begins with the same octets, or is a family that is shorter than the key. No entry begins
        // with a family, so no other entry is between that family and the name.
        for index in (0..after).rev() {
            let (Some(other), Some(entry)) = (self.keys.get(index), self.names.get(index)) else {
                break;
            };
            let is_equal = *other == key;
            if (is_equal || entry.ends_with('*')) && matches(entry, name) {
                return Some(index);
            }
            if !is_equal {
                break;
            }
        }
        None
    }

    /// Returns the entries.
    pub(crate) fn names(&self) -> &[&'static str; COUNT] {
        &self.names
    }

    /// Checks that the list is in the form that the search needs.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert!(self.keys.is_sorted());
        let texts = self.names.map(|entry| entry.trim_end_matches('*'));
        assert!(texts.is_sorted_by(|one, other| one < other));
        for (place, (entry, text)) in self.names.iter().zip(texts).enumerate() {
            assert_eq!(text, text.to_ascii_lowercase().replace('_', "-"));
            assert_eq!(self.find(text.as_bytes()), Some(place));
            let upper = text.to_ascii_uppercase().replace('-', "_");
            assert_eq!(self.find(upper.as_bytes()), Some(place));
            let longer = self.find(format!("{text}!x").as_bytes());
            assert_eq!(longer, entry.ends_with('*').then_some(place), "{entry}");
            if entry.ends_with('*') {
                let is_member = |other: &&str| *other != text && other.starts_with(text);
                assert_eq!(texts.into_iter().find(|other| is_member(other)), None);
            }
        }
    }
}

/// A set of pairs of octets, in which a letter, its other case and some rarer octets count as the same.
pub(crate) struct Pairs([u32; 32]);

impl Pairs {
    /// Returns the last two octets of each of these names.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "evaluated by the compiler, which has no iterators in constants"
    )]
    pub(crate) const fn ends<T: Copy, const COUNT: usize>(names: &[(&str, T); COUNT]) -> Self {
        let mut pairs = Self([0; 32]);
        let mut index = 0;
        while index < COUNT {
            if let [.., last_but_one, last] = names[index].0.as_bytes() {
                pairs.add(*last_but_one, *last);
            }
            index += 1;
        }
        pairs
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "evaluated by the compiler, which has no iterators in constants"
    )]
    const fn add(&mut self, first: u8, second: u8) {
        let seconds = &mut self.0[(first & LETTER) as usize];
        *seconds |= 1 << (second & LETTER);
        if second == b'-' {
            *seconds |= 1 << (b'_' & LETTER);
        }
    }

    /// Returns false if the pair is not in the set. `first` must not be an underscore that stands for a hyphen.
    pub(crate) fn contains(&self, first: u8, second: u8) -> bool {
        self.0
            .get(usize::from(first & LETTER))
            .is_some_and(|seconds| seconds >> (second & LETTER) & 1 == 1)
    }
}

/// Returns true if an entry of a list stands for this name.
fn matches(entry: &str, name: &[u8]) -> bool {
    let Some(family) = entry.strip_suffix('*') else {
        return is_same_name(entry.as_bytes(), name);
    };
    name.get(..family.len())
        .is_some_and(|start| is_same_name(family.as_bytes(), start))
}

/// Returns the first octets of a name as a number, in lower case and with hyphens for underscores. Octets that are in no
/// entry may get any value.
const fn key(name: &[u8]) -> u64 {
    let octets = match name.first_chunk::<KEY_OCTETS>() {
        Some(octets) => *octets,
        None => padded(name),
    };
    // All octets at once: the bit that makes a letter small makes an underscore 0x7f, which is then found by its carry.
    let small = u64::from_be_bytes(octets) | each(0x20);
    let underscores = (small.wrapping_add(each(1)) & each(0x80)) >> 7;
    small ^ underscores.wrapping_mul((0x7f ^ b'-') as u64)
}

/// Returns a short name with zeros at its end, which sort before every octet of a name.
const fn padded(name: &[u8]) -> [u8; KEY_OCTETS] {
    let mut octets = [0; KEY_OCTETS];
    let mut free = octets.as_mut_slice();
    let mut rest = name;
    while let ([octet, others @ ..], [slot, more @ ..]) = (rest, free) {
        *slot = *octet;
        (rest, free) = (others, more);
    }
    octets
}

/// Returns a number that consists of one octet.
const fn each(octet: u8) -> u64 {
    u64::from_be_bytes([octet; KEY_OCTETS])
}

/// The number of octets that are compared as one number.
const KEY_OCTETS: usize = 8;

/// The bits of an ASCII letter that do not depend on its case.
const LETTER: u8 = 31;
