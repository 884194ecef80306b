//! From file, environment and flags to checked values: flag beats environment beats file beats default. Every mistake
//! is collected, so that one run of `--check-config` is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use super::{Declare, Declared, Raw, Reader, file, nearest};
use crate::Daemon;
use crate::check::Check;

/// Where values come from; taken from the command line and this process's environment, or made by a test.
#[derive(Clone, Default)]
pub struct Sources {
    pub config: Option<PathBuf>,
    /// Text by key.
    pub flags: BTreeMap<String, String>,
    /// This daemon's environment variables.
    pub variables: BTreeMap<String, String>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sources({:?})", self.config) // flags and variables may be secrets
    }
}

/// What a daemon runs with.
#[derive(Debug)]
pub struct Loaded<D> {
    pub settings: D,
    /// What is odd but does not matter: a sentence each.
    pub warnings: Vec<String>,
    /// The file's name, in messages.
    pub shown: String,
    written: Written,
}

/// What was written, by key.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) keys: BTreeMap<String, Entry>,
    /// Names of repeated tables, by the path of all of them.
    pub(crate) rows: BTreeMap<String, Vec<String>>,
    /// Where tables begin.
    pub(crate) sections: BTreeMap<String, Place>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) raw: Raw,
    pub(crate) place: Place,
}

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Line(String, usize),
    /// `KATEWAY_LISTEN_PUB`.
    Variable(String),
    /// `--listen-pub`.
    Flag(String),
    /// The file as a whole, or, without one, the configuration.
    Whole(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(file, line) => write!(f, "{file}:{line}"),
            Place::Variable(name) | Place::Flag(name) | Place::Whole(name) => f.write_str(name),
        }
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub place: Place,
    /// Whose value is none.
    key: Option<String>,
    pub message: String,
}

impl Mistake {
    pub(crate) fn new(place: Place, key: Option<&str>, message: impl Into<String>) -> Mistake {
        Mistake { place, key: key.map(str::to_owned), message: message.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All that is wrong; in the order of the file, then variables, flags, and what is missing altogether.
#[derive(Debug)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mistake| writeln!(f, "{mistake}"))
    }
}

/// Reads the file, if there is one, lays environment and flags over it, checks everything.
pub fn load<D: Daemon>(sources: &Sources) -> Result<Loaded<D>, Mistakes> {
    let Some(path) = &sources.config else { return Loaded::parse("configuration", "", sources) };
    let shown = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Loaded::parse(&shown, &text, sources),
        Err(err) => {
            let message = format!("cannot read the file: {err}");
            Err(Mistakes(vec![Mistake::new(Place::Whole(shown), None, message)]))
        }
    }
}

impl<D: Daemon> Loaded<D> {
    /// The same on text already read; `shown` names it in messages.
    pub fn parse(shown: &str, text: &str, sources: &Sources) -> Result<Loaded<D>, Mistakes> {
        let declared = Declare::of::<D>();
        let (mut written, mut mistakes) = (Written::default(), Vec::new());
        file::read(shown, text, &declared, &mut written, &mut mistakes);
        let prefix = crate::variable_prefix::<D>();
        for key in declared.keys.iter().filter(|key| key.is_variable()) {
            let (flag, variable) = (format!("--{}", key.flag()), key.variable(&prefix));
            if let Some(text) = sources.variables.get(&variable) {
                overlay(key, text, Place::Variable(variable), &mut written, &mut mistakes);
            }
            if let Some(text) = sources.flags.get(&key.path) {
                overlay(key, text, Place::Flag(flag), &mut written, &mut mistakes);
            }
        }
        missing(shown, sources.config.is_some(), &declared, &written, &mut mistakes);
        let settings = D::read(&Reader { written: &written, prefix: String::new() });
        settings.check(&mut Check { written: &written, shown, mistakes: &mut mistakes });
        mistakes.sort_by_key(|mistake| match &mistake.place {
            Place::Line(_, line) => (0, *line),
            Place::Variable(_) => (1, 0),
            Place::Flag(_) => (2, 0),
            Place::Whole(_) => (3, 0),
        });
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let mut warnings = unknown_variables::<D>(&prefix, &declared, sources);
        warnings.extend(settings.warnings());
        Ok(Loaded { settings, warnings, shown: shown.to_owned(), written })
    }

    /// Keys whose values are not those of `other`: first those a SIGHUP obeys, then those that need a restart.
    pub fn differences(&self, other: &Loaded<D>) -> (Vec<String>, Vec<String>) {
        let raw = |written: &Written, key: &str| written.keys.get(key).map(|entry| entry.raw.clone());
        let keys: BTreeSet<&String> = self.written.keys.keys().chain(other.written.keys.keys()).collect();
        let changed = keys.into_iter().filter(|key| raw(&self.written, key) != raw(&other.written, key));
        let declared = Declare::of::<D>();
        let is_live = |key: &String| declared.keys.iter().any(|declared| declared.is_live && declared.path == *key);
        changed.cloned().partition(is_live)
    }

    /// Live values of `other` from now on; all else stays, as it does in the running daemon.
    pub(crate) fn take_live(&mut self, mut other: Loaded<D>) {
        for key in Declare::of::<D>().keys.iter().filter(|key| key.is_live) {
            match other.written.keys.remove(&key.path) {
                Some(entry) => drop(self.written.keys.insert(key.path.clone(), entry)),
                None => drop(self.written.keys.remove(&key.path)),
            }
        }
        self.settings = D::read(&Reader { written: &self.written, prefix: String::new() });
    }
}

fn overlay(key: &Declared, text: &str, place: Place, written: &mut Written, mistakes: &mut Vec<Mistake>) {
    let raw = Raw::Text(text.to_owned());
    for mistake in (key.check)(&raw) {
        mistakes.push(Mistake::new(place.clone(), Some(&key.path), mistake));
    }
    written.keys.insert(key.path.clone(), Entry { raw, place });
}

/// Required keys that were not set, or set to nothing.
fn missing(shown: &str, has_file: bool, declared: &Declare, written: &Written, mistakes: &mut Vec<Mistake>) {
    let is_set = |path: &str| {
        let is_wrong = mistakes_about(mistakes, path);
        let is_empty = |entry: &Entry| match &entry.raw {
            Raw::Text(text) => text.trim().is_empty(),
            Raw::List(items) => items.is_empty(),
        };
        is_wrong || written.keys.get(path).is_some_and(|entry| !is_empty(entry))
    };
    let mut found = Vec::new();
    for (key, why) in declared.keys.iter().filter_map(|key| Some((key, key.required?))) {
        let paths = match key.path.split_once(".*.") {
            None => vec![(key.path.clone(), Place::Whole(shown.to_owned()))],
            Some((tables, rest)) => {
                let names = written.rows.get(tables).into_iter().flatten();
                let row = |name: &String| format!("{tables}.{name}");
                let begin = |row: &str| written.sections.get(row).cloned();
                let place = |row: &str| begin(row).unwrap_or_else(|| Place::Whole(shown.to_owned()));
                names.map(row).map(|row| (format!("{row}.{rest}"), place(&row))).collect()
            }
        };
        for (path, place) in paths.into_iter().filter(|(path, _)| !is_set(path)) {
            let place = match written.keys.get(&path) {
                Some(entry) => entry.place.clone(),
                None if !has_file && key.is_flag() => Place::Flag(format!("--{}", key.flag())),
                None => place,
            };
            found.push(Mistake::new(place, Some(&path), format!("`{path}`: is required; {why}")));
        }
    }
    mistakes.append(&mut found);
}

/// Whether the value of the key is none, as was told.
pub(crate) fn mistakes_about(mistakes: &[Mistake], key: &str) -> bool {
    mistakes.iter().any(|mistake| mistake.key.as_deref() == Some(key))
}

/// Variables with our prefix that nobody reads. Only a warning: Kubernetes sets `KATEWAY_SERVICE_HOST` and others for a
/// service of that name.
fn unknown_variables<D: Daemon>(prefix: &str, declared: &Declare, sources: &Sources) -> Vec<String> {
    let keys = declared.keys.iter().filter(|key| key.is_variable()).map(|key| key.variable(prefix));
    let others = D::OTHER_VARIABLES.iter().copied().map(str::to_owned);
    let known: Vec<String> = keys.chain(others).chain([format!("{prefix}CONFIG")]).collect();
    let unknown = sources.variables.keys().filter(|name| name.starts_with(prefix) && !known.contains(name));
    let warning = |name: &String| {
        let hint = nearest(name, known.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?"));
        format!("the environment variable {name} is none of {}'s{}", D::NAME, hint.unwrap_or_default())
    };
    unknown.map(warning).collect()
}
