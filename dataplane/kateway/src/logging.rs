//! Structured logs, one line per event, on stderr: stdout belongs to results.

use tracing_subscriber::EnvFilter;

/// `level` is a tracing filter; `json` for machines. Called once.
pub fn init(level: &str, json: bool) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A second call (tests) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}
