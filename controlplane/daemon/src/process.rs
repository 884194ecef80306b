//! One process from its command line to its end: load or refuse, log, say ready, obey signals.

use std::process::ExitCode;

use crate::cli::Serve;
use crate::keys::{self, Loaded, Sources};
use crate::logging::{self, Log, LogHandle};
use crate::notify::{notify, reloading};
use crate::signals::{Signal, Signals};
use crate::{Daemon, exit};

/// A daemon that may run: its configuration is good and its log is open.
#[derive(Debug)]
pub struct Process<D> {
    loaded: Loaded<D>,
    sources: Sources,
    json: bool,
    log: LogHandle,
}

/// Loads what `serve` was given. `Err` is the code to exit with: mistakes were printed, or there were none and only
/// `--check-config` was asked for.
pub fn open<D: Daemon>(serve: Serve<D>) -> Result<Process<D>, ExitCode> {
    let loaded = keys::load::<D>(&serve.sources).map_err(|mistakes| {
        let count = mistakes.0.len();
        eprint!("{mistakes}");
        eprintln!("{}: {count} mistake{} in the configuration", D::NAME, if count == 1 { "" } else { "s" });
        ExitCode::from(exit::USAGE)
    })?;
    if serve.check_config {
        for warning in &loaded.warnings {
            eprintln!("{}: {warning}", D::NAME);
        }
        console::println!("{}: good{}", loaded.shown, loaded.settings.summary());
        return Err(ExitCode::SUCCESS);
    }
    let Log { level, format } = loaded.settings.log();
    let log = logging::init(level, *format);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok(Process { loaded, sources: serve.sources, json: serve.json, log })
}

impl<D: Daemon> Process<D> {
    pub fn settings(&self) -> &D {
        &self.loaded.settings
    }

    pub fn log(&self) -> LogHandle {
        self.log.clone()
    }

    /// Tells whoever started us that traffic can come: systemd, and with `--json` one line on stdout, in which each
    /// listener has its name and its address; without, a line in the log.
    pub fn ready(&self, listeners: &[(&str, String)]) {
        if self.json {
            console::println!("{}", ready_line(listeners));
        } else {
            let listeners: Vec<String> = listeners.iter().map(|(name, at)| format!("{name} {at}")).collect();
            tracing::info!(version = D::VERSION, "{} is ready: {}", D::NAME, listeners.join(", "));
        }
        notify("READY=1");
    }

    /// What a SIGHUP does: the configuration is read again, and what is live in it obeyed; `log.level` here, the rest by
    /// `obey`. A configuration with mistakes changes nothing. What needs a restart is told.
    pub fn reload(&mut self, obey: impl FnOnce(&D)) {
        reloading();
        match keys::load::<D>(&self.sources) {
            Ok(loaded) => {
                let (live, waiting) = self.loaded.differences(&loaded);
                self.log.set_level(&loaded.settings.log().level);
                obey(&loaded.settings);
                if !waiting.is_empty() {
                    tracing::warn!(keys = waiting.join(", "), "changed in the configuration, obeyed after a restart");
                }
                tracing::info!(changed = live.join(", "), "SIGHUP: configuration read again");
                // What waits for a restart is told at the next SIGHUP again: it is still to be done.
                self.loaded.take_live(loaded);
            }
            Err(mistakes) => {
                for mistake in &mistakes.0 {
                    tracing::error!(place = %mistake.place, "{}", mistake.message);
                }
                tracing::error!("SIGHUP: the configuration has mistakes; everything stays as it was");
            }
        }
        notify("READY=1");
    }

    /// Until SIGTERM or Ctrl-C; reloads at every SIGHUP. The drain is the caller's.
    pub async fn until_stopped(&mut self, signals: &mut Signals, mut obey: impl FnMut(&D)) {
        while signals.next().await == Signal::Reload {
            self.reload(&mut obey);
        }
        notify("STOPPING=1");
        tracing::info!("draining");
    }
}

/// `{"ready":true,"pub":"http://127.0.0.1:9191"}`.
pub fn ready_line(listeners: &[(&str, String)]) -> String {
    let mut line = serde_json::json!({"ready": true});
    for (name, address) in listeners {
        line[*name] = serde_json::json!(address);
    }
    line.to_string()
}
