//! Converts the text of a setting into a value.
//!
//! A [`Form`] is the type of a setting: how its text is read, and which values are allowed.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

/// The prefix of the gateway's environment variables.
pub(super) const PREFIX: &str = "FLUXLIT_";

/// The type of a setting.
pub(super) trait Form {
    type Value;

    /// Reads a value. Returns it together with the value that `fluxlit-gateway config` shows.
    ///
    /// # Errors
    ///
    /// Returns the part of the text that is invalid.
    fn read(&self, text: &str) -> Result<(Self::Value, Value), String>;

    /// Describes the allowed values, as the end of the sentence "`value` is not ...".
    fn expected(&self) -> Cow<'static, str>;
}

/// `true` or `false`, in several spellings.
pub(super) struct Boolean;

/// A value that a function reads.
pub(super) struct Custom<T> {
    pub(super) read: fn(&str) -> Result<T, String>,
    pub(super) expected: &'static str,
}

/// A comma-separated list.
pub(super) struct List;

/// A value that [`FromStr`] reads; white space around it is ignored.
pub(super) struct Parsed<T> {
    expected: &'static str,
    value: PhantomData<fn() -> T>,
}

/// A duration in seconds, with an optional fraction.
pub(super) struct Seconds;

/// A duration in seconds, or zero.
pub(super) struct SecondsOrZero;

/// Any text.
pub(super) struct Text;

/// A whole number within bounds, both included.
pub(super) struct Whole<N> {
    pub(super) min: N,
    pub(super) max: N,
}

impl<T> Parsed<T> {
    pub(super) const fn new(expected: &'static str) -> Self {
        Self {
            expected,
            value: PhantomData,
        }
    }
}

impl Form for Boolean {
    type Value = bool;

    fn read(&self, text: &str) -> Result<(bool, Value), String> {
        let value = read_boolean(text).ok_or(text)?;
        Ok((value, value.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        BOOLEANS.into()
    }
}

impl<T> Form for Custom<T> {
    type Value = T;

    fn read(&self, text: &str) -> Result<(T, Value), String> {
        Ok(((self.read)(text)?, text.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        self.expected.into()
    }
}

impl Form for List {
    type Value = Vec<String>;

    fn read(&self, text: &str) -> Result<(Vec<String>, Value), String> {
        Ok((read_list(text), text.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        "a comma-separated list".into()
    }
}

impl<T: FromStr> Form for Parsed<T> {
    type Value = T;

    fn read(&self, text: &str) -> Result<(T, Value), String> {
        let value = text.trim().parse().map_err(|_| text)?;
        Ok((value, text.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        self.expected.into()
    }
}

impl Form for Seconds {
    type Value = Duration;

    fn read(&self, text: &str) -> Result<(Duration, Value), String> {
        let seconds: f64 = text.trim().parse().map_err(|_| text)?;
        if !(0.001..=86_400.0).contains(&seconds) {
            return Err(text.to_owned());
        }
        Ok((Duration::from_secs_f64(seconds), seconds.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        "a number of seconds from 0.001 to 86400".into()
    }
}

impl Form for SecondsOrZero {
    type Value = Duration;

    fn read(&self, text: &str) -> Result<(Duration, Value), String> {
        if text.trim().parse() == Ok(0.0) {
            return Ok((Duration::ZERO, 0.0.into()));
        }
        Seconds.read(text)
    }

    fn expected(&self) -> Cow<'static, str> {
        "0, or a number of seconds from 0.001 to 86400".into()
    }
}

impl Form for Text {
    type Value = String;

    fn read(&self, text: &str) -> Result<(String, Value), String> {
        Ok((text.to_owned(), text.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        "a text".into()
    }
}

impl<N: FromStr + PartialOrd + Copy + fmt::Display + Into<Value>> Form for Whole<N> {
    type Value = N;

    fn read(&self, text: &str) -> Result<(N, Value), String> {
        let number: N = text.trim().parse().map_err(|_| text)?;
        if !(self.min..=self.max).contains(&number) {
            return Err(text.to_owned());
        }
        Ok((number, number.into()))
    }

    fn expected(&self) -> Cow<'static, str> {
        format!("a whole number from {} to {}", self.min, self.max).into()
    }
}

pub(super) fn read_boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// Reads a comma-separated list, without empty items.
pub(super) fn read_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Reads a JSON list of texts. FluxLit accepts a comma-separated list for some of them.
pub(super) fn read_json_list(text: &str) -> Result<Vec<String>, String> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|_| text.to_owned());
    }
    Ok(read_list(text))
}

/// The spellings that [`read_boolean`] accepts.
pub(super) const BOOLEANS: &str = "1, true, yes, on, 0, false, no or off";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check<F: Form<Value: fmt::Debug + PartialEq>>(
        form: &F,
        text: &str,
        expected: Option<(F::Value, Value)>,
    ) {
        let expected = expected.ok_or_else(|| text.to_owned());
        assert_eq!(form.read(text), expected);
    }

    #[test]
    fn whole_numbers_are_within_bounds() {
        let form = Whole {
            min: 1_u16,
            max: 1024,
        };
        check(&form, "1", Some((1, json!(1))));
        check(&form, " 1024 ", Some((1024, json!(1024))));
        for text in ["0", "1025", "70000", "-1", "1.0", "", "x"] {
            check(&form, text, None);
        }
        assert_eq!(form.expected(), "a whole number from 1 to 1024");
    }

    #[test]
    fn seconds_may_have_fractions() {
        check(
            &Seconds,
            "0.2",
            Some((Duration::from_millis(200), json!(0.2))),
        );
        check(
            &Seconds,
            " 10 ",
            Some((Duration::from_secs(10), json!(10.0))),
        );
        for text in ["0", "0.0001", "86401", "-1", "NaN", "inf", ""] {
            check(&Seconds, text, None);
        }
        check(&SecondsOrZero, " 0.0", Some((Duration::ZERO, json!(0.0))));
        check(
            &SecondsOrZero,
            "1",
            Some((Duration::from_secs(1), json!(1.0))),
        );
        check(&SecondsOrZero, "0.0001", None);
    }

    #[test]
    fn lists_have_no_empty_items() {
        let items = vec!["a".to_owned(), "b c".to_owned()];
        check(&List, " a,, b c ,", Some((items, json!(" a,, b c ,"))));
        check(&List, "", Some((Vec::new(), json!(""))));
    }
}
