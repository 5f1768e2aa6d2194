//! Reports an object that the filter needs, but which does not apply to the proxy in which the filter runs.

use crate::outcome::Outcome;

/// Why an object does not apply to the proxy in which the filter runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    /// False if it applies to some of these proxies, or perhaps to all of them.
    pub(crate) is_certain: bool,
    /// True if not the object, but one of its patches is for other proxies.
    pub(crate) is_of_patch: bool,
    /// Where the filter runs.
    pub(crate) own: String,
    /// To what the object applies.
    pub(crate) theirs: String,
    /// What to write.
    pub(crate) hint: String,
}

/// What an object does for the filter.
pub(crate) struct Role {
    /// With the object as the subject.
    pub(crate) does: String,
    /// What follows if it does not apply.
    pub(crate) otherwise: &'static str,
    /// True if the proxy is safe without it.
    pub(crate) is_optional: bool,
}

impl Role {
    /// Rejects requests that the filter has not processed.
    pub(crate) fn guard() -> Self {
        Self {
            does: "requires the filter's mark".to_owned(),
            otherwise: "requests pass whenever the filter is missing",
            is_optional: false,
        }
    }

    /// Records the peer under a key.
    pub(crate) fn recorder(key: &str) -> Self {
        Self {
            does: format!("records `{key}`"),
            otherwise: "every peer is unknown and untrusted",
            is_optional: false,
        }
    }
}

impl Gap {
    /// Adds the sentence: `filter` and `other` are the labels of the two objects.
    pub(crate) fn report(self, filter: &str, other: &str, role: &Role, outcome: &mut Outcome) {
        let Role {
            does, otherwise, ..
        } = role;
        let subject = if self.is_of_patch {
            format!("the patch of {other} that {does}")
        } else {
            format!("{other}, which {does},")
        };
        let Self { own, theirs, .. } = self;
        let so = if self.is_certain {
            "so"
        } else {
            "so where it does not apply,"
        };
        let finding = format!("{filter}: it {own}, but {subject} {theirs}, {so} {otherwise}");
        if self.is_certain && !role.is_optional {
            outcome.fail(finding, self.hint);
        } else {
            outcome.warn(finding, self.hint);
        }
    }
}

/// Returns why some place of the filter has none of the objects; `None` if each place has one. `gap` compares a place with an
/// object.
pub(crate) fn first<'a, Place, Object>(
    places: &[Place],
    objects: &'a [Object],
    gap: impl Fn(&Place, &Object) -> Option<Gap>,
) -> Option<(&'a Object, Gap)> {
    let of_place = |place: &Place| {
        let mut nearest = None::<(&'a Object, Gap)>;
        for object in objects {
            let found = gap(place, object)?;
            let is_nearer = nearest
                .as_ref()
                .is_none_or(|(_, known)| known.is_certain && !found.is_certain);
            if is_nearer {
                nearest = Some((object, found));
            }
        }
        nearest
    };
    let gaps: Vec<_> = places.iter().filter_map(of_place).collect();
    let worst = gaps.iter().position(|(_, gap)| gap.is_certain);
    gaps.into_iter().nth(worst.unwrap_or(0))
}
