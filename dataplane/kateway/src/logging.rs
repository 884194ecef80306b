//! Structured logs, one line per event, on stderr: stdout belongs to results.

use crate::config::keys::nearest;
use tracing_subscriber::EnvFilter;

/// What `log.level` means, or a sentence why it means nothing.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for word in level.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
        // tracing takes any word that is no level for the name of a crate: `inf` would silence everything.
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        if let Some(near) = nearest(word, LEVELS.into_iter()).filter(|_| !is_level) {
            return Err(format!("`{word}` is no level; did you mean `{near}`?"));
        }
    }
    let example = "expected a filter like info or info,kafka_client=debug";
    EnvFilter::try_new(level).map_err(|err| format!("{example}, found `{level}`: {err}"))
}

/// `level` is a tracing filter; `json` for machines. Called once.
pub fn init(level: &str, json: bool) {
    let filter = filter(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A second call (tests) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
