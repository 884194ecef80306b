//! A TCP connection as the ring sees it: the plain half of [`super::Stream`] and the ground TLS stands on.

use std::cell::{Cell, UnsafeCell};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};

use bytes::{Buf, Bytes, BytesMut};
use monoio::buf::IoBufMut;
use monoio::io::{AsyncReadRent, AsyncWriteRent};
use monoio::net::TcpStream;

use super::chain::Chain;
use super::stream::ReadBuf;
use crate::context;
use crate::shard::Driver;

/// Shared by the halves of a stream. Per shard; never leaves its thread once an operation was started.
pub(super) struct Socket {
    tcp: UnsafeCell<TcpStream>,
    /// An operation was started, so the descriptor stays here.
    used: Cell<bool>,
}

impl Socket {
    /// For a socket whose blocking mode already fits this shard's driver.
    pub fn register(stream: std::net::TcpStream) -> io::Result<Socket> {
        Ok(Socket { tcp: UnsafeCell::new(TcpStream::from_std(stream)?), used: Cell::new(false) })
    }

    /// For a socket from anywhere. io_uring arms its own poll on a blocking descriptor but gives EAGAIN back for a
    /// non-blocking one; epoll needs it the other way round.
    pub fn adopt(stream: std::net::TcpStream) -> io::Result<Socket> {
        stream.set_nonblocking(context::current().driver == Driver::Epoll)?;
        Socket::register(stream)
    }

    fn tcp(&self) -> &TcpStream {
        // SAFETY: only this thread reaches the cell. The exclusive reference made in `tcp_mut` ends before the call
        // that used it returns, so it never lives beside this one.
        unsafe { &*self.tcp.get() }
    }

    /// For building one read or write operation, which monoio wants `&mut` for though it only clones the
    /// descriptor's handle: the returned future owns that clone and the buffer and keeps no reference.
    #[allow(clippy::mut_from_ref)]
    fn tcp_mut(&self) -> &mut TcpStream {
        // SAFETY: one thread, and the reference is used for a call that runs no code of ours and returns at once.
        // A `readable` future may hold a shared reference meanwhile, but reads through it only before its first
        // await, that is within its own first poll.
        unsafe { &mut *self.tcp.get() }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.tcp` lives.
        unsafe { BorrowedFd::borrow_raw(self.tcp().as_raw_fd()) }
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.used.set(true);
        self.tcp().readable(false).await
    }

    pub async fn writable(&self) -> io::Result<()> {
        self.used.set(true);
        self.tcp().writable(false).await
    }

    pub async fn read<B: ReadBuf>(&self, buf: B) -> (io::Result<usize>, B) {
        self.used.set(true);
        let (result, tail) = self.tcp_mut().read(Tail { buf }).await;
        (result, tail.buf)
    }

    pub async fn write_all(&self, mut bytes: Bytes) -> io::Result<()> {
        self.used.set(true);
        while !bytes.is_empty() {
            let (result, returned) = self.tcp_mut().write(bytes).await;
            bytes = returned;
            bytes.advance(written(result)?);
        }
        Ok(())
    }

    pub async fn write_chain(&self, chunks: Vec<Bytes>) -> io::Result<()> {
        self.used.set(true);
        let mut chain = Chain::new(chunks);
        while !chain.is_empty() {
            if let Some(last) = chain.take_last() {
                return self.write_all(last).await;
            }
            chain.fill();
            let (result, returned) = self.tcp_mut().writev(chain).await;
            chain = returned;
            chain.advance(written(result)?);
        }
        Ok(())
    }

    pub fn shutdown(&self, how: rustix::net::Shutdown) {
        // NOTCONN: the peer was faster. Either way pending operations complete.
        let _ = rustix::net::shutdown(self.fd(), how);
    }

    /// Looks without taking anything.
    pub fn is_at_end(&self) -> bool {
        let mut byte = [0u8];
        let flags = rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::DONTWAIT;
        matches!(rustix::net::recv(self.fd(), &mut byte, flags), Ok((_, 0)))
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().local_addr()
    }

    pub fn is_used(&self) -> bool {
        self.used.get()
    }

    /// Takes the descriptor out of the driver.
    ///
    /// # Panics
    /// When an operation was started on it: monoio cannot give up a descriptor the kernel may still work on.
    pub fn into_std(self) -> std::net::TcpStream {
        assert!(!self.used.get(), "a connection moves only before its first operation");
        let fd = self.tcp.into_inner().into_raw_fd();
        // SAFETY: into_raw_fd gave up the ownership of this open socket, and nobody else has it.
        unsafe { std::net::TcpStream::from_raw_fd(fd) }
    }
}

fn written(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        other => other,
    }
}

/// The free room behind a buffer's bytes, as the target of one read.
struct Tail<B> {
    buf: B,
}

impl<B: ReadBuf> Tail<B> {
    fn bytes(&mut self) -> &mut BytesMut {
        self.buf.bytes_mut()
    }
}

// SAFETY: the room starts behind the `len` initialised bytes of the buffer's heap block and ends at its capacity;
// the block does not move with the handle, and nothing else writes to it: a `BytesMut` is the only owner of its
// range. `set_init` is called with the number of bytes the kernel wrote there, once per read.
unsafe impl<B: ReadBuf> IoBufMut for Tail<B> {
    fn write_ptr(&mut self) -> *mut u8 {
        let bytes = self.bytes();
        let len = bytes.len();
        // SAFETY: len <= capacity, so the pointer stays within (or one past) the allocation.
        unsafe { bytes.as_mut_ptr().add(len) }
    }

    fn bytes_total(&mut self) -> usize {
        let bytes = self.bytes();
        bytes.capacity() - bytes.len()
    }

    unsafe fn set_init(&mut self, pos: usize) {
        let bytes = self.bytes();
        let len = bytes.len() + pos;
        assert!(len <= bytes.capacity(), "the kernel wrote no more than there was room for");
        // SAFETY: the caller says `pos` bytes behind the old length are initialised, and they fit.
        unsafe { bytes.set_len(len) };
    }
}
