//! From where an app may be used: ranges of addresses, as `10.1.0.0/16` or `2001:db8::/32` (RFC 4632, RFC 4291).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::denied::echo;
use crate::limits::ADDRESS_RANGES_MAX;

/// The ranges an app may be used from. None at all: from everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(Vec<AddressRange>);

/// An address, or all that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// Why a text is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("`{0}` is no range of addresses, expected one like 10.1.0.0/16, 2001:db8::/32 or 192.0.2.7")]
    Malformed(String),
    #[error("`{given}` has bits set beyond its first {bits}, did you mean {meant}?")]
    BitsBeyond { given: String, bits: u8, meant: AddressRange },
    #[error("{found} ranges of addresses, at most {ADDRESS_RANGES_MAX} are supported")]
    TooMany { found: usize },
}

impl Addresses {
    pub fn new(ranges: Vec<AddressRange>) -> Result<Self, AddressError> {
        if ranges.len() > ADDRESS_RANGES_MAX {
            return Err(AddressError::TooMany { found: ranges.len() });
        }
        Ok(Self(ranges))
    }

    /// As a list with commas: `10.1.0.0/16,192.0.2.7`. An empty text is no range.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty()).map(str::parse);
        Self::new(ranges.collect::<Result<_, _>>()?)
    }

    /// Everywhere.
    pub fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    pub fn ranges(&self) -> &[AddressRange] {
        &self.0
    }

    /// Whether a connection from there may use the app. IPv4 in IPv6 (`::ffff:192.0.2.7`) is IPv4.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.0.is_empty() || {
            let address = address.to_canonical();
            self.0.iter().any(|range| range.contains(address))
        }
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl AddressRange {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => masked(address, self.bits) == self.first,
            _ => false,
        }
    }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl FromStr for AddressRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed(echo(text));
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| malformed())?;
        let bits_max = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => bits_max,
            // `u8::from_str` takes a sign and leading zeros.
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => return Err(malformed()),
            Some(digits) if digits.len() > 1 && digits.starts_with('0') => return Err(malformed()),
            Some(digits) => digits.parse().ok().filter(|bits| *bits <= bits_max).ok_or_else(malformed)?,
        };
        let range = Self { first: masked(first, bits), bits };
        if range.first != first {
            return Err(AddressError::BitsBeyond { given: echo(text), bits, meant: range });
        }
        if first != first.to_canonical() {
            return Err(malformed()); // connections from there are IPv4
        }
        Ok(range)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_one = self.bits == if self.first.is_ipv4() { 32 } else { 128 };
        if is_one { write!(f, "{}", self.first) } else { write!(f, "{}/{}", self.first, self.bits) }
    }
}

impl TryFrom<String> for AddressRange {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> String {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_allowed_by_the_ranges_it_lies_in_and_everywhere_without_any() {
        let list = Addresses::parse("10.1.0.0/16, 192.0.2.7,2001:db8::/32").unwrap();
        let rows = [
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:192.0.2.7", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", false),
        ];
        for (address, expected) in rows {
            assert_eq!(list.allow(address.parse().unwrap()), expected, "{address}");
        }
        let anywhere = Addresses::parse("").unwrap();
        assert!(anywhere.is_any() && anywhere.allow("203.0.113.9".parse().unwrap()));
        let all = Addresses::parse("0.0.0.0/0").unwrap();
        assert!(all.allow("203.0.113.9".parse().unwrap()) && !all.allow("::1".parse().unwrap()));
    }

    #[test]
    fn ranges_read_back_and_what_is_none_is_named() {
        for text in ["10.1.0.0/16", "192.0.2.7", "0.0.0.0/0", "2001:db8::/32", "::1", "::/0"] {
            assert_eq!(text.parse::<AddressRange>().unwrap().to_string(), text);
        }
        let bad =
            ["", "10.1", "10.1.0.0/", "10.1.0.0/33", "10.1.0.0/016", "10.1.0.0/+8", "::/129", "host", "::ffff:1.2.3.4"];
        for text in bad {
            assert_eq!(text.parse::<AddressRange>(), Err(AddressError::Malformed(text.to_owned())), "{text}");
        }
        let err = "10.1.2.3/16".parse::<AddressRange>().unwrap_err().to_string();
        assert_eq!(err, "`10.1.2.3/16` has bits set beyond its first 16, did you mean 10.1.0.0/16?");
        let many = vec!["::1".parse().unwrap(); ADDRESS_RANGES_MAX + 1];
        assert_eq!(Addresses::new(many), Err(AddressError::TooMany { found: ADDRESS_RANGES_MAX + 1 }));
    }
}
