//! Free loopback ports that stay free while their owner is down.
//!
//! Port 0 would hand out an ephemeral port, which any outgoing connection may take in the second between a broker's
//! death and its restart. So we pick below the ephemeral range, and never the same port twice in one process.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::{Result, bail};

use crate::limits::{PORT_END, PORT_FIRST};

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// `count` ports on 127.0.0.1 that nobody listens on.
pub fn free(count: usize) -> Result<Vec<u16>> {
    let mut guard = GIVEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let given = guard.get_or_insert_with(HashSet::new);
    let width = PORT_END - PORT_FIRST;
    // Processes that run at the same time start looking in different places.
    let start = (std::process::id().wrapping_mul(7_919) % u32::from(width)) as u16;
    let mut ports = Vec::with_capacity(count);
    for step in 0..width {
        if ports.len() == count {
            break;
        }
        let port = PORT_FIRST + ((u32::from(start) + u32::from(step)) % u32::from(width)) as u16;
        if !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            given.insert(port);
            ports.push(port);
        }
    }
    if ports.len() < count {
        bail!("only {} of {count} ports are free between {PORT_FIRST} and {PORT_END}", ports.len());
    }
    Ok(ports)
}

/// The first of `count` ports in a row on 127.0.0.1 that nobody listens on.
pub fn free_in_a_row(count: u16) -> Result<u16> {
    // Whoever holds a port in between costs a try.
    for _ in 0..ROWS_TRIED_MAX {
        let ports = free(usize::from(count))?;
        if ports.windows(2).all(|pair| pair[1] == pair[0] + 1) {
            return Ok(ports[0]);
        }
    }
    bail!("no {count} ports in a row are free between {PORT_FIRST} and {PORT_END}")
}

const ROWS_TRIED_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_below_the_ephemeral_range() {
        let mut ports = free(5).unwrap();
        ports.extend(free(5).unwrap());
        let distinct: HashSet<u16> = ports.iter().copied().collect();
        assert_eq!(distinct.len(), 10);
        assert!(ports.iter().all(|port| (PORT_FIRST..PORT_END).contains(port)));
    }

    #[test]
    fn ports_in_a_row_are_all_free() {
        let first = free_in_a_row(9).unwrap();
        let bound: Vec<_> = (first..first + 9).map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port))).collect();
        assert!(bound.iter().all(Result::is_ok), "{bound:?}");
    }
}
