//! Listeners and plain streams.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use runtime::net::{self, Listener, Stream, bind, bind_reuseport, pump};
use runtime::pool::BufferPool;
use runtime::{Either, ShardOptions, mailbox::mailbox, race, spawn, spawn_shard, time};

use crate::common::{Random, on_every_driver};

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn any_port() -> SocketAddr {
    LOOPBACK.into()
}

/// A connection accepted on this shard and the blocking client at its other end.
async fn pair() -> (Stream, TcpStream) {
    let (addr, listener) = bind(any_port()).expect("bind");
    let listener = Listener::from_std(listener).expect("listener");
    let client = TcpStream::connect(addr).expect("connect");
    let (stream, peer) = listener.accept().await.expect("accept");
    assert_eq!(peer, client.local_addr().expect("address"));
    (stream, client)
}

fn room() -> BytesMut {
    BytesMut::with_capacity(64)
}

#[test]
fn shards_share_a_port_that_nobody_else_can_take() {
    let (addr, listeners) = bind_reuseport(any_port(), 3).expect("bind");
    assert_ne!(addr.port(), 0);
    for listener in &listeners {
        assert_eq!(listener.local_addr().expect("address"), addr, "port 0 is resolved once");
    }
    for shards in [1, 3] {
        let err = bind_reuseport(addr, shards).expect_err("a second gateway on the same port");
        assert_eq!(err.kind(), ErrorKind::AddrInUse);
        assert_eq!(err.to_string(), format!("cannot listen on {addr}: Address already in use (os error 98)"));
    }
    // Also when only some of ours are left.
    drop(listeners.into_iter().take(2).collect::<Vec<_>>());
    bind_reuseport(addr, 2).expect("free again");
}

#[test]
fn a_port_that_becomes_free_within_a_moment_is_waited_for() {
    let (addr, before) = bind_reuseport(any_port(), 1).expect("bind");
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(before);
    });
    let (same, _listeners) = bind_reuseport(addr, 2).expect("waited for");
    assert_eq!(same, addr);
    ends.join().expect("ends");
}

#[test]
fn somebody_who_already_shares_the_port_is_noticed_too() {
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
    other.set_reuse_port(true).expect("option");
    other.bind(&any_port().into()).expect("bind");
    other.listen(1).expect("listen");
    let addr = other.local_addr().expect("address").as_socket().expect("internet address");
    assert_eq!(bind_reuseport(addr, 2).expect_err("shared by a stranger").kind(), ErrorKind::AddrInUse);
}

#[test]
fn every_shard_of_a_port_gets_connections() {
    let (addr, listeners) = bind_reuseport(any_port(), 2).expect("bind");
    let clients: Vec<_> = (0..64).map(|_| TcpStream::connect(addr).expect("connect")).collect();
    let accepted: Vec<usize> = listeners
        .iter()
        .map(|listener| {
            listener.set_nonblocking(true).expect("option");
            std::iter::from_fn(|| listener.accept().ok()).count()
        })
        .collect();
    assert_eq!(accepted.iter().sum::<usize>(), clients.len(), "{accepted:?}");
    assert!(accepted.iter().all(|&count| count > 0), "{accepted:?}");
}

#[test]
fn accepted_connections_send_at_once_and_are_not_inherited_by_children() {
    on_every_driver(|_| async {
        let (addr, listener) = bind(any_port()).expect("bind");
        let listener = Listener::from_std(listener).expect("listener");
        let _client = TcpStream::connect(addr).expect("connect");
        let (stream, _) = listener.accept_std().await.expect("accept");
        assert!(stream.nodelay().expect("option"));
        let flags = rustix::io::fcntl_getfd(&stream).expect("flags");
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    });
}

#[test]
fn a_dropped_accept_loses_no_connection() {
    on_every_driver(|driver| async move {
        let (addr, listener) = bind(any_port()).expect("bind");
        let listener = Listener::from_std(listener).expect("listener");
        for _ in 0..10 {
            let waiting = time::timeout(Duration::from_millis(1), listener.accept()).await;
            assert!(waiting.is_err(), "nobody there yet");
            let mut client = TcpStream::connect(addr).expect("connect");
            let polled = race(std::future::ready(()), listener.accept()).await;
            assert!(matches!(polled, Either::First(())));
            let (mut stream, _) = time::timeout(Duration::from_secs(10), listener.accept())
                .await
                .unwrap_or_else(|_| panic!("{driver}: connection lost"))
                .expect("accept");
            stream.write_all(Bytes::from_static(b"hi")).await.expect("write");
            let mut answer = [0; 2];
            client.read_exact(&mut answer).expect("read");
        }
    });
}

#[test]
fn dropping_readable_loses_no_bytes() {
    let seed = runtime::clock::seed();
    println!("seed {seed:#x}");
    on_every_driver(move |driver| async move {
        let (mut stream, mut client) = pair().await;
        let sender = std::thread::spawn(move || {
            let mut random = Random(seed);
            let mut next = 0u8;
            for _ in 0..300 {
                let chunk: Vec<u8> = (0..1 + random.below(50))
                    .map(|_| {
                        next = next.wrapping_add(1);
                        next
                    })
                    .collect();
                client.write_all(&chunk).expect("write");
                if random.below(3) == 0 {
                    std::thread::sleep(Duration::from_micros(random.below(200)));
                }
            }
        });
        let mut random = Random(seed ^ 1);
        let mut next = 0u8;
        let mut ended = false;
        while !ended {
            // Armed and dropped, before or after bytes have come.
            for _ in 0..random.below(4) {
                let _ = race(time::yield_now(), stream.readable()).await;
            }
            if random.below(2) == 0 {
                let _ = time::timeout(Duration::from_millis(random.below(2)), stream.readable()).await;
            }
            stream.readable().await.expect("readable");
            let (result, buf) = stream.read(BytesMut::with_capacity(40)).await;
            ended = result.expect("read") == 0;
            for &byte in &buf {
                next = next.wrapping_add(1);
                assert_eq!(byte, next, "{driver}, seed {seed:#x}");
            }
        }
        sender.join().expect("sender");
    });
}

#[test]
fn an_owned_poll_stays_armed_across_writes_and_tells_when_the_client_leaves() {
    on_every_driver(|_| async {
        let (stream, mut client) = pair().await;
        let (mut reading, mut writing) = stream.split();
        client.write_all(b"question").expect("write");
        reading.readable_owned().await.expect("readable");
        let (result, buf) = reading.read(room()).await;
        assert_eq!((result.expect("read"), &buf[..]), (8, &b"question"[..]));
        let mut gone = std::pin::pin!(reading.readable_owned());
        for _ in 0..20 {
            writing.write_all(Bytes::from_static(b"answer")).await.expect("write");
            let waited = race(&mut gone, time::yield_now()).await;
            assert!(matches!(waited, Either::Second(())));
        }
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        gone.await.expect("readable");
        assert_eq!(reading.read(room()).await.0.expect("end"), 0);
    });
}

#[test]
fn the_end_of_a_stream_is_seen_without_reading_once_nothing_is_left_to_read() {
    on_every_driver(|_| async {
        let (stream, mut client) = pair().await;
        let (mut reading, _writing) = stream.split();
        assert!(!reading.is_at_end(), "nothing came, more may");
        client.write_all(b"last").expect("write");
        client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        reading.readable_owned().await.expect("readable");
        assert!(!reading.is_at_end(), "there are bytes before the end");
        let (result, buf) = reading.read(room()).await;
        assert_eq!((result.expect("read"), &buf[..]), (4, &b"last"[..]));
        reading.readable_owned().await.expect("readable");
        assert!(reading.is_at_end());
    });
}

#[test]
fn reads_append_to_what_a_buffer_holds() {
    on_every_driver(|_| async {
        let (mut stream, mut client) = pair().await;
        client.write_all(b"world").expect("write");
        let mut buf = BytesMut::with_capacity(9);
        buf.extend_from_slice(b"hello ");
        let (result, buf) = stream.read(buf).await;
        assert_eq!(result.expect("read"), buf.len() - 6);
        assert!(b"hello world".starts_with(&buf));
        assert!(buf.len() <= buf.capacity());
    });
}

#[test]
fn a_long_chain_arrives_whole_through_partial_writes() {
    on_every_driver(|driver| async move {
        let (mut stream, mut client) = pair().await;
        // 1,000 chunks of 0 to 8 KiB: many more than one writev takes, and more than the socket buffers hold while the
        // reader is not there yet.
        socket2::SockRef::from(&client).set_recv_buffer_size(64 * 1024).expect("option");
        let mut random = Random(42);
        let chunks: Vec<Bytes> = (0..1000)
            .map(|index| {
                let size = if index % 7 == 0 { 0 } else { random.below(8192) as usize };
                (0..size).map(|at| (at + index) as u8).collect::<Vec<u8>>().into()
            })
            .collect();
        let expected = chunks.concat();
        let reader = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            let mut all = Vec::new();
            client.read_to_end(&mut all).expect("read");
            all
        });
        stream.write_chain(chunks).await.expect("write");
        stream.write_chain(vec![]).await.expect("an empty chain is nothing");
        stream.finish().await.expect("finish");
        let received = reader.join().expect("reader");
        assert!(received == expected, "{driver}: {} of {} bytes, or other ones", received.len(), expected.len());
    });
}

#[test]
fn the_halves_work_in_two_tasks_and_shutdown_ends_both() {
    on_every_driver(|driver| async move {
        let (stream, mut client) = pair().await;
        let closer = stream.closer();
        let (mut reading, mut writing) = stream.split();
        let reader = spawn(async move {
            let mut total = 0;
            loop {
                let (result, _) = reading.read(room()).await;
                match result {
                    Ok(0) | Err(_) => return total,
                    Ok(count) => total += count,
                }
            }
        });
        // The client never reads: this writer gets stuck.
        let writer = spawn(async move {
            let block = Bytes::from(vec![1u8; 1 << 20]);
            loop {
                if writing.write_all(block.clone()).await.is_err() {
                    return;
                }
            }
        });
        client.write_all(b"12345").expect("write");
        time::sleep(Duration::from_millis(20)).await;
        assert!(!reader.is_finished() && !writer.is_finished(), "{driver}");
        closer.shutdown();
        let both = async { (reader.await, writer.await) };
        let (read, written) = time::timeout(Duration::from_secs(10), both)
            .await
            .unwrap_or_else(|_| panic!("{driver}: still pending after shutdown"));
        assert_eq!(read, Some(5));
        assert_eq!(written, Some(()));
        closer.shutdown();
    });
}

#[test]
fn a_pump_moves_large_frames_both_ways_and_passes_the_end_on() {
    on_every_driver(|driver| async move {
        let (left, mut left_client) = pair().await;
        let (right, mut right_client) = pair().await;
        let ((mut left_in, mut left_out), (mut right_in, mut right_out)) = (left.split(), right.split());
        let forward = spawn(async move { pump(&mut left_in, &mut right_out).await });
        let back = spawn(async move { pump(&mut right_in, &mut left_out).await });
        let echo = std::thread::spawn(move || {
            let mut all = Vec::new();
            right_client.read_to_end(&mut all).expect("read");
            right_client.write_all(&all).expect("write");
            all.len()
        });
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n >> 3) as u8).collect();
        let expected = sent.clone();
        let mut reader = left_client.try_clone().expect("clone");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).expect("read");
            all
        });
        let writer = std::thread::spawn(move || {
            left_client.write_all(&sent).expect("write");
            left_client.shutdown(std::net::Shutdown::Write).expect("shutdown");
        });
        assert_eq!(forward.await.expect("ran").expect("pumped"), 3_000_000, "{driver}");
        assert_eq!(back.await.expect("ran").expect("pumped"), 3_000_000, "{driver}");
        writer.join().expect("writer");
        assert_eq!(echo.join().expect("echo"), expected.len());
        assert!(reader.join().expect("reader") == expected, "{driver}: other bytes came back");
        let counters = BufferPool::current().counters();
        assert_eq!(counters.outstanding, 0);
        assert!(counters.reused_total > counters.allocated_total, "{driver}: {counters:?}");
    });
}

#[test]
fn a_freshly_accepted_connection_moves_to_another_shard() {
    on_every_driver(|driver| async move {
        let (sender, mut receiver) = mailbox::<std::net::TcpStream>(4);
        let options = ShardOptions { force: Some(driver), ..ShardOptions::default() };
        let other = spawn_shard(options, move |_| async move {
            let mut served = 0;
            while let Some(socket) = receiver.recv().await {
                let mut stream = Stream::from_std(socket).expect("adopt");
                stream.readable().await.expect("readable");
                let (result, buf) = stream.read(BytesMut::with_capacity(64)).await;
                result.expect("read");
                stream.write_all(buf.freeze()).await.expect("write");
                served += 1;
            }
            served
        })
        .expect("starts");
        let (addr, listener) = bind(any_port()).expect("bind");
        let listener = Listener::from_std(listener).expect("listener");
        for by_stream in [false, true] {
            let mut client = TcpStream::connect(addr).expect("connect");
            let socket = if by_stream {
                let (stream, _) = listener.accept().await.expect("accept");
                stream.into_std().ok().expect("no operation yet")
            } else {
                listener.accept_std().await.expect("accept").0
            };
            sender.try_send(socket).expect("room");
            client.write_all(b"over there").expect("write");
            let mut answer = [0; 10];
            client.read_exact(&mut answer).expect("read");
            assert_eq!(&answer, b"over there");
        }
        drop(sender);
        assert_eq!(other.join().expect("no panic"), 2);

        let (stream, _client) = pair().await;
        let _ = race(time::yield_now(), stream.readable()).await;
        assert!(stream.into_std().is_err(), "a used connection stays");
    });
}

#[test]
fn connecting_by_name_and_by_address_works_and_refusals_say_whom() {
    on_every_driver(|driver| async move {
        let (addr, listener) = bind(any_port()).expect("bind");
        for host in ["127.0.0.1", "localhost"] {
            let mut stream = net::connect(host, addr.port(), Duration::from_secs(10)).await.expect("connect");
            let (mut client, _) = accept_blocking(&listener);
            client.write_all(b"welcome").expect("write");
            let (result, buf) = stream.read(room()).await;
            assert_eq!((result.expect("read"), &buf[..]), (7, &b"welcome"[..]), "{driver}");
            stream.write_all(Bytes::from_static(b"thanks")).await.expect("write");
            let mut answer = [0; 6];
            client.read_exact(&mut answer).expect("read");
        }
        drop(listener);
        let refused = net::connect("127.0.0.1", addr.port(), Duration::from_secs(10)).await.err().expect("refused");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{driver}: {refused}");
        assert!(refused.to_string().starts_with(&format!("cannot connect to 127.0.0.1:{}: ", addr.port())));
        let unknown = net::connect("no-such-name.invalid", 1, Duration::from_secs(10)).await.err().expect("unknown");
        assert!(unknown.to_string().starts_with("cannot connect to no-such-name.invalid:1: "), "{unknown}");
    });
}

fn accept_blocking(listener: &std::net::TcpListener) -> (TcpStream, SocketAddr) {
    listener.set_nonblocking(false).expect("option");
    listener.accept().expect("accept")
}

#[test]
fn a_connect_that_times_out_or_is_dropped_leaks_no_descriptor() {
    on_every_driver(|driver| async move {
        // A listener whose backlog is full swallows connection attempts.
        let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("socket");
        full.bind(&any_port().into()).expect("bind");
        full.listen(0).expect("listen");
        let addr = full.local_addr().expect("address").as_socket().expect("internet address");
        let mut fill = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            fill.push(stream);
            assert!(fill.len() < 64, "the backlog never fills");
        }
        let attempt = |limit| net::connect("127.0.0.1", addr.port(), limit);
        let started = Instant::now();
        let err = attempt(Duration::from_millis(20)).await.err().expect("nobody answers");
        assert_eq!(err.kind(), ErrorKind::TimedOut, "{err}");
        assert!(started.elapsed() < Duration::from_secs(5), "{driver}");
        assert!(time::timeout(Duration::from_millis(5), attempt(Duration::from_secs(100))).await.is_err());
        // The cancelled poll completes a turn later, and the close after that.
        for _ in 0..10 {
            time::yield_now().await;
        }
        let open = sockets_connecting_to(addr);
        assert_eq!(open, 0, "{driver}: descriptors of given-up connects are still open");
    });
}

/// Sockets of this process in SYN_SENT towards `addr`, counted by the kernel's table so that other tests running in
/// this process do not matter.
fn sockets_connecting_to(addr: SocketAddr) -> usize {
    let SocketAddr::V4(addr) = addr else { return 0 };
    let remote = format!("{:08X}:{:04X}", u32::from_ne_bytes(addr.ip().octets()), addr.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    table.lines().filter(|line| line.split_whitespace().nth(2) == Some(&remote) && line.contains(" 02 ")).count()
}

#[test]
fn futures_of_an_idle_connection_are_small_and_hold_no_buffer() {
    on_every_driver(|_| async {
        let (mut stream, _client) = pair().await;
        fn size<T>(future: T) -> usize {
            size_of_val(&future)
        }
        let sizes = [
            ("readable", size(stream.readable()), 256),
            // monoio's timer entry is padded to cache lines: 640 of these bytes.
            ("timeout(readable)", size(time::timeout(Duration::from_secs(1), stream.readable())), 1024),
            ("read", size(stream.read(room())), 512),
            ("write_all", size(stream.write_all(Bytes::new())), 512),
            ("write_chain", size(stream.write_chain(vec![])), 1024),
        ];
        for (name, size, bound) in sizes {
            println!("{name}: {size} bytes");
            assert!(size <= bound, "{name}: {size} bytes, more than {bound}");
        }
        let idle = spawn(async move { time::timeout(Duration::from_secs(60), stream.readable()).await.is_ok() });
        time::yield_now().await;
        assert_eq!(BufferPool::current().counters().outstanding, 0);
        idle.abort();
    });
}

#[test]
fn a_reset_connection_is_an_error_not_a_panic() {
    on_every_driver(|_| async {
        let (mut stream, client) = pair().await;
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("option");
        drop(client);
        stream.readable().await.expect("readable");
        assert_eq!(stream.read(room()).await.0.expect_err("reset").kind(), ErrorKind::ConnectionReset);
        let chunks = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        assert!(stream.write_chain(chunks).await.is_err());
        stream.shutdown();
    });
}

#[test]
fn a_flood_of_connections_leaves_turns_to_other_tasks() {
    on_every_driver(|driver| async move {
        let (addr, listener) = bind(any_port()).expect("bind");
        let listener = Listener::from_std(listener).expect("listener");
        let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(addr).expect("connect")).collect();
        let turns = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = turns.clone();
        spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                time::yield_now().await;
            }
        });
        let mut accepted = Vec::new();
        for _ in &clients {
            // All are in the backlog, so no accept here has to wait.
            accepted.push(listener.accept().await.expect("accept"));
        }
        assert!(turns.get() >= 2, "{driver}: {} turns during 100 accepts", turns.get());
    });
}
