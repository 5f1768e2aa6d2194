//! Makes a failing case smaller, part by part, while it still fails.
//!
//! Works on the JSON of the case, so that every key is covered: parts are removed, texts shortened, numbers set to 0.

use fluxlit_cases::Case;
use serde_json::Value;

/// A place in a JSON value: keys and indexes.
type Path = Vec<Step>;

#[derive(Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Returns a smaller case for which `fails` still holds.
pub(super) fn minimized(case: Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let Ok(mut json) = serde_json::to_value(&case) else {
        return case;
    };
    let mut smallest = case;
    let mut attempts = 0;
    loop {
        let mut has_shrunk = false;
        // Later parts first, so that the places of earlier ones stay valid.
        for path in places(&json).into_iter().rev() {
            for change in CHANGES {
                // The same change may succeed several times, such as halving a text.
                while attempts < MAX_ATTEMPTS {
                    attempts += 1;
                    let mut smaller = json.clone();
                    if !apply(&mut smaller, &path, *change) || smaller == json {
                        break;
                    }
                    let Ok(case) = serde_json::from_value::<Case>(smaller.clone()) else {
                        break;
                    };
                    if case.contradiction().is_some() || !fails(&case) {
                        break;
                    }
                    (json, smallest, has_shrunk) = (smaller, case, true);
                }
            }
        }
        if !has_shrunk || attempts >= MAX_ATTEMPTS {
            return smallest;
        }
    }
}

#[derive(Clone, Copy)]
enum Change {
    /// Removes the part from its object or list.
    Remove,
    /// Sets a number to 0, or to the default status 200.
    Zero,
    FirstHalf,
    SecondHalf,
    WithoutFirst,
    WithoutLast,
}

const CHANGES: &[Change] = &[
    Change::Remove,
    Change::Zero,
    Change::FirstHalf,
    Change::SecondHalf,
    Change::WithoutFirst,
    Change::WithoutLast,
];

/// Returns all places in a value, outer ones before inner ones.
fn places(value: &Value) -> Vec<Path> {
    fn collect(value: &Value, path: &mut Path, all: &mut Vec<Path>) {
        let mut visit = |step: Step, inner: &Value| {
            path.push(step);
            all.push(path.clone());
            collect(inner, path, all);
            path.pop();
        };
        match value {
            Value::Object(map) => {
                for (key, inner) in map {
                    visit(Step::Key(key.clone()), inner);
                }
            }
            Value::Array(list) => {
                for (index, inner) in list.iter().enumerate() {
                    visit(Step::Index(index), inner);
                }
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    collect(value, &mut Vec::new(), &mut all);
    all
}

/// Changes the part at `path`. Returns false if there is no such part, or the change does not apply to it.
fn apply(value: &mut Value, path: &[Step], change: Change) -> bool {
    let Some((last, outer)) = path.split_last() else {
        return false;
    };
    let mut parent = value;
    for step in outer {
        let inner = match step {
            Step::Key(key) => parent.get_mut(key),
            Step::Index(index) => parent.get_mut(*index),
        };
        let Some(inner) = inner else {
            return false;
        };
        parent = inner;
    }
    if matches!(change, Change::Remove) {
        return match (parent, last) {
            (Value::Object(map), Step::Key(key)) => map.remove(key).is_some(),
            (Value::Array(list), Step::Index(index)) if *index < list.len() => {
                list.remove(*index);
                true
            }
            _ => false,
        };
    }
    let part = match last {
        Step::Key(key) => parent.get_mut(key),
        Step::Index(index) => parent.get_mut(*index),
    };
    match (part, change) {
        (Some(part @ Value::Number(_)), Change::Zero) => {
            *part = if is_status(last) { 200 } else { 0 }.into();
            true
        }
        (Some(Value::String(text)), _) => {
            let characters: Vec<char> = text.chars().collect();
            let (first, second) = characters.split_at(characters.len() / 2);
            let kept = match change {
                Change::FirstHalf => first,
                Change::SecondHalf => second,
                Change::WithoutFirst => characters.get(1..).unwrap_or_default(),
                Change::WithoutLast => {
                    let end = characters.len().saturating_sub(1);
                    characters.get(..end).unwrap_or_default()
                }
                Change::Remove | Change::Zero => return false,
            };
            *text = kept.iter().collect();
            true
        }
        _ => false,
    }
}

fn is_status(step: &Step) -> bool {
    matches!(step, Step::Key(key) if key == "status")
}

/// The maximum number of runs for one case.
const MAX_ATTEMPTS: u32 = 3_000;
