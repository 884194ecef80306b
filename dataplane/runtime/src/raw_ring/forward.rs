//! Floor of a proxy: bytes are forwarded both ways and not looked at.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use slab::Slab;

use super::serve::{Floor, serve};
use super::{Completion, Ring, Stop, shutdown};
use crate::limits::BUFFER_LARGE_BYTES;

/// One way of one connection: at most one operation at a time.
struct Direction {
    from: Rc<OwnedFd>,
    to: Rc<OwnedFd>,
    filled: usize,
    sent: usize,
}

/// Forwards between clients of `listener` and connections to `to`, on this thread, until `stop`. Connecting to `to`
/// blocks the loop, so it should be near.
pub fn serve_forward(listener: TcpListener, to: SocketAddr, stop: &Stop) -> io::Result<()> {
    serve(listener, stop, Forward { to, directions: Slab::new() })
}

struct Forward {
    to: SocketAddr,
    directions: Slab<Direction>,
}

impl Floor for Forward {
    fn accepted(&mut self, ring: &mut Ring, near: OwnedFd) -> io::Result<()> {
        let Ok(far) = TcpStream::connect(self.to) else { return Ok(()) };
        far.set_nodelay(true)?;
        let (near, far) = (Rc::new(near), Rc::new(OwnedFd::from(far)));
        for (from, to) in [(&near, &far), (&far, &near)] {
            let direction = Direction { from: from.clone(), to: to.clone(), filled: 0, sent: 0 };
            let key = self.directions.insert(direction) as u64;
            ring.recv(from, vec![0; BUFFER_LARGE_BYTES], 0, key << 1)?;
        }
        Ok(())
    }

    fn completed(&mut self, ring: &mut Ring, done: Completion) -> io::Result<()> {
        let key = (done.user >> 1) as usize;
        let direction = &mut self.directions[key];
        let received = done.user & 1 == 0;
        match done.result {
            Ok(count @ 1..) if received => (direction.filled, direction.sent) = (count, 0),
            Ok(count @ 1..) => direction.sent += count,
            _ => {
                // The end of one way ends both: it is a floor, not a proxy.
                shutdown(&direction.from);
                shutdown(&direction.to);
                self.directions.remove(key);
                return Ok(());
            }
        }
        if direction.sent < direction.filled {
            let (sent, filled) = (direction.sent, direction.filled);
            ring.send(&direction.to, done.buf, sent, filled, (key as u64) << 1 | 1)
        } else {
            ring.recv(&direction.from, done.buf, 0, (key as u64) << 1)
        }
    }

    fn shutdown_all(&mut self) {
        self.directions.iter().for_each(|(_, direction)| shutdown(&direction.from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn bytes_arrive_unchanged_both_ways_and_the_end_is_passed_on() {
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let target = TcpListener::bind(local).expect("bind");
        let to = target.local_addr().expect("address");
        let (addr, listener) = crate::net::bind(local).expect("bind");
        let stop = Stop::new().expect("eventfd");
        let floor = {
            let stop = stop.clone();
            std::thread::spawn(move || serve_forward(listener, to, &stop))
        };
        let echo = std::thread::spawn(move || {
            let (mut socket, _) = target.accept().expect("accept");
            let mut block = vec![0; 300_000];
            for _ in 0..2 {
                socket.read_exact(&mut block).expect("read");
                socket.write_all(&block).expect("write");
            }
        });
        let mut client = TcpStream::connect(addr).expect("connect");
        for seed in [1u8, 2] {
            let sent: Vec<u8> = (0..300_000u32).map(|at| (at as u8).wrapping_mul(seed)).collect();
            client.write_all(&sent).expect("write");
            let mut received = vec![0; sent.len()];
            client.read_exact(&mut received).expect("read");
            assert!(sent == received);
        }
        echo.join().expect("echo");
        assert_eq!(client.read(&mut [0; 8]).unwrap_or(0), 0, "the far end has closed");
        stop.stop();
        floor.join().expect("no panic").expect("no error");
    }
}
