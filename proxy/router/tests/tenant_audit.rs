//! What the audit log is told of tenants' clients, between real sockets.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use common::tenant;
use kafka_wire::ApiKey;
use model::{AuditEvent, ClusterName, Ledger, Snapshot};
use router::topology::Address;
use router::{Listen, Proxy, ProxyConfig, TenantConfig};

const SOON: Duration = Duration::from_secs(10);

/// Says to every request that it offers everything, which is true of none but one.
fn broker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            thread::spawn(move || {
                while let Some(frame) = read_frame(&mut socket) {
                    let mut answer = BytesMut::from(&frame[4..8]);
                    answer.put_slice(&offered());
                    if write_frame(&mut socket, &answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// An ApiVersions answer of version 4, without a header.
fn offered() -> BytesMut {
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_u8(101);
    for key in 0..100 {
        [key, 0, 99].into_iter().for_each(|number| body.put_i16(number));
        body.put_u8(0);
    }
    body.put_i32(0);
    body.put_u8(0);
    body
}

fn read_frame(socket: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).ok()?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).ok()?;
    Some(frame)
}

fn write_frame(socket: &mut TcpStream, frame: &[u8]) -> std::io::Result<()> {
    socket.write_all(&[&(frame.len() as u32).to_be_bytes(), frame].concat())
}

fn proxy(places: usize) -> (Proxy, Receiver<AuditEvent>) {
    let (audit, events) = sync_channel(places);
    let broker = broker();
    let proxy = Proxy::start(ProxyConfig {
        listen: Listen::Ports { bootstrap: SocketAddr::from(([127, 0, 0, 1], 0)), base: 0, width: 1 },
        bootstrap: vec![Address { host: broker.ip().to_string(), port: broker.port() }],
        tenants: Some(TenantConfig {
            cluster: ClusterName::new(tenant::CLUSTER).expect("a cluster"),
            login: None,
            snapshot: tenant::snapshot(),
            ledger: Arc::new(Ledger::new([7; 16], 0, Instant::now())),
            access_log: None,
            audit: Some(audit),
        }),
        ..ProxyConfig::default()
    });
    (proxy.expect("a proxy"), events)
}

/// Logs in with PLAIN, whether or not it is let in.
fn client(proxy: &Proxy, app: &str, secret: &str) -> TcpStream {
    let mut client = TcpStream::connect(proxy.bootstrap()).expect("the proxy accepts");
    client.set_read_timeout(Some(SOON)).expect("a limit");
    let mut body = BytesMut::new();
    body.put_i16(5);
    body.put_slice(b"PLAIN");
    ask(&mut client, ApiKey::SaslHandshake, 1, &body);
    let proof = format!("\0{app}\0{secret}");
    let mut body = BytesMut::new();
    body.put_i32(proof.len() as i32);
    body.put_slice(proof.as_bytes());
    ask(&mut client, ApiKey::SaslAuthenticate, 1, &body);
    client
}

fn ask(client: &mut TcpStream, api: ApiKey, version: i16, body: &[u8]) {
    client.write_all(&tenant::request(api, version, 1, body)).expect("it is sent");
    read_frame(client).expect("an answer");
}

/// Names of groups, as DeleteGroups has them at first.
fn groups(names: &[&str]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(names.len() as i32);
    for name in names {
        body.put_i16(name.len() as i16);
        body.put_slice(name.as_bytes());
    }
    body.freeze()
}

fn next(events: &Receiver<AuditEvent>) -> AuditEvent {
    events.recv_timeout(SOON).expect("an event")
}

#[test]
fn logins_that_fail_deletions_and_revocations_are_told_with_who_where_and_what() {
    let (proxy, events) = proxy(100);
    let stranger = client(&proxy, "app1", "wrong");
    let event = next(&events);
    assert_eq!((event.what.as_str(), event.app.as_str(), event.count), ("kafka_login_failed", "app1", 1));
    assert_eq!((event.peer, event.side), (stranger.local_addr().ok(), None));
    assert!(event.at_ms > 1_500_000_000_000 && event.about.contains("secret"), "{event:?}");
    client(&proxy, "my password", "app1");
    assert_eq!(next(&events).app, "", "what may be a secret is not kept");
    for failures in 2..=31 {
        client(&proxy, "app1", "wrong");
        let expected = if failures > 30 { "kafka_login_limited" } else { "kafka_login_failed" };
        assert_eq!(next(&events).what.as_str(), expected, "{failures}");
    }

    let mut reader = client(&proxy, "app1", &tenant::secret("app1", "sub"));
    reader.write_all(&tenant::request(ApiKey::DeleteGroups, 0, 2, &groups(&["a", "b"]))).expect("it is sent");
    let event = next(&events);
    assert_eq!((event.what.as_str(), event.app.as_str()), ("kafka_groups_deleted", "app1"));
    assert_eq!((event.about.as_str(), event.peer), ("a, b", reader.local_addr().ok()));

    let other = client(&proxy, "app1", &tenant::secret("app1", "pub"));
    proxy.set_snapshot(&Arc::new(Snapshot::empty()));
    let event = next(&events);
    assert_eq!((event.what.as_str(), event.app.as_str()), ("kafka_session_revoked", "app1"));
    assert!(event.side.is_some() && !event.about.is_empty(), "{event:?}");
    drop(other);
    proxy.stop();
}

#[test]
fn a_shard_waits_for_nobody_who_takes_no_events_and_counts_them() {
    let (proxy, events) = proxy(1);
    for _ in 0..4 {
        client(&proxy, "app1", "wrong");
    }
    let dropped = "kproxy_audit_dropped_total 3";
    let until = Instant::now() + SOON;
    while !proxy.metrics().contains(dropped) {
        assert!(Instant::now() < until, "{}", proxy.metrics());
        thread::sleep(Duration::from_millis(5));
    }
    drop(events);
    client(&proxy, "app1", "wrong");
    proxy.stop();
}
