//! TLS against rustls' own blocking server.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runtime::net::{self, tls};
use runtime::{spawn, time};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::common::on_every_driver;

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("certificate");
        Authority { issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn issue(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        (params.signed_by(&key, &self.issuer).expect("certificate"), key)
    }
}

type ServerStream = StreamOwned<ServerConnection, std::net::TcpStream>;

/// Serves one connection on a thread of its own.
fn serve<T: Send + 'static>(
    authority: &Authority,
    client_certs: bool,
    work: impl FnOnce(ServerStream) -> T + Send + 'static,
) -> (u16, std::thread::JoinHandle<T>) {
    let (cert, key) = authority.issue("broker.test");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().expect("versions");
    let builder = if client_certs {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        builder.with_client_cert_verifier(verifier.expect("verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
    let config = Arc::new(builder.with_single_cert(vec![cert.der().clone()], key).expect("certificate"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let thread = std::thread::spawn(move || {
        let (socket, _) = listener.accept().expect("accept");
        socket.set_nodelay(true).expect("option");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("option");
        work(StreamOwned::new(ServerConnection::new(config).expect("server"), socket))
    });
    (port, thread)
}

async fn connect(client: &tls::ClientTls, port: u16, name: &str) -> std::io::Result<net::Stream> {
    let limit = Duration::from_secs(20);
    let stream = net::connect("127.0.0.1", port, limit).await?;
    time::timeout(limit, client.connect(stream, name)).await?
}

#[test]
fn bytes_go_both_ways_in_two_tasks_whatever_their_size() {
    on_every_driver(|driver| async move {
        let authority = Authority::new();
        let (port, server) = serve(&authority, false, |mut stream| {
            // Echo: reads and writes interleave in large and small pieces.
            let mut buf = vec![0; 50_000];
            loop {
                match stream.read(&mut buf) {
                    Ok(0) => break,
                    Ok(count) => stream.write_all(&buf[..count]).expect("write"),
                    Err(err) => panic!("server read: {err}"),
                }
            }
            stream.conn.send_close_notify();
            stream.flush().expect("flush");
        });
        let client = tls::ClientTls::new(Some(authority.pem().as_bytes()), None).expect("configuration");
        let stream = connect(&client, port, "broker.test").await.expect("handshake");
        assert!(stream.is_tls());
        let (mut reading, mut writing) = stream.split();
        let chunks: Vec<Bytes> =
            (0..400usize).map(|n| vec![n as u8; [0, 1, 100, 5_000, 40_000][n % 5]].into()).collect();
        let expected = chunks.concat();
        let writer = spawn(async move {
            writing.write_all(chunks[0].clone()).await.expect("nothing");
            for part in chunks.chunks(150) {
                writing.write_chain(part.to_vec()).await.expect("write");
            }
            writing.finish().await.expect("finish");
        });
        let mut received = Vec::new();
        loop {
            reading.readable().await.expect("readable");
            let (result, buf) = reading.read(BytesMut::with_capacity(3_000)).await;
            if result.expect("read") == 0 {
                break;
            }
            received.extend_from_slice(&buf);
        }
        writer.await;
        assert!(received == expected, "{driver}: {} of {} bytes", received.len(), expected.len());
        server.join().expect("server");
        let pool = runtime::pool::BufferPool::current();
        assert_eq!(pool.counters().outstanding, 0, "{driver}: an idle connection holds no buffer");
    });
}

#[test]
fn readable_resolves_for_plaintext_that_is_already_decrypted() {
    on_every_driver(|_| async {
        let authority = Authority::new();
        let (port, server) = serve(&authority, false, |mut stream| {
            stream.write_all(&[7; 1000]).expect("write");
            let _ = stream.read(&mut [0; 8]);
        });
        let client = tls::ClientTls::new(Some(authority.pem().as_bytes()), None).expect("configuration");
        let mut stream = connect(&client, port, "broker.test").await.expect("handshake");
        let mut total = 0;
        while total < 1000 {
            // One record, read ten bytes at a time: after the first read the socket itself stays silent.
            time::timeout(Duration::from_secs(20), stream.readable()).await.expect("in time").expect("readable");
            let (result, buf) = stream.read(BytesMut::with_capacity(10)).await;
            total += result.expect("read");
            assert!(buf.iter().all(|&byte| byte == 7));
        }
        assert!(time::timeout(Duration::from_millis(5), stream.readable()).await.is_err(), "nothing more");
        // Dropping alone closes at the shard's next turn, which the blocking join below would prevent.
        stream.shutdown();
        server.join().expect("server");
    });
}

#[test]
fn a_stranger_or_a_wrong_name_is_refused_with_the_reason() {
    on_every_driver(|_| async {
        let (ours, theirs) = (Authority::new(), Authority::new());
        let client = tls::ClientTls::new(Some(ours.pem().as_bytes()), None).expect("configuration");
        for (authority, name, reason) in
            [(&theirs, "broker.test", "invalid peer certificate"), (&ours, "other.test", "not valid for name")]
        {
            let (port, server) = serve(authority, false, |mut stream| stream.read(&mut [0; 8]).is_err());
            let err = connect(&client, port, name).await.err().expect("refused");
            assert!(err.to_string().contains(reason), "{err}");
            assert!(server.join().expect("server"), "the server was told by an alert");
        }
    });
}

#[test]
fn a_client_certificate_is_shown_when_asked_for() {
    on_every_driver(|_| async {
        let authority = Authority::new();
        let (cert, key) = authority.issue("gateway.test");
        let (chain_pem, key_pem) = (cert.pem(), key.serialize_pem());
        let ours = tls::ClientCert { chain_pem: chain_pem.as_bytes(), key_pem: key_pem.as_bytes() };
        for (client_cert, accepted) in [(Some(ours), true), (None, false)] {
            let (port, server) = serve(&authority, true, |mut stream| stream.write_all(b"in").is_ok());
            let client = tls::ClientTls::new(Some(authority.pem().as_bytes()), client_cert).expect("configuration");
            let served = async {
                let mut stream = connect(&client, port, "broker.test").await?;
                let (result, buf) = stream.read(BytesMut::with_capacity(8)).await;
                result.map(|_| buf)
            };
            let outcome = served.await;
            assert_eq!(outcome.is_ok_and(|buf| &buf[..] == b"in"), accepted);
            assert_eq!(server.join().expect("server"), accepted);
        }
    });
}

#[test]
fn a_connection_cut_without_goodbye_is_an_error() {
    on_every_driver(|_| async {
        let authority = Authority::new();
        let (port, server) = serve(&authority, false, |mut stream| {
            stream.write_all(b"half").expect("write");
        });
        let client = tls::ClientTls::new(Some(authority.pem().as_bytes()), None).expect("configuration");
        let mut stream = connect(&client, port, "broker.test").await.expect("handshake");
        let (result, buf) = stream.read(BytesMut::with_capacity(64)).await;
        assert_eq!((result.expect("read"), &buf[..]), (4, &b"half"[..]));
        let err = stream.read(BytesMut::with_capacity(64)).await.0.expect_err("cut");
        assert_eq!(err.kind(), std::io::ErrorKind::UnexpectedEof);
        server.join().expect("server");
    });
}

#[test]
fn plain_text_where_tls_was_expected_is_an_error_in_time() {
    on_every_driver(|_| async {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("accept");
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("write");
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("option");
            let _ = socket.read(&mut [0; 512]);
        });
        let authority = Authority::new();
        let client = tls::ClientTls::new(Some(authority.pem().as_bytes()), None).expect("configuration");
        let err = connect(&client, port, "broker.test").await.err().expect("no TLS");
        assert!(err.to_string().starts_with("TLS: "), "{err}");
        server.join().expect("server");
    });
}

/// Went wrong: a frozen load balancer accepted, said nothing, and kept a descriptor of ours for each attempt.
#[test]
fn a_handshake_that_is_given_up_closes_its_connection() {
    on_every_driver(|driver| async move {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let server = std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("accept");
            socket.set_read_timeout(Some(Duration::from_secs(20))).expect("option");
            socket.read_to_end(&mut Vec::new()).map(drop) // says nothing, and waits for our end
        });
        let authority = Authority::new();
        let client = tls::ClientTls::new(Some(authority.pem().as_bytes()), None).expect("configuration");
        let stream = net::connect("127.0.0.1", port, Duration::from_secs(20)).await.expect("connects");
        let handshake = time::timeout(Duration::from_millis(20), client.connect(stream, "broker.test")).await;
        assert!(handshake.is_err(), "{driver}: nobody answered");
        for _ in 0..500 {
            if server.is_finished() {
                break;
            }
            time::sleep(Duration::from_millis(10)).await;
        }
        assert!(server.is_finished(), "{driver}: the connection is still open");
        server.join().expect("server").expect("closed, not timed out");
    });
}

#[test]
fn bad_certificate_files_are_named() {
    for (ca, expected) in [
        ("", "the CA file has no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n", "cannot read the CA file as PEM"),
    ] {
        let err = tls::ClientTls::new(Some(ca.as_bytes()), None).err().expect("refused");
        assert_eq!(err.to_string(), expected);
    }
}
