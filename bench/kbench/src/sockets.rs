//! What a process holds open, as the kernel counts it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use anyhow::{Result, ensure};

/// Descriptors of a process.
pub fn open_files(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Established TCP connections of a process to this IPv4 address.
pub fn connections_to(pid: u32, to: SocketAddr) -> io::Result<usize> {
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let connected: HashSet<u64> =
        table.lines().filter_map(parse_line).filter(|(addr, _)| *addr == to).map(|(_, inode)| inode).collect();
    let mut count = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        // One that was closed meanwhile is none.
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        let inode = link.to_str().and_then(|name| name.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        count += usize::from(inode.is_some_and(|inode: u64| connected.contains(&inode)));
    }
    Ok(count)
}

/// The state of a connection that is established, as proc_net(5) writes it.
const ESTABLISHED: &str = "01";

/// proc_net(5): `sl local remote state queues timer retransmits uid timeout inode …`; the remote end and the inode.
fn parse_line(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_ascii_whitespace().skip(2);
    let (ip, port) = fields.next()?.split_once(':')?;
    if fields.next()? != ESTABLISHED {
        return None;
    }
    // The address as a number of this machine's byte order, whose memory is in network order.
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    let addr = SocketAddrV4::new(ip, u16::from_str_radix(port, 16).ok()?);
    Some((addr.into(), fields.nth(5)?.parse().ok()?))
}

/// Raises the limit on descriptors to the most this process may have, for all it starts too; whether they suffice.
pub fn need_descriptors(needed: usize, what: &str) -> Result<()> {
    let limit = runtime::descriptors::raise_limit();
    ensure!(
        limit >= needed,
        "{what} need {needed} open files in one process and the hard limit (RLIMIT_NOFILE) is {limit}: raise it \
         (`ulimit -Hn`, as root) or ask for less"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_are_told_apart_by_where_they_go_to() {
        let this = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let addr = listener.local_addr().expect("address");
        assert_eq!(connections_to(this, addr).expect("proc"), 0);
        let first = TcpStream::connect(addr).expect("connect");
        let _second = TcpStream::connect(addr).expect("connect");
        assert_eq!(connections_to(this, addr).expect("proc"), 2);
        drop(first);
        assert_eq!(connections_to(this, addr).expect("proc"), 1);
        assert!(open_files(this).expect("proc") >= 5);
    }

    #[test]
    fn only_what_is_established_counts() {
        let line =
            "   1: 0100007F:B4AA 0100007F:2384 01 00000000:00000000 00:00000000 00000000  1000        0 4242 1 x";
        let expected = (SocketAddr::from(([127, 0, 0, 1], 9092)), 4242);
        assert_eq!(parse_line(line), cfg!(target_endian = "little").then_some(expected));
        assert_eq!(parse_line(&line.replace(" 01 ", " 06 ")), None);
        assert_eq!(parse_line("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn too_few_descriptors_are_said_with_the_numbers() {
        assert!(need_descriptors(10, "ten polls").is_ok());
        let err = need_descriptors(usize::MAX, "too many polls").expect_err("no such limit").to_string();
        assert!(err.contains("too many polls need") && err.contains("RLIMIT_NOFILE"), "{err}");
    }
}
