//! Connections as the rest of the data plane sees them: plain or TLS behind one type.
//!
//! | call | when its future is dropped half-way |
//! |---|---|
//! | `readable` | nothing happens: race it, wrap it in a timeout |
//! | `read` | bytes may be lost; the stream is of no further use |
//! | `write_all`, `write_chain` | the peer may have part of them; the stream is of no further use |
//!
//! So a loop waits in `readable`, takes a buffer from the pool, and then reads, which returns at once. To end a
//! read or write that hangs, call `shutdown` from another task: both directions end now and the pending operation
//! returns.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use rustix::net::Shutdown;

use super::socket::Socket;
use super::tls::Session;
use crate::pool::PooledBuf;

/// A buffer a read can append to: `BytesMut` or a pooled one.
pub trait ReadBuf: Unpin + 'static {
    fn bytes_mut(&mut self) -> &mut BytesMut;
}

impl ReadBuf for BytesMut {
    fn bytes_mut(&mut self) -> &mut BytesMut {
        self
    }
}

impl ReadBuf for PooledBuf {
    fn bytes_mut(&mut self) -> &mut BytesMut {
        self
    }
}

#[derive(Clone)]
pub(super) enum Transport {
    Plain(Rc<Socket>),
    Tls(Rc<Session>),
}

// TLS futures are boxed: they are five times the size of the plain ones, and every idle plain connection would
// carry them in its task.
impl Transport {
    async fn readable(&self) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.readable().await,
            Transport::Tls(session) => session.readable().await,
        }
    }

    async fn read<B: ReadBuf>(&self, mut buf: B) -> (io::Result<usize>, B) {
        let bytes = buf.bytes_mut();
        assert!(bytes.len() < bytes.capacity(), "a read needs room, or its 0 would look like the end of the stream");
        match self {
            Transport::Plain(socket) => socket.read(buf).await,
            Transport::Tls(session) => Box::pin(session.read(buf)).await,
        }
    }

    async fn write_all(&self, bytes: Bytes) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.write_all(bytes).await,
            Transport::Tls(session) => Box::pin(session.write_chain(vec![bytes])).await,
        }
    }

    async fn write_chain(&self, chunks: Vec<Bytes>) -> io::Result<()> {
        match self {
            Transport::Plain(socket) => socket.write_chain(chunks).await,
            Transport::Tls(session) => Box::pin(session.write_chain(chunks)).await,
        }
    }

    async fn finish(&self) -> io::Result<()> {
        if let Transport::Tls(session) = self {
            Box::pin(session.close_notify()).await?;
        }
        self.socket().shutdown(Shutdown::Write);
        Ok(())
    }

    fn socket(&self) -> &Rc<Socket> {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Tls(session) => session.socket(),
        }
    }
}

/// Ends a stream from anywhere on its shard, without owning a half of it. Does not keep the socket open.
#[derive(Clone)]
pub struct Closer {
    socket: std::rc::Weak<Socket>,
}

impl Closer {
    /// See [`Stream::shutdown`]. Nothing happens when the stream is gone.
    pub fn shutdown(&self) {
        if let Some(socket) = self.socket.upgrade() {
            socket.shutdown(Shutdown::Both);
        }
    }
}

/// One connection, owned by the shard it was made on.
pub struct Stream {
    pub(super) transport: Transport,
}

impl Stream {
    /// Takes a socket to this shard, for example one that another shard accepted.
    pub fn from_std(stream: std::net::TcpStream) -> io::Result<Stream> {
        Ok(Stream::plain(Socket::adopt(stream)?))
    }

    pub(super) fn register(stream: std::net::TcpStream) -> io::Result<Stream> {
        Ok(Stream::plain(Socket::register(stream)?))
    }

    pub(super) fn plain(socket: Socket) -> Stream {
        Stream { transport: Transport::Plain(Rc::new(socket)) }
    }

    /// Gives the socket up, to be sent to another shard. Only before any operation on it (the stream comes back
    /// otherwise): the kernel may still be working on one.
    pub fn into_std(self) -> Result<std::net::TcpStream, Stream> {
        let Transport::Plain(socket) = self.transport else { return Err(self) };
        if socket.is_used() {
            return Err(Stream { transport: Transport::Plain(socket) });
        }
        match Rc::try_unwrap(socket) {
            Ok(socket) => Ok(socket.into_std()),
            Err(socket) => Err(Stream { transport: Transport::Plain(socket) }),
        }
    }

    /// Waits until a read has something to say: bytes, the end, or an error. Holds no buffer; safe to drop.
    ///
    /// On TLS, bytes may have arrived that are no full record yet; the read after it then waits for the rest.
    pub async fn readable(&self) -> io::Result<()> {
        self.transport.readable().await
    }

    /// Appends what is there to `buf`, which must have room; 0 is the end of the stream.
    pub async fn read<B: ReadBuf>(&mut self, buf: B) -> (io::Result<usize>, B) {
        self.transport.read(buf).await
    }

    /// Writes all of `bytes`.
    pub async fn write_all(&mut self, bytes: Bytes) -> io::Result<()> {
        self.transport.write_all(bytes).await
    }

    /// Writes all chunks in order, gathered: plain TCP copies none of them.
    pub async fn write_chain(&mut self, chunks: Vec<Bytes>) -> io::Result<()> {
        self.transport.write_chain(chunks).await
    }

    /// Tells the peer that nothing more will come; reading goes on.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.transport.finish().await
    }

    /// Two halves for two tasks of this shard.
    pub fn split(self) -> (ReadHalf, WriteHalf) {
        (ReadHalf { transport: self.transport.clone() }, WriteHalf { transport: self.transport })
    }

    /// A handle that can end the stream from another task.
    pub fn closer(&self) -> Closer {
        Closer { socket: Rc::downgrade(self.transport.socket()) }
    }

    /// Ends both directions now. Pending operations on either half complete.
    pub fn shutdown(&self) {
        self.transport.socket().shutdown(Shutdown::Both);
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.transport.socket().peer_addr()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.transport.socket().local_addr()
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }
}

/// The half that reads; see [`Stream`]. The socket closes when both halves are gone.
pub struct ReadHalf {
    transport: Transport,
}

impl ReadHalf {
    /// See [`Stream::readable`].
    pub async fn readable(&self) -> io::Result<()> {
        self.transport.readable().await
    }

    /// See [`Stream::read`].
    pub async fn read<B: ReadBuf>(&mut self, buf: B) -> (io::Result<usize>, B) {
        self.transport.read(buf).await
    }

    /// As [`ReadHalf::readable`], but borrows nothing: one poll can stay armed while a request is read and answered,
    /// to notice a client that leaves. Poll it from one task at a time; it resolves once. On the epoll driver a read by the same half that finds nothing hides an arrival from it until the
    /// next bytes, so read only after it has resolved.
    pub fn readable_owned(&self) -> impl Future<Output = io::Result<()>> + use<> {
        let transport = self.transport.clone();
        async move { transport.readable().await }
    }

    /// Whether the peer has ended the stream and nothing is left to read: one call to the kernel, no buffer. Under TLS the
    /// end is only known by reading: false.
    pub fn is_at_end(&self) -> bool {
        matches!(&self.transport, Transport::Plain(socket) if socket.is_at_end())
    }

    /// A handle that can end the stream from another task.
    pub fn closer(&self) -> Closer {
        Closer { socket: Rc::downgrade(self.transport.socket()) }
    }

    /// See [`Stream::shutdown`].
    pub fn shutdown(&self) {
        self.transport.socket().shutdown(Shutdown::Both);
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.transport.socket().peer_addr()
    }
}

/// The half that writes; see [`Stream`].
pub struct WriteHalf {
    transport: Transport,
}

impl WriteHalf {
    /// See [`Stream::write_all`].
    pub async fn write_all(&mut self, bytes: Bytes) -> io::Result<()> {
        self.transport.write_all(bytes).await
    }

    /// See [`Stream::write_chain`].
    pub async fn write_chain(&mut self, chunks: Vec<Bytes>) -> io::Result<()> {
        self.transport.write_chain(chunks).await
    }

    /// See [`Stream::finish`].
    pub async fn finish(&mut self) -> io::Result<()> {
        self.transport.finish().await
    }

    /// See [`Stream::shutdown`].
    pub fn shutdown(&self) {
        self.transport.socket().shutdown(Shutdown::Both);
    }
}
