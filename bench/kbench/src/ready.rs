//! The one line that says a server takes traffic.

/// Prints `{"ready":true,"NAME":"VALUE"}`, or a sentence for people.
pub fn announce(json: bool, name: &str, value: &str) {
    if json {
        console::println!("{{\"ready\":true,{}:{}}}", serde_json::Value::from(name), serde_json::Value::from(value));
    } else {
        console::println!("ready, {name} {value}; end with Ctrl-C");
    }
}
