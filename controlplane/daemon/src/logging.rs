//! Structured logs, one line per event, on stderr: stdout belongs to results.

use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use crate::keys::{Kind, Value, nearest};

crate::keys! {
    /// `log.*`: what every daemon logs.
    pub struct Log {
        /// tracing filter, for example info,kafka_client=debug
        pub level: LogFilter = live("info"),
        /// one line per event, on stderr
        pub format: LogFormat = default("text"),
    }
}

crate::words! {
    pub enum LogFormat { Text = "text", Json = "json" }
}

/// A tracing filter that is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn to_filter(&self) -> EnvFilter {
        EnvFilter::try_new(&self.0).expect("tried when it was parsed")
    }
}

impl Value for LogFilter {
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<Self, String> {
        const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
        for word in text.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
            // tracing takes any word that is no level for the name of a crate: `inf` would silence everything.
            let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
            if let Some(near) = nearest(word, LEVELS.into_iter()).filter(|_| !is_level) {
                return Err(format!("`{word}` is no level; did you mean `{near}`?"));
            }
        }
        let example = "expected a filter like info or info,kafka_client=debug";
        EnvFilter::try_new(text).map_err(|err| format!("{example}, found `{text}`: {err}"))?;
        Ok(LogFilter(text.to_owned()))
    }
}

/// The running log; its level can be changed. Clones are the same log.
#[derive(Clone)]
pub struct LogHandle {
    replace: Arc<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogHandle")
    }
}

impl LogHandle {
    pub fn set_level(&self, level: &LogFilter) {
        if let Err(err) = (self.replace)(level.to_filter()) {
            tracing::warn!(err, "log.level stays as it was");
        }
    }
}

/// Starts the log. Called once; a second call (tests) keeps the first.
pub fn init(level: &LogFilter, format: LogFormat) -> LogHandle {
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(level.to_filter());
    let builder = builder.with_writer(std::io::stderr).with_ansi(ansi);
    match format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            LogHandle { replace: Arc::new(move |filter| handle.reload(filter).map_err(|err| err.to_string())) }
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            let _ = builder.try_init();
            LogHandle { replace: Arc::new(move |filter| handle.reload(filter).map_err(|err| err.to_string())) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_would_silence_everything_by_a_slip_is_none() {
        for level in ["info", "warn,kateway=info", "WARN", "kafka_client=trace", "off", "hyper"] {
            LogFilter::parse(level).unwrap_or_else(|why| panic!("{level}: {why}"));
        }
        assert_eq!(LogFilter::parse("inf,=="), Err("`inf` is no level; did you mean `info`?".to_owned()));
        assert!(LogFilter::parse("info,==").is_err());
    }
}
