//! `host:port`, as people write it and brokers tell it.

/// Splits `host:port`; IPv6 literals in brackets. None when the port is missing or no number.
pub fn parse_host_port(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.trim().rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    Some((host.to_owned(), port.parse().ok().filter(|port| *port != 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for (address, parsed) in [
            ("kafka-1:9092", Some(("kafka-1", 9092))),
            ("127.0.0.1:1", Some(("127.0.0.1", 1))),
            ("[::1]:9092", Some(("::1", 9092))),
            ("kafka", None),
            ("kafka:", None),
            ("kafka:0", None),
            (":9092", None),
            ("kafka:99999", None),
        ] {
            let got = parse_host_port(address);
            assert_eq!(got.as_ref().map(|(host, port)| (host.as_str(), *port)), parsed, "{address}");
        }
    }
}
