//! Addresses, names and paths that look right and can never work.

use model::host_port::parse_host_port;
use std::net::SocketAddr;
use std::path::Path;

/// Why `broker` is no `host:port`.
pub fn no_broker(broker: &str) -> Option<&'static str> {
    if broker.contains("://") {
        return Some("expected host:port without a scheme (tls.enabled and sasl.mechanism say how to speak)");
    }
    let Some((host, _)) = parse_host_port(broker) else { return Some("expected host:port") };
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    (!is_name && host.parse::<std::net::Ipv6Addr>().is_err()).then_some("expected host:port")
}

/// Whether two listeners would ask for the same port. Port 0 is any free one.
pub fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_ip = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_ip
}

/// Why no browser's `Origin` header is ever `origin` (RFC 6454 section 6.2: scheme, host, and a port if unusual).
pub fn never_an_origin(origin: &str) -> Option<&'static str> {
    let Some((scheme, authority)) = origin.split_once("://") else {
        return Some("expected one like https://console.example.org");
    };
    if scheme.is_empty() || authority.is_empty() {
        return Some("expected one like https://console.example.org");
    }
    if authority.contains(['/', '?', '#', '@']) {
        return Some("it ends with the host or the port, without a slash");
    }
    if origin.bytes().any(|byte| byte.is_ascii_uppercase() || byte <= b' ' || byte == b'*') {
        return Some("it is lower case, without blanks and wildcards");
    }
    let default_port =
        matches!(scheme, "https") && authority.ends_with(":443") || scheme == "http" && authority.ends_with(":80");
    default_port.then_some("the usual port is left out")
}

/// Why the directory neither exists nor can be made. Makes nothing.
pub fn cannot_be_made(dir: &Path) -> Option<String> {
    let standing = dir.ancestors().find(|path| path.exists())?;
    (!standing.is_dir()).then(|| format!("cannot be made: {} is no directory", standing.display()))
}
