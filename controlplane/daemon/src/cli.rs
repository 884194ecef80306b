//! The command line of a daemon: `serve` with every key as a flag, and `config-reference`.
//!
//! Both are clap arguments that go into a `#[derive(Subcommand)]` as they are: `Serve(daemon::Serve<Settings>)`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::Daemon;
use crate::keys::{self, Declare, Sources};

/// What `serve` was given.
pub struct Serve<D> {
    pub sources: Sources,
    /// Check the configuration, print every mistake with its line, and exit.
    pub check_config: bool,
    /// One JSON line on stdout when traffic can come.
    pub json: bool,
    daemon: PhantomData<D>,
}

impl<D> fmt::Debug for Serve<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Flags and variables may be secrets.
        write!(f, "Serve({:?})", self.sources.config)
    }
}

impl<D: Daemon> Args for Serve<D> {
    fn augment_args(command: Command) -> Command {
        let prefix = crate::variable_prefix::<D>();
        let file = Arg::new("config").long("config").value_name("FILE").env(format!("{prefix}CONFIG"));
        let file = file.value_parser(clap::value_parser!(PathBuf)).required(D::NEEDS_FILE);
        let switch = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
        let mut command = command
            .arg(file.help(format!("Configuration file (TOML); see `{} config-reference`", D::NAME)))
            .arg(switch("check-config").help("Check the configuration, print every mistake with its line, and exit"))
            .arg(switch("json").help("One JSON line on stdout when traffic can come"));
        for key in Declare::of::<D>().keys.iter().filter(|key| key.is_flag()) {
            let help = format!("{} [env: {}] [default: {}]", key.help, key.variable(&prefix), key.default);
            let arg = Arg::new(key.path.clone()).long(key.flag()).value_name(key.path.clone());
            command = command.arg(arg.help(help).help_heading("Configuration keys").action(ArgAction::Set));
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<D: Daemon> FromArgMatches for Serve<D> {
    fn from_arg_matches(given: &ArgMatches) -> Result<Self, clap::Error> {
        let keys = Declare::of::<D>().keys;
        let keys = keys.into_iter().filter(|key| key.is_flag());
        let flags = keys.filter_map(|key| Some((key.path.clone(), given.get_one::<String>(&key.path)?.clone())));
        let sources = Sources {
            config: given.get_one::<PathBuf>("config").cloned(),
            flags: flags.collect(),
            variables: variables(&crate::variable_prefix::<D>()),
        };
        Ok(Serve {
            sources,
            check_config: given.get_flag("check-config"),
            json: given.get_flag("json"),
            daemon: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, given: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(given)?;
        Ok(())
    }
}

/// This process's environment variables with the prefix. What is no text is no setting.
fn variables(prefix: &str) -> BTreeMap<String, String> {
    let texts =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    texts.filter(|(name, _)| name.starts_with(prefix)).collect()
}

/// What `config-reference` was given.
pub struct ConfigReference<D> {
    schema: bool,
    daemon: PhantomData<D>,
}

impl<D> fmt::Debug for ConfigReference<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConfigReference(schema: {})", self.schema)
    }
}

impl<D: Daemon> ConfigReference<D> {
    /// What to print.
    pub fn text(&self) -> String {
        if self.schema { keys::schema::<D>() } else { keys::reference::<D>() }
    }
}

impl<D: Daemon> Args for ConfigReference<D> {
    fn augment_args(command: Command) -> Command {
        let schema = Arg::new("schema").long("schema").action(ArgAction::SetTrue);
        command.arg(schema.help("The same as a JSON Schema, for editors"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<D: Daemon> FromArgMatches for ConfigReference<D> {
    fn from_arg_matches(given: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(ConfigReference { schema: given.get_flag("schema"), daemon: PhantomData })
    }

    fn update_from_arg_matches(&mut self, given: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(given)?;
        Ok(())
    }
}
