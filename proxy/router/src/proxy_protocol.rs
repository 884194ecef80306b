//! The PROXY protocol, version 2, as HAProxy sends it: who the client behind a balancer is.
//!
//! Source: haproxy.org, "The PROXY protocol", section 2.2. Version 1 (text) is refused: a Kafka frame can look like it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The twelve bytes every header begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, and length of the rest.
pub const HEAD_BYTES: usize = 16;
/// Longest rest taken: addresses are at most 216 bytes, TLVs of balancers a few hundred.
pub const REST_BYTES_MAX: usize = 4096;

/// Why a connection does not begin as it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyProtocolError {
    #[error("no PROXY protocol v2 header: is proxy_protocol meant to be on, or does the balancer not send it?")]
    NoHeader,
    #[error("PROXY protocol header of version {version} command {command}, which is not known")]
    Unknown { version: u8, command: u8 },
    #[error("PROXY protocol header of {length} bytes, at most {REST_BYTES_MAX} are taken")]
    TooLong { length: usize },
    #[error("PROXY protocol header too short for its addresses")]
    Truncated,
}

/// Whether an address follows, and how many bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// False: the balancer itself connects (a health check).
    pub is_proxied: bool,
    pub family: u8,
    pub rest_bytes: usize,
}

/// Reads the fixed part.
pub fn head(bytes: &[u8; HEAD_BYTES]) -> Result<Head, ProxyProtocolError> {
    if bytes[..12] != SIGNATURE {
        return Err(ProxyProtocolError::NoHeader);
    }
    let (version, command) = (bytes[12] >> 4, bytes[12] & 15);
    if version != 2 || command > 1 {
        return Err(ProxyProtocolError::Unknown { version, command });
    }
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > REST_BYTES_MAX {
        return Err(ProxyProtocolError::TooLong { length });
    }
    Ok(Head { is_proxied: command == 1, family: bytes[13], rest_bytes: length })
}

/// The client's address, None where the header has none that we understand (then it is the balancer's).
pub fn source(head: Head, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
    if !head.is_proxied {
        return Ok(None);
    }
    let port = |at: usize| u16::from_be_bytes([rest[at], rest[at + 1]]);
    match head.family {
        0x11 if rest.len() < 12 => Err(ProxyProtocolError::Truncated),
        0x21 if rest.len() < 36 => Err(ProxyProtocolError::Truncated),
        0x11 => {
            let ip: [u8; 4] = rest[..4].try_into().expect("four bytes");
            Ok(Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port(8))))
        }
        0x21 => {
            let ip: [u8; 16] = rest[..16].try_into().expect("sixteen bytes");
            Ok(Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(ip)), port(32))))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyProtocolError> {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..12].copy_from_slice(&SIGNATURE);
        bytes[12] = command;
        bytes[13] = family;
        bytes[14..].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        source(head(&bytes)?, rest)
    }

    #[test]
    fn addresses_of_both_families_are_read_and_others_are_nobody() {
        let four = [10, 1, 2, 3, 127, 0, 0, 1, 0xd4, 0x31, 0x23, 0x82];
        assert_eq!(read(0x21, 0x11, &four), Ok(Some("10.1.2.3:54321".parse().expect("an address"))));
        let mut six = [0; 36];
        (six[15], six[32], six[33]) = (1, 0xd4, 0x31);
        assert_eq!(read(0x21, 0x21, &six), Ok(Some("[::1]:54321".parse().expect("an address"))));
        assert_eq!(read(0x20, 0x11, &four), Ok(None), "LOCAL: the balancer itself");
        assert_eq!(read(0x21, 0x00, &[]), Ok(None), "UNSPEC");
        assert_eq!(read(0x21, 0x31, &[0; 216]), Ok(None), "a unix socket");
    }

    #[test]
    fn what_is_no_header_is_said() {
        assert_eq!(read(0x21, 0x11, &[0; 11]), Err(ProxyProtocolError::Truncated));
        assert_eq!(read(0x31, 0x11, &[0; 12]), Err(ProxyProtocolError::Unknown { version: 3, command: 1 }));
        assert_eq!(read(0x21, 0x11, &[0; 5000]), Err(ProxyProtocolError::TooLong { length: 5000 }));
        assert_eq!(head(b"PROXY TCP4 10.1."), Err(ProxyProtocolError::NoHeader));
    }
}
