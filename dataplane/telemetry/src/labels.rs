//! Label sets as types, and what becomes of one too many.

use std::borrow::Cow;
use std::hash::Hash;
use std::sync::Arc;

/// The value that stands for all values beyond a family's cap.
pub const OTHER: &str = "other";

/// One combination of label values.
pub trait Labels: Clone + Eq + Hash + 'static {
    /// The labels' names, in the order of `values`.
    const NAMES: &'static [&'static str];

    /// Calls `put` with each value.
    fn values(&self, put: &mut dyn FnMut(&str));

    /// What to count this under when the family is full: open-ended values become `other`, those from our own code
    /// stay.
    fn overflow(&self) -> Self;
}

impl Labels for () {
    const NAMES: &'static [&'static str] = &[];

    fn values(&self, _put: &mut dyn FnMut(&str)) {}

    fn overflow(&self) {}
}

/// One label's value.
pub trait LabelValue: Clone + Eq + Hash + 'static {
    fn label(&self) -> Cow<'_, str>;

    /// Itself when there are only a few such values, [`OTHER`] when outsiders choose them.
    fn overflow(&self) -> Self;
}

impl LabelValue for &'static str {
    fn label(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }

    fn overflow(&self) -> Self {
        self
    }
}

impl LabelValue for bool {
    fn label(&self) -> Cow<'_, str> {
        Cow::Borrowed(if *self { "true" } else { "false" })
    }

    fn overflow(&self) -> Self {
        *self
    }
}

macro_rules! number_labels {
    ($($number:ty)*) => {$(
        /// For status codes, shard and node numbers: a handful of values.
        impl LabelValue for $number {
            fn label(&self) -> Cow<'_, str> {
                Cow::Owned(self.to_string())
            }

            fn overflow(&self) -> Self {
                *self
            }
        }
    )*};
}

number_labels!(u8 u16 i32);

impl LabelValue for Arc<str> {
    fn label(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }

    fn overflow(&self) -> Self {
        Arc::from(OTHER)
    }
}

impl LabelValue for String {
    fn label(&self) -> Cow<'_, str> {
        Cow::Borrowed(self)
    }

    fn overflow(&self) -> Self {
        OTHER.to_owned()
    }
}

/// Declares a struct whose fields are labels: `label_set! { pub struct TopicLabels { topic: Arc<str>, ack: &'static str } }`.
/// Field types implement [`LabelValue`]; `String` and `Arc<str>` are capped, the others are not.
#[macro_export]
macro_rules! label_set {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field:ident : $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type,)+
        }

        impl $crate::Labels for $name {
            const NAMES: &'static [&'static str] = &[$(stringify!($field)),+];

            fn values(&self, put: &mut dyn FnMut(&str)) {
                $(put(&$crate::LabelValue::label(&self.$field));)+
            }

            fn overflow(&self) -> Self {
                $name { $($field: $crate::LabelValue::overflow(&self.$field),)+ }
            }
        }
    };
}
