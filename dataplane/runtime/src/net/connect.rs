//! Connecting by name or address within a time limit.
//!
//! The socket is made non-blocking and connected by hand, then waited for with `writable`, which may be dropped: a
//! connect that times out closes its descriptor (monoio 0.2.4 leaks it when its own connect is dropped).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};

use super::resolve;
use super::socket::Socket;
use super::stream::Stream;
use crate::context;
use crate::limits::CONNECT_ADDRESSES_MAX;
use crate::shard::Driver;
use crate::time;

/// Connects to `host` (a name, or an IP address with or without brackets) within `timeout`, which covers finding
/// the name's addresses and trying them in turn. TCP_NODELAY is set. May be dropped at any time.
pub async fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<Stream> {
    let deadline = Instant::now() + timeout;
    let context = |err: io::Error| io::Error::new(err.kind(), format!("cannot connect to {host}:{port}: {err}"));
    let addrs = match literal(host) {
        Some(ip) => vec![SocketAddr::new(ip, port)],
        None => match time::timeout_at(deadline, resolve::lookup(host, port)).await {
            Ok(found) => found.map_err(context)?,
            Err(_) => return Err(context(timed_out("name not resolved", timeout))),
        },
    };
    let count = addrs.len().min(CONNECT_ADDRESSES_MAX);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "name has no address");
    for (index, addr) in addrs.into_iter().take(count).enumerate() {
        // An address that swallows packets may use its share of the time, not all of it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(count - index).unwrap_or(1);
        match time::timeout(share, connect_addr(addr)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(err)) => last = err,
            Err(_) => last = timed_out("no answer", share),
        }
    }
    Err(context(last))
}

fn timed_out(what: &str, after: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} ms", after.as_millis()))
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

async fn connect_addr(addr: SocketAddr) -> io::Result<Stream> {
    let raw = RawSocket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    raw.set_tcp_nodelay(true)?;
    match raw.connect(&addr.into()) {
        Ok(()) => {}
        Err(err) if err.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(err) => return Err(err),
    }
    let socket = Socket::register(raw.into())?;
    socket.writable().await?;
    if let Some(err) = SockRef::from(&socket.fd()).take_error()? {
        return Err(err);
    }
    // Waited on a non-blocking descriptor; io_uring wants to wait by itself from here on.
    if context::current().driver != Driver::Epoll {
        SockRef::from(&socket.fd()).set_nonblocking(false)?;
    }
    Ok(Stream::plain(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver_with_or_without_brackets() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("[::1]", true),
            ("[fe80::1", false),
            ("localhost", false),
            ("kafka-1.example", false),
            ("", false),
        ] {
            assert_eq!(literal(host).is_some(), expected, "{host}");
        }
    }
}
