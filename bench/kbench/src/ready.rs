//! The one line that says a server takes traffic.

use std::io::{self, Write};

/// Prints `{"ready":true,"NAME":"VALUE"}`, or a sentence for people.
pub fn announce(json: bool, name: &str, value: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let mut line = serde_json::Map::new();
        line.insert("ready".to_owned(), true.into());
        line.insert(name.to_owned(), value.into());
        writeln!(out, "{}", serde_json::Value::Object(line))?;
    } else {
        writeln!(out, "ready, {name} {value}; end with Ctrl-C")?;
    }
    out.flush()
}
