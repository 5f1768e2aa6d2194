//! Declares enums whose variants have labels for logs, metrics and reports, with the list of all variants.

/// Declares an enum together with `ALL` and `label()`, and serializes it as its label.
///
/// The variants are written once, each with its label, so that `ALL` and `label()` cannot miss one.
macro_rules! labeled_enum {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $label:tt,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_attribute])* #[serde(rename = $label)] $variant,)+
        }

        impl $name {
            /// All variants, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the label of this variant in logs, metrics and reports.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }
    };
}

pub(crate) use labeled_enum;
