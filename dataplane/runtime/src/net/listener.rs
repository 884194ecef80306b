//! Listeners: one per shard on the same address.
//!
//! SO_REUSEPORT lets every shard have its own accept queue, but it also lets a second process of the same user
//! take half of the connections without anybody noticing. So the first socket binds and listens *exclusively*,
//! which fails if anyone is there; only then is it marked shareable and the others join it. While ours are open
//! every newcomer's exclusive attempt fails, so there is no moment in which two processes both succeed.
//!
//! TCP_NODELAY is set on the listener and inherited by what it accepts: no system call per connection (and without
//! it answers wait 40 ms for a delayed ACK).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::stream::Stream;
use crate::context;
use crate::limits::{ACCEPT_BURST_MAX, ACCEPT_REST, BIND_PATIENCE, BIND_RETRY, LISTEN_BACKLOG};
use crate::shard::Driver;
use crate::time;

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenSpec {
    pub addr: SocketAddr,
    /// Completed connections waiting for `accept`; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
}

impl From<SocketAddr> for ListenSpec {
    fn from(addr: SocketAddr) -> Self {
        ListenSpec { addr, backlog: LISTEN_BACKLOG }
    }
}

/// One listener per shard on the same address, which nobody else listens on. Port 0 becomes one free port for all;
/// the address really bound is returned. Connections wait in the backlog until the shards accept. A port in use is
/// waited for [`BIND_PATIENCE`], on the calling thread.
///
/// # Panics
/// When `shard_count` is 0.
pub fn bind_reuseport(
    spec: impl Into<ListenSpec>,
    shard_count: usize,
) -> io::Result<(SocketAddr, Vec<std::net::TcpListener>)> {
    assert!(shard_count > 0, "at least one shard listens");
    let spec = spec.into();
    let first = patiently(|| listening_socket(spec.addr, spec.backlog, false))?;
    let addr = local_addr(&first)?;
    let mut listeners = Vec::with_capacity(shard_count);
    if shard_count > 1 {
        first.set_reuse_port(true)?;
    }
    listeners.push(first.into());
    for _ in 1..shard_count {
        listeners.push(listening_socket(addr, spec.backlog, true)?.into());
    }
    Ok((addr, listeners))
}

fn patiently<T>(mut bind: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let until = Instant::now() + BIND_PATIENCE;
    loop {
        match bind() {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(BIND_RETRY);
            }
            done => return done,
        }
    }
}

/// A single exclusive listener.
pub fn bind(spec: impl Into<ListenSpec>) -> io::Result<(SocketAddr, std::net::TcpListener)> {
    let (addr, mut listeners) = bind_reuseport(spec, 1)?;
    let listener = listeners.pop().expect("one listener was asked for");
    Ok((addr, listener))
}

fn listening_socket(addr: SocketAddr, backlog: i32, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of the process before us may still be in TIME_WAIT; this does not allow a second listener.
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    let refused = |err: io::Error| io::Error::new(err.kind(), format!("cannot listen on {addr}: {err}"));
    socket.bind(&addr.into()).map_err(refused)?;
    socket.listen(backlog).map_err(refused)?;
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("listener has no internet address"))
}

/// A shard's listener.
pub struct Listener {
    inner: monoio::net::TcpListener,
    driver: Driver,
    burst: Cell<u32>,
}

impl Listener {
    /// Takes a bound listener to this shard.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Listener> {
        // Never blocking, on any driver: a client may be gone between `readable` and `accept`.
        listener.set_nonblocking(true)?;
        let driver = context::current().driver;
        Ok(Listener { inner: monoio::net::TcpListener::from_std(listener)?, driver, burst: Cell::new(0) })
    }

    /// The next connection, for this shard. May be dropped at any time: a connection is either returned or still
    /// in the backlog.
    ///
    /// Errors of a single connection are skipped. When descriptors or memory run out it rests and tries again, so
    /// an error here means the listener is of no use any more.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        let (stream, peer) = self.next().await?;
        Ok((Stream::register(stream)?, peer))
    }

    /// As [`Listener::accept`], for a connection that may go to another shard: hand the socket over and make a
    /// [`Stream`] of it there.
    pub async fn accept_std(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        self.next().await
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    async fn next(&self) -> io::Result<(std::net::TcpStream, SocketAddr)> {
        // A flood of connections never makes accept wait; give the others a turn all the same.
        if self.burst.get() >= ACCEPT_BURST_MAX {
            self.burst.set(0);
            time::yield_now().await;
        }
        loop {
            match self.accept_now() {
                Ok(accepted) => {
                    self.burst.set(self.burst.get() + 1);
                    return Ok(accepted);
                }
                Err(Errno::AGAIN) => {
                    self.burst.set(0);
                    self.inner.readable(false).await?;
                }
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    tracing::warn!(rest_ms = ACCEPT_REST.as_millis(), "no descriptors or memory left to accept with");
                    time::sleep(ACCEPT_REST).await;
                }
                // accept(2): errors of a connection that was already pending are to be treated as "try again".
                Err(
                    Errno::CONNABORTED
                    | Errno::INTR
                    | Errno::PROTO
                    | Errno::PERM
                    | Errno::NETDOWN
                    | Errno::NOPROTOOPT
                    | Errno::HOSTDOWN
                    | Errno::NONET
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH,
                ) => {}
                Err(err) => return Err(err.into()),
            }
        }
    }

    fn accept_now(&self) -> Result<(std::net::TcpStream, SocketAddr), Errno> {
        // io_uring waits by itself and needs a blocking descriptor for that; epoll needs a non-blocking one.
        let flags = match self.driver {
            Driver::Epoll => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Driver::IoUring | Driver::IoUringCoop => SocketFlags::CLOEXEC,
        };
        // SAFETY: the descriptor is open for as long as `self.inner` lives, which outlives this borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.inner.as_raw_fd()) };
        let (stream, peer) = rustix::net::acceptfrom_with(fd, flags)?;
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
        Ok((std::net::TcpStream::from(stream), peer))
    }
}
