//! TLS, as client and as server: rustls as a state machine over a shard's socket.
//!
//! rustls does no I/O here. Ciphertext from the socket goes in, plaintext comes out, and the other way round; the
//! two halves of a stream share the one connection state and never borrow it across an await.
//!
//! Invariants:
//! - At most one task writes ciphertext at a time (`flushing`), so records leave whole and in order.
//! - An idle connection holds no buffer of ours: ciphertext that is not used up stays in `cipher`, else `None`.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, IoSlice, Write};
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection};

use super::socket::Socket;
use super::stream::{ReadBuf, Stream, Transport};
use crate::limits::{TLS_WRITE_BYTES_MAX, WRITEV_CHUNKS_MAX};
use crate::notify::Notify;
use crate::pool::{BufferPool, PooledBuf};

/// What went wrong with the certificates handed in.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    #[error("cannot read {what} as PEM")]
    Pem {
        what: &'static str,
        #[source]
        err: rustls::pki_types::pem::Error,
    },
    #[error("{what} has no certificate")]
    NoCertificate { what: &'static str },
    #[error("the system has no trusted certificates; name a CA file: {detail}")]
    NoSystemRoots { detail: String },
    #[error("certificate or key not accepted")]
    Rejected(#[from] rustls::Error),
    #[error("the CA file for clients' certificates is not accepted")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// Whom to trust and who we are, for any number of connections. Cheap to clone, shared by shards.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Copy)]
pub struct ClientCert<'a> {
    pub chain_pem: &'a [u8],
    pub key_pem: &'a [u8],
}

impl ClientTls {
    /// Trusts the certificates in `ca_pem`, or the system's when there are none given, and shows `client_cert` when
    /// the server asks. The server's name is always verified.
    pub fn new(ca_pem: Option<&[u8]>, client_cert: Option<ClientCert<'_>>) -> Result<ClientTls, TlsConfigError> {
        let roots = match ca_pem {
            Some(pem) => trusted(pem)?,
            None => system_roots()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = match client_cert {
            Some(cert) => {
                let key = PrivateKeyDer::from_pem_slice(cert.key_pem)
                    .map_err(|err| TlsConfigError::Pem { what: "the client key", err })?;
                builder.with_client_auth_cert(certificates(cert.chain_pem, "the client certificate")?, key)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(ClientTls { config: Arc::new(config) })
    }

    /// Shakes hands over `stream` with the server that calls itself `server_name` (a name or an IP address). May be
    /// dropped, which closes the connection.
    pub async fn connect(&self, stream: Stream, server_name: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{server_name:?} is no name a certificate can have"))
        })?;
        let tls = ClientConnection::new(self.config.clone(), name).map_err(tls_error)?;
        let session = Session::over(stream, tls.into())?;
        session.handshake().await?;
        Ok(Stream { transport: Transport::Tls(session) })
    }
}

/// Who we are to those who connect, and whom of them we trust. Cheap to clone, shared by shards.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Shows the certificate in `cert`. With `client_ca_pem`, clients must show one signed by these.
    pub fn new(cert: ClientCert<'_>, client_ca_pem: Option<&[u8]>) -> Result<ServerTls, TlsConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
        let builder = match client_ca_pem {
            Some(pem) => {
                let roots = Arc::new(trusted(pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let key =
            PrivateKeyDer::from_pem_slice(cert.key_pem).map_err(|err| TlsConfigError::Pem { what: "the key", err })?;
        let config = builder.with_single_cert(certificates(cert.chain_pem, "the certificate")?, key)?;
        Ok(ServerTls { config: Arc::new(config) })
    }

    /// Shakes hands with a client; gives the name it asked for, which clients that use an address leave out. May be
    /// dropped, which closes the connection.
    pub async fn accept(&self, stream: Stream) -> io::Result<(Stream, Option<String>)> {
        let tls = ServerConnection::new(self.config.clone()).map_err(tls_error)?;
        let session = Session::over(stream, tls.into())?;
        session.handshake().await?;
        let server_name = match &session.state.borrow().tls {
            Connection::Server(tls) => tls.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        Ok((Stream { transport: Transport::Tls(session) }, server_name))
    }
}

fn trusted(pem: &[u8]) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(pem, "the CA file")? {
        roots.add(cert)?;
    }
    Ok(roots)
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|err| TlsConfigError::Pem { what, err })?;
    if certs.is_empty() {
        return Err(TlsConfigError::NoCertificate { what });
    }
    Ok(certs)
}

fn system_roots() -> Result<RootCertStore, TlsConfigError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _ignored) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let detail = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsConfigError::NoSystemRoots { detail });
    }
    Ok(roots)
}

fn tls_error(err: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {err}"))
}

/// One TLS connection of one shard, shared by its halves.
pub(super) struct Session {
    socket: Rc<Socket>,
    state: RefCell<State>,
    /// A task is writing ciphertext; it goes on until there is none left.
    flushing: Cell<bool>,
    flushed: Notify,
    /// A write was given up half-way: the peer has part of a record.
    broken: Cell<bool>,
}

struct State {
    tls: Connection,
    /// Ciphertext received but not yet given to rustls.
    cipher: Option<PooledBuf>,
    /// The peer closed the TCP connection.
    ended: bool,
}

enum Step {
    Plaintext(usize),
    NeedsCiphertext,
}

impl State {
    /// Moves plaintext to `into`, decrypting what has been received until there is some.
    fn step(&mut self, into: &mut BytesMut) -> io::Result<Step> {
        loop {
            match self.tls.reader().fill_buf() {
                Ok(plain) => {
                    let count = plain.len().min(into.capacity() - into.len());
                    into.put_slice(&plain[..count]);
                    self.tls.reader().consume(count);
                    return Ok(Step::Plaintext(count));
                }
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(err),
            }
            if !self.decrypt()? {
                return Ok(Step::NeedsCiphertext);
            }
        }
    }

    /// Whether a read would return at once.
    fn has_news(&mut self) -> io::Result<bool> {
        loop {
            match self.tls.reader().fill_buf() {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                _ => return Ok(true),
            }
            if !self.decrypt()? {
                return Ok(self.ended);
            }
        }
    }

    /// Gives rustls some of the received ciphertext; false when there is none.
    fn decrypt(&mut self) -> io::Result<bool> {
        let Some(cipher) = &mut self.cipher else { return Ok(false) };
        let mut rest: &[u8] = &cipher[..];
        let before = rest.len();
        self.tls.read_tls(&mut rest)?;
        let used = before - rest.len();
        cipher.advance(used);
        if cipher.is_empty() {
            self.cipher = None;
        }
        self.tls.process_new_packets().map_err(tls_error)?;
        Ok(used > 0)
    }

    fn received(&mut self, buf: PooledBuf) -> io::Result<()> {
        debug_assert!(self.cipher.is_none(), "what was received before is used up");
        if buf.is_empty() {
            self.ended = true;
            let mut nothing: &[u8] = &[];
            self.tls.read_tls(&mut nothing)?;
            self.tls.process_new_packets().map_err(tls_error)?;
        } else {
            self.cipher = Some(buf);
        }
        Ok(())
    }

    fn ciphertext(&mut self) -> io::Result<Option<Bytes>> {
        if !self.tls.wants_write() {
            return Ok(None);
        }
        let mut out = BytesMut::new().writer();
        while self.tls.wants_write() && out.get_ref().len() < TLS_WRITE_BYTES_MAX {
            self.tls.write_tls(&mut out)?;
        }
        Ok(Some(out.into_inner().freeze()))
    }
}

impl Session {
    fn over(stream: Stream, mut tls: Connection) -> io::Result<Rc<Session>> {
        let Transport::Plain(socket) = stream.transport else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "stream is TLS already"));
        };
        tls.set_buffer_limit(Some(TLS_WRITE_BYTES_MAX));
        Ok(Rc::new(Session {
            socket,
            state: RefCell::new(State { tls, cipher: None, ended: false }),
            flushing: Cell::new(false),
            flushed: Notify::new(),
            broken: Cell::new(false),
        }))
    }

    pub fn socket(&self) -> &Rc<Socket> {
        &self.socket
    }

    async fn handshake(self: &Rc<Self>) -> io::Result<()> {
        loop {
            let stepped = self.state.borrow_mut().decrypt();
            if let Err(err) = stepped {
                // rustls has an alert for the server that says why.
                let _ = self.flush().await;
                return Err(err);
            }
            self.flush().await?;
            if !self.state.borrow().tls.is_handshaking() {
                return Ok(());
            }
            if self.state.borrow().cipher.is_none() {
                self.receive().await?;
                if self.state.borrow().ended {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed during the TLS handshake"));
                }
            }
        }
    }

    pub async fn readable(&self) -> io::Result<()> {
        // An error is news too: the read that follows returns it.
        let news = self.state.borrow_mut().has_news().unwrap_or(true);
        if news { Ok(()) } else { self.socket.readable().await }
    }

    pub async fn read<B: ReadBuf>(self: &Rc<Self>, mut buf: B) -> (io::Result<usize>, B) {
        loop {
            let stepped = self.state.borrow_mut().step(buf.bytes_mut());
            self.flush_in_background();
            match stepped {
                Ok(Step::Plaintext(count)) => return (Ok(count), buf),
                Ok(Step::NeedsCiphertext) => {}
                Err(err) => return (Err(err), buf),
            }
            if let Err(err) = self.receive().await {
                return (Err(err), buf);
            }
        }
    }

    async fn receive(&self) -> io::Result<()> {
        let (result, buf) = self.socket.read(BufferPool::current().get_16k()).await;
        result?;
        self.state.borrow_mut().received(buf)
    }

    /// Reading can make rustls want to write (a key update). The reader must not wait for that: the peer may be
    /// waiting for us to read.
    fn flush_in_background(self: &Rc<Self>) {
        if !self.flushing.get() && self.state.borrow().tls.wants_write() {
            let session = self.clone();
            crate::spawn(async move {
                if let Err(err) = session.flush().await {
                    tracing::debug!(%err, "TLS reply not sent");
                }
            });
        }
    }

    pub async fn write_chain(&self, chunks: Vec<Bytes>) -> io::Result<()> {
        let mut chunks: std::collections::VecDeque<Bytes> =
            chunks.into_iter().filter(|chunk| !chunk.is_empty()).collect();
        while !chunks.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                chunks.iter().take(WRITEV_CHUNKS_MAX).map(|chunk| IoSlice::new(chunk)).collect();
            // Takes what fits under the buffer limit, in records as large as possible.
            let mut taken = self.state.borrow_mut().tls.writer().write_vectored(&slices)?;
            drop(slices);
            while let Some(chunk) = chunks.front_mut() {
                if taken < chunk.len() {
                    chunk.advance(taken);
                    break;
                }
                taken -= chunk.len();
                chunks.pop_front();
            }
            self.flush().await?;
        }
        Ok(())
    }

    pub async fn close_notify(&self) -> io::Result<()> {
        self.state.borrow_mut().tls.send_close_notify();
        self.flush().await
    }

    /// Writes ciphertext until there is none. Waits if another task is at it.
    async fn flush(&self) -> io::Result<()> {
        while self.flushing.get() {
            self.flushed.notified().await;
        }
        loop {
            if self.broken.get() {
                return Err(io::Error::new(io::ErrorKind::BrokenPipe, "an earlier TLS write was given up half-way"));
            }
            let Some(ciphertext) = self.state.borrow_mut().ciphertext()? else { return Ok(()) };
            let mut turn = Turn::begin(self);
            let result = self.socket.write_all(ciphertext).await;
            turn.done = result.is_ok();
            drop(turn);
            result?;
        }
    }
}

/// One write of ciphertext; dropped before it is done, the connection is of no more use.
struct Turn<'a> {
    session: &'a Session,
    done: bool,
}

impl<'a> Turn<'a> {
    fn begin(session: &'a Session) -> Turn<'a> {
        session.flushing.set(true);
        Turn { session, done: false }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.session.flushing.set(false);
        self.session.flushed.notify();
        if !self.done {
            self.session.broken.set(true);
        }
    }
}
