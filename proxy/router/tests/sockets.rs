//! A proxy between real sockets, in front of a broker that answers whatever it is asked with as many bytes as it was told.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use router::topology::Address;
use router::{Listen, Proxy, ProxyConfig};

/// Passed on unread, both ways.
const HEARTBEAT: i16 = 12;
const SOON: Duration = Duration::from_secs(10);

/// Answers each request with a body of the size; gives how many bytes it could write so far.
fn broker(answer_bytes: usize) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let (address, written) = (listener.local_addr().expect("bound"), Arc::new(AtomicU64::new(0)));
    let counter = Arc::clone(&written);
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let counter = Arc::clone(&counter);
            thread::spawn(move || {
                let mut frame = Vec::new();
                while let Some(correlation_id) = read_frame(&mut socket, &mut frame) {
                    let mut answer = (answer_bytes as u32 + 4).to_be_bytes().to_vec();
                    answer.extend_from_slice(&correlation_id);
                    answer.resize(answer_bytes + 8, 7);
                    for piece in answer.chunks(64 << 10) {
                        if socket.write_all(piece).is_err() {
                            return;
                        }
                        counter.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (address, written)
}

fn read_frame(socket: &mut TcpStream, frame: &mut Vec<u8>) -> Option<[u8; 4]> {
    let mut length = [0; 4];
    socket.read_exact(&mut length).ok()?;
    frame.resize(u32::from_be_bytes(length) as usize, 0);
    socket.read_exact(frame).ok()?;
    frame.get(4..8)?.try_into().ok()
}

fn proxy(broker: SocketAddr) -> Proxy {
    proxy_of(1, broker)
}

fn proxy_of(shard_count: usize, broker: SocketAddr) -> Proxy {
    let listen = Listen::Ports { bootstrap: SocketAddr::from(([127, 0, 0, 1], 0)), base: 0, width: 1 };
    let bootstrap = vec![Address { host: broker.ip().to_string(), port: broker.port() }];
    Proxy::start(ProxyConfig { shard_count, listen, bootstrap, ..ProxyConfig::default() }).expect("a proxy")
}

fn request(correlation_id: u32) -> Vec<u8> {
    let mut frame = 12_u32.to_be_bytes().to_vec();
    frame.extend_from_slice(&HEARTBEAT.to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(&[0xff, 0xff, 0, 0]);
    frame
}

fn connect(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.bootstrap()).expect("the proxy accepts");
    client.set_read_timeout(Some(SOON)).expect("a limit");
    client
}

fn ask(client: &mut TcpStream, answer_bytes: usize) -> std::io::Result<()> {
    client.write_all(&request(5))?;
    client.read_exact(&mut vec![0; answer_bytes + 8])
}

#[test]
fn a_drain_that_is_announced_still_serves_who_comes_and_one_that_began_ends_between_requests() {
    let (broker, _) = broker(10);
    let proxy = proxy(broker);
    let mut before = connect(&proxy);
    ask(&mut before, 10).expect("an answer");
    proxy.announce_drain();
    assert_eq!(proxy.unready(), ["draining"]);
    let mut after = connect(&proxy);
    for _ in 0..3 {
        ask(&mut after, 10).expect("traffic is still served");
        ask(&mut before, 10).expect("traffic is still served");
        thread::sleep(Duration::from_millis(20));
    }
    proxy.drain();
    for mut client in [before, after] {
        let ended = client.read(&mut [0]);
        assert!(matches!(ended, Ok(0)) || ended.is_err_and(|err| err.kind() == ErrorKind::ConnectionReset));
    }
    let until = Instant::now() + SOON;
    while !proxy.is_finished() && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    assert!(proxy.is_finished());
    proxy.join().expect("no shard panicked");
}

#[test]
fn when_a_shard_panics_the_proxy_says_which_serves_with_the_others_and_drains() {
    let (broker, _) = broker(10);
    for shard in 0..2 {
        let proxy = proxy_of(2, broker);
        let mut before: Vec<TcpStream> = (0..16).map(|_| connect(&proxy)).collect();
        before.iter_mut().for_each(|client| ask(client, 10).expect("an answer"));
        proxy.make_panic(shard);
        let until = Instant::now() + SOON;
        while proxy.fallen().is_empty() {
            assert!(Instant::now() < until, "it falls");
            thread::sleep(Duration::from_millis(1));
        }
        let why = format!("shard {shard} has failed");
        assert!(proxy.unready().contains(&why), "{:?}", proxy.unready());
        let served = loop {
            let served = before.iter_mut().filter_map(|client| ask(client, 10).ok()).count();
            if served < before.len() || Instant::now() > until {
                break served;
            }
        };
        assert!((1..16).contains(&served), "{served} of 16 are still served");
        for _ in 0..50 {
            ask(&mut connect(&proxy), 10).expect("the other shard serves who comes");
        }
        proxy.announce_drain();
        assert_eq!(proxy.unready(), [why.as_str(), "draining"]);
        proxy.drain();
        while !proxy.is_finished() {
            assert!(Instant::now() < until, "the other shard drains");
            thread::sleep(Duration::from_millis(5));
        }
        let fallen = proxy.join().expect_err("a shard panicked");
        assert_eq!(fallen.to_string(), format!("shard {shard} panicked: this shard was told to panic"));
    }
}

#[test]
fn a_client_that_does_not_read_stops_its_broker_and_nobody_else() {
    const ANSWER_BYTES: usize = 256 << 20;
    let (broker, written) = broker(ANSWER_BYTES);
    let proxy = proxy(broker);
    let mut slow = connect(&proxy);
    slow.write_all(&request(5)).expect("asked");
    // Until nothing moves any more.
    let mut last = u64::MAX;
    while last != written.load(Ordering::Relaxed) || last == 0 {
        last = written.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(300));
    }
    // The kernel's buffers on both sides, and one of ours.
    assert!(last < ANSWER_BYTES as u64 / 4, "{last} bytes went into the proxy");
    let mut other = connect(&proxy);
    other.write_all(&request(6)).expect("asked");
    other.read_exact(&mut [0; 1 << 20]).expect("others are served");
}
