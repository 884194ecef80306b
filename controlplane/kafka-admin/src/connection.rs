//! One socket to one broker, as a tokio task: connects, then carries bytes both ways until either side ends it.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_client::{ConnId, Connect};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

use crate::limits::READ_BYTES;

/// What happened on a connection. `Closed` and `ConnectFailed` are the last word.
pub(crate) enum Event {
    Connected,
    ConnectFailed(String),
    Bytes(Bytes),
    /// The chain given last has been written whole.
    Written,
    Closed(String),
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Runs the connection. `chains` holds at most one: the driver gives the next one after [`Event::Written`].
pub(crate) async fn run(
    connect: Connect,
    tls: Option<TlsConnector>,
    events: mpsc::Sender<(ConnId, Event)>,
    chains: mpsc::Receiver<Vec<Bytes>>,
) {
    let conn = connect.conn;
    let socket = match tokio::time::timeout(connect.timeout, open(&connect, tls)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(err)) => return tell(&events, conn, Event::ConnectFailed(err.to_string())).await,
        Err(_) => return tell(&events, conn, Event::ConnectFailed(timed_out(connect.timeout))).await,
    };
    tell(&events, conn, Event::Connected).await;
    let (reading, writing) = tokio::io::split(socket);
    let why = tokio::select! {
        why = read(reading, conn, &events) => why,
        why = write(writing, conn, &events, chains) => why,
    };
    tell(&events, conn, Event::Closed(why)).await;
}

async fn open(connect: &Connect, tls: Option<TlsConnector>) -> io::Result<Box<dyn Socket>> {
    let stream = TcpStream::connect((connect.host.as_str(), connect.port)).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls.filter(|_| connect.tls) else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(connect.host.clone()).map_err(io::Error::other)?;
    Ok(Box::new(tls.connect(name, stream).await?))
}

async fn read(mut socket: impl AsyncRead + Unpin, conn: ConnId, events: &mpsc::Sender<(ConnId, Event)>) -> String {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match socket.read_buf(&mut buffer).await {
            Ok(0) => return "the broker closed the connection".to_owned(),
            Ok(_) => tell(events, conn, Event::Bytes(buffer.split().freeze())).await,
            Err(err) => return err.to_string(),
        }
    }
}

async fn write(
    mut socket: impl AsyncWrite + Unpin,
    conn: ConnId,
    events: &mpsc::Sender<(ConnId, Event)>,
    mut chains: mpsc::Receiver<Vec<Bytes>>,
) -> String {
    while let Some(chain) = chains.recv().await {
        let written = async {
            // Admin requests are small: one write of everything beats a vectored one of its parts.
            socket.write_all(&chain.concat()).await?;
            socket.flush().await
        };
        if let Err(err) = written.await {
            return err.to_string();
        }
        tell(events, conn, Event::Written).await;
    }
    "closed by us".to_owned()
}

/// The driver may be gone; then nobody wants to know.
async fn tell(events: &mpsc::Sender<(ConnId, Event)>, conn: ConnId, event: Event) {
    let _ = events.send((conn, event)).await;
}

fn timed_out(timeout: Duration) -> String {
    format!("no connection within {timeout:?}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::tls::{AdminTls, connector};

    /// A TLS server on a free port that sends back what it receives; its port and certificate.
    async fn echo_server() -> (u16, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let (mut reading, mut writing) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut reading, &mut writing).await;
                }
            }
        });
        (port, made.cert.pem())
    }

    fn start(port: u16, ca_pem: &str) -> (mpsc::Sender<Vec<Bytes>>, mpsc::Receiver<(ConnId, Event)>) {
        let tls = connector(AdminTls { ca_pem: Some(ca_pem.into()), ..AdminTls::default() }).unwrap();
        let timeout = Duration::from_secs(10);
        let connect = Connect { conn: ConnId(1), host: "localhost".to_owned(), port, tls: true, timeout };
        let (events, happened) = mpsc::channel(16);
        let (chains, inbox) = mpsc::channel(1);
        tokio::spawn(run(connect, Some(tls), events, inbox));
        (chains, happened)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_through_tls_to_a_broker_we_trust() {
        let (port, ca_pem) = echo_server().await;
        let (chains, mut happened) = start(port, &ca_pem);
        assert!(matches!(happened.recv().await, Some((_, Event::Connected))));
        chains.send(vec![Bytes::from_static(b"hello "), Bytes::from_static(b"broker")]).await.unwrap();
        let (mut echoed, mut written) = (Vec::new(), false);
        while echoed != b"hello broker" || !written {
            match happened.recv().await.expect("the connection lives").1 {
                Event::Bytes(bytes) => echoed.extend_from_slice(&bytes),
                Event::Written => written = true,
                Event::Connected | Event::ConnectFailed(_) | Event::Closed(_) => panic!("another event"),
            }
        }
        drop(chains);
        assert!(matches!(happened.recv().await, Some((_, Event::Closed(_)))));
    }

    #[tokio::test]
    async fn a_broker_we_do_not_trust_gets_no_bytes() {
        let (port, _) = echo_server().await;
        let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (_chains, mut happened) = start(port, &stranger.cert.pem());
        assert!(matches!(happened.recv().await, Some((_, Event::ConnectFailed(_)))));
    }

    /// Went wrong in the gateway: somebody who accepts and never speaks kept a task and a descriptor for each attempt.
    #[tokio::test]
    async fn a_handshake_that_nobody_answers_ends_in_time_or_with_its_task() {
        for (what, timeout, abort) in
            [("timeout", Duration::from_millis(50), false), ("given up", Duration::from_secs(60), true)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let tls =
                connector(AdminTls { ca_pem: Some(echo_server().await.1.into()), ..AdminTls::default() }).unwrap();
            let connect = Connect { conn: ConnId(1), host: "localhost".to_owned(), port, tls: true, timeout };
            let (events, mut happened) = mpsc::channel(16);
            let (_chains, inbox) = mpsc::channel(1);
            let task = tokio::spawn(run(connect, Some(tls), events, inbox));
            let (mut silent, _) = listener.accept().await.unwrap();
            if abort {
                task.abort(); // as the driver does when the client gives the connection up
            } else {
                assert!(matches!(happened.recv().await, Some((_, Event::ConnectFailed(_)))), "{what}");
            }
            let mut hello = Vec::new();
            let end = silent.read_to_end(&mut hello);
            tokio::time::timeout(Duration::from_secs(5), end).await.expect(what).expect(what);
        }
    }

    #[test]
    fn certificates_of_no_use_are_refused_at_the_start() {
        let refused = |tls: AdminTls| connector(tls).err().expect("refused").to_string();
        let empty = AdminTls { ca_pem: Some(b"nothing here".to_vec()), ..AdminTls::default() };
        assert_eq!(refused(empty), "the CA file holds no certificate");
        let half = AdminTls { cert_pem: Some(b"x".to_vec()), ..AdminTls::default() };
        assert_eq!(refused(half), "a client certificate needs its key and the other way round");
    }
}
