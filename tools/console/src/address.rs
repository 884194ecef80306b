//! Addresses as people write them: a number or a name, and a port.

use std::net::{SocketAddr, ToSocketAddrs};

/// `127.0.0.1:9191`, `[::1]:9191`, `localhost:0`. A name is looked up, once; of several addresses an IPv4 one is taken, as most
/// who write `localhost` mean 127.0.0.1.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let named = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = named
        .filter(|(host, _)| is_name(host))
        .ok_or_else(|| format!("expected an address like 127.0.0.1:9191, found `{text}`"))?;
    let found = (host, port).to_socket_addrs().map_err(|err| format!("host `{host}` has no address: {err}"))?;
    let found: Vec<SocketAddr> = found.collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.copied().ok_or_else(|| format!("host `{host}` has no address"))
}

/// What is all digits and dots is a mistyped number, which some resolvers take for an address nobody meant.
fn is_name(host: &str) -> bool {
    let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    host.bytes().all(is_of_names) && host.bytes().any(|byte| byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_they_are_and_names_are_looked_up() {
        for (text, expected) in [
            ("127.0.0.1:9191", "127.0.0.1:9191"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:0", "127.0.0.1:0"),
            ("LOCALHOST:9191", "127.0.0.1:9191"),
        ] {
            assert_eq!(address(text).map(|found| found.to_string()), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_says_what_one_looks_like() {
        for text in
            ["", "9191", ":9191", "localhost", "localhost:", "localhost:x", "localhost:70000", "127.1:9191", "::1:9"]
        {
            let err = address(text).unwrap_err();
            assert!(err.starts_with("expected an address like 127.0.0.1:9191, found `"), "{err}");
        }
        // `.invalid` is nobody's, by RFC 6761.
        let err = address("no-such-host.invalid:1").unwrap_err();
        assert!(err.starts_with("host `no-such-host.invalid` has no address"), "{err}");
    }
}
