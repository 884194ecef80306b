//! Configuration keys, each declared once, as a field of a struct.
//!
//! [`keys!`](crate::keys) makes from one list the struct with its types, and what it declares: file, flag, environment
//! variable, `--help`, `config-reference` and schema all come from there. A key is obeyed where its field is read; one
//! that nobody reads is dead code, which the compiler tells.
//!
//! ```
//! daemon::words! {
//!     /// How much to say.
//!     pub enum Detail { Little = "little", Much = "much" }
//! }
//!
//! daemon::keys! {
//!     /// One lamp: `[lamps.NAME]`.
//!     pub struct Lamp {
//!         /// how bright, in lumen
//!         pub lumen: u32 = default("800"),
//!     }
//! }
//!
//! daemon::keys! {
//!     /// A house.
//!     pub struct House {
//!         /// where it keeps what it knows
//!         pub data_dir: std::path::PathBuf = required("nothing works without"),
//!         /// how much to say (`live`: a SIGHUP obeys the new value)
//!         pub detail as "log.detail": Detail = live("little"),
//!         /// keys of every daemon: `log.level`, `log.format`
//!         pub log: daemon::Log = group,
//!         /// One table per lamp.
//!         pub lamps: std::collections::BTreeMap<String, Lamp> = tables("kitchen"),
//!     }
//! }
//! ```

mod file;
mod load;
mod nearest;
mod reference;
mod schema;
mod value;

use std::collections::BTreeMap;
use std::fmt;

pub use load::{Loaded, Mistake, Mistakes, Place, Sources, load};
pub(crate) use load::{Written, mistakes_about};
pub use nearest::nearest;
pub(crate) use reference::help;
pub use reference::reference;
pub use schema::schema;
pub use value::{Bytes, HostPort, Kind, Secret, Value, parse_duration, parse_size};

/// A struct of keys; made by [`keys!`](crate::keys).
pub trait Keys: Sized {
    fn declare(to: &mut Declare);
    fn read(from: &Reader<'_>) -> Self;
}

/// What is known of a key without its type.
#[derive(Debug, Clone)]
pub struct Declared {
    /// Dotted path in the file; `*` stands for the name of a repeated table.
    pub path: String,
    pub kind: Kind,
    /// In the same notation as a flag; empty: none.
    pub default: &'static str,
    /// Why it must be set.
    pub required: Option<&'static str>,
    /// A SIGHUP obeys a new value.
    pub is_live: bool,
    pub help: String,
    /// What is wrong with a value, if anything.
    check: fn(&Raw) -> Vec<String>,
}

impl Declared {
    /// Whether it is also an environment variable. Keys of repeated tables are not: they carry credentials, and there are
    /// many of them.
    pub fn is_variable(&self) -> bool {
        !self.path.contains('*')
    }

    /// Whether it is also a flag.
    pub fn is_flag(&self) -> bool {
        self.is_variable() && self.kind != Kind::Secret
    }

    /// `listen.pub` as `listen-pub`.
    pub fn flag(&self) -> String {
        self.path.replace(['.', '_'], "-")
    }

    /// `listen.pub` as `KATEWAY_LISTEN_PUB`.
    pub fn variable(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.path.replace('.', "_").to_uppercase())
    }
}

/// A table repeated under names: `[clusters.NAME]`.
#[derive(Debug, Clone)]
pub struct DeclaredTables {
    pub path: String,
    pub help: String,
    /// A name, for the reference.
    pub example: &'static str,
}

/// Every key of a struct, in the order of its fields.
#[derive(Debug)]
pub struct Declare {
    prefix: String,
    pub keys: Vec<Declared>,
    pub tables: Vec<DeclaredTables>,
}

impl Declare {
    pub fn of<K: Keys>() -> Declare {
        let mut declare = Declare { prefix: String::new(), keys: Vec::new(), tables: Vec::new() };
        K::declare(&mut declare);
        declare
    }

    /// A key with a default; the empty one is that of a type which can be empty.
    pub fn default<T: Value>(&mut self, name: &str, help: &[&str], default: &'static str) {
        self.key::<T>(name, help, default, None, false);
    }

    /// The same; a SIGHUP obeys a new value.
    pub fn live<T: Value>(&mut self, name: &str, help: &[&str], default: &'static str) {
        self.key::<T>(name, help, default, None, true);
    }

    /// A key without a default. Only of a type that can be empty, which is what checks see when it is missing.
    pub fn required<T: Value>(&mut self, name: &str, help: &[&str], why: &'static str) {
        self.key::<T>(name, help, "", Some(why), false);
    }

    /// Keys below this one: their names begin with it.
    pub fn group<K: Keys>(&mut self, name: &str, _: &[&str]) {
        self.below(join(&self.prefix, name), K::declare);
    }

    /// Tables below this one, any number of them.
    pub fn tables<T: Tables>(&mut self, name: &str, help: &[&str], example: &'static str) {
        let path = join(&self.prefix, name);
        self.tables.push(DeclaredTables { path: path.clone(), help: sentence(help), example });
        self.below(join(&path, "*"), T::Row::declare);
    }

    fn key<T: Value>(
        &mut self,
        name: &str,
        help: &[&str],
        default: &'static str,
        required: Option<&'static str>,
        is_live: bool,
    ) {
        let path = join(&self.prefix, name);
        assert!(T::parse(default).is_ok(), "{path} cannot be `{default}` by default");
        assert!(self.keys.iter().all(|key| key.path != path), "{path} is declared twice");
        let check = |raw: &Raw| T::from_raw(raw).err().unwrap_or_default();
        self.keys.push(Declared { path, kind: T::KIND, default, required, is_live, help: sentence(help), check });
    }

    fn below(&mut self, prefix: String, declare: impl FnOnce(&mut Declare)) {
        let outer = std::mem::replace(&mut self.prefix, prefix);
        declare(self);
        self.prefix = outer;
    }
}

/// A field of named tables.
pub trait Tables {
    type Row: Keys;
}

impl<K: Keys> Tables for BTreeMap<String, K> {
    type Row = K;
}

/// Reads a struct from what was written. Never fails: where nothing valid is written the default stands, so that checks
/// can look at the rest; the mistakes are with whoever loads.
#[derive(Debug)]
pub struct Reader<'a> {
    written: &'a Written,
    prefix: String,
}

impl Reader<'_> {
    pub fn default<T: Value>(&self, name: &str, default: &str) -> T {
        let written = self.written.keys.get(&join(&self.prefix, name));
        let value = written.and_then(|entry| T::from_raw(&entry.raw).ok());
        value.unwrap_or_else(|| T::parse(default).expect("every default was tried when it was declared"))
    }

    pub fn live<T: Value>(&self, name: &str, default: &str) -> T {
        self.default(name, default)
    }

    pub fn required<T: Value>(&self, name: &str, _why: &str) -> T {
        self.default(name, "")
    }

    pub fn group<K: Keys>(&self, name: &str) -> K {
        K::read(&Reader { written: self.written, prefix: join(&self.prefix, name) })
    }

    pub fn tables<K: Keys>(&self, name: &str, _example: &str) -> BTreeMap<String, K> {
        let path = join(&self.prefix, name);
        let names = self.written.rows.get(&path).into_iter().flatten();
        let row = |name: &String| K::read(&Reader { written: self.written, prefix: join(&path, name) });
        names.map(|name| (name.clone(), row(name))).collect()
    }
}

/// A value as it was written. It may be a secret, so it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Raw {
    Text(String),
    List(Vec<String>),
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Raw::Text(_) => "a text",
            Raw::List(_) => "a list",
        })
    }
}

trait FromRaw: Value {
    fn from_raw(raw: &Raw) -> Result<Self, Vec<String>> {
        match raw {
            Raw::Text(text) => Self::parse(text).map_err(|mistake| vec![mistake]),
            Raw::List(items) => Self::from_list(items),
        }
    }
}

impl<T: Value> FromRaw for T {}

pub(crate) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

fn sentence(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// A struct whose fields are configuration keys; see [`keys`](crate::keys). Each is
/// `name: Type = how`, or `name as "dotted.path": Type = how`, where `how` is `default("…")`, `live("…")`,
/// `required("why")`, `group`, or `tables("example")`. Its documentation is the help.
#[macro_export]
macro_rules! keys {
    (
        $(#[$meta:meta])*
        $vis:vis struct $struct:ident {
            $(
                $(#[doc = $help:literal])+
                $field_vis:vis $field:ident $(as $path:literal)? : $type:ty = $how:ident $(($with:literal))?
            ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        $vis struct $struct {
            $( $(#[doc = $help])+ $field_vis $field: $type, )+
        }

        impl $crate::keys::Keys for $struct {
            fn declare(to: &mut $crate::keys::Declare) {
                $( to.$how::<$type>($crate::name_of_key!($field $($path)?), &[$($help),+] $(, $with)?); )+
            }

            fn read(from: &$crate::keys::Reader<'_>) -> Self {
                Self { $( $field: from.$how($crate::name_of_key!($field $($path)?) $(, $with)?), )+ }
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! name_of_key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $path:literal) => {
        $path
    };
}

/// An enum whose variants are the words a key takes.
#[macro_export]
macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $enum:ident { $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $enum { $( $(#[$variant_meta])* $variant, )+ }

        impl $crate::keys::Value for $enum {
            const KIND: $crate::keys::Kind = $crate::keys::Kind::Word(&[$($word),+]);

            fn parse(text: &str) -> Result<Self, String> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err(format!("expected one of {}, found `{text}`", [$($word),+].join(", "))),
                }
            }
        }
    };
}
