//! The one line that says a server takes traffic.

use std::io::{self, Write};

/// Prints `{"ready":true,"NAME":"VALUE"}`, or a sentence for people.
pub fn announce(json: bool, name: &str, value: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{{\"ready\":true,{}:{}}}", serde_json::Value::from(name), serde_json::Value::from(value))?;
    } else {
        writeln!(out, "ready, {name} {value}; end with Ctrl-C")?;
    }
    out.flush()
}
