//! Floor of an HTTP server: any request is answered with 201 as soon as it is complete, and nothing is done with it.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use slab::Slab;

use super::serve::{Floor, serve};
use super::{Completion, Ring, Stop, shutdown};
use crate::limits::BUFFER_SMALL_BYTES;

/// About what a gateway answers to a publish.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 56\r\nX-Partition: 0\r\n\
    X-Offset: 1234567\r\n\r\n{\"ok\":1,\"partition\":0,\"offset\":1234567,\"timestamp\":1234}";

struct Connection {
    fd: Rc<OwnedFd>,
    /// Given to the kernel while it reads.
    input: Vec<u8>,
    filled: usize,
    /// Body bytes of the current request still to come.
    body_left: u64,
    /// Given to the kernel while it writes.
    output: Vec<u8>,
    sent: usize,
}

/// Answers on this thread until `stop`.
pub fn serve_http(listener: TcpListener, stop: &Stop) -> io::Result<()> {
    serve(listener, stop, Answers { connections: Slab::new() })
}

struct Answers {
    connections: Slab<Connection>,
}

impl Floor for Answers {
    fn accepted(&mut self, ring: &mut Ring, fd: OwnedFd) -> io::Result<()> {
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let connection = entry.insert(Connection {
            fd: Rc::new(fd),
            input: vec![0; BUFFER_SMALL_BYTES],
            filled: 0,
            body_left: 0,
            output: Vec::with_capacity(4 * ANSWER.len()),
            sent: 0,
        });
        receive(ring, connection, key)
    }

    fn completed(&mut self, ring: &mut Ring, done: Completion) -> io::Result<()> {
        let key = (done.user >> 1) as usize;
        let connection = &mut self.connections[key];
        let alive = if done.user & 1 == 0 {
            connection.input = done.buf;
            connection.received(done.result)
        } else {
            connection.output = done.buf;
            connection.written(done.result)
        };
        if !alive {
            self.connections.remove(key);
            Ok(())
        } else if connection.output.is_empty() {
            receive(ring, connection, key)
        } else {
            let (output, to) = (std::mem::take(&mut connection.output), connection.sent);
            let end = output.len();
            ring.send(&connection.fd, output, to, end, send_tag(key))
        }
    }

    fn shutdown_all(&mut self) {
        self.connections.iter().for_each(|(_, connection)| shutdown(&connection.fd));
    }
}

fn send_tag(key: usize) -> u64 {
    (key as u64) << 1 | 1
}

fn receive(ring: &mut Ring, connection: &mut Connection, key: usize) -> io::Result<()> {
    let input = std::mem::take(&mut connection.input);
    ring.recv(&connection.fd, input, connection.filled, (key as u64) << 1)
}

impl Connection {
    /// Takes what came in; answers are then in `output`. False when the connection is over.
    fn received(&mut self, result: io::Result<usize>) -> bool {
        let Ok(count @ 1..) = result else { return false };
        self.filled += count;
        let mut used = 0;
        loop {
            let rest = &self.input[used..self.filled];
            if self.body_left > 0 {
                let part = self.body_left.min(rest.len() as u64);
                self.body_left -= part;
                used += part as usize;
                if self.body_left > 0 {
                    break;
                }
                self.output.extend_from_slice(ANSWER);
                continue;
            }
            let Some((head_bytes, body_bytes)) = delimit(rest) else { break };
            used += head_bytes;
            self.body_left = body_bytes;
            if body_bytes == 0 {
                self.output.extend_from_slice(ANSWER);
            }
        }
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        // A head that fills the buffer is none of ours.
        self.filled < self.input.len()
    }

    fn written(&mut self, result: io::Result<usize>) -> bool {
        let Ok(count @ 1..) = result else { return false };
        self.sent += count;
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        }
        true
    }
}

/// Length of the head and of the body after it, once the head is complete. Lines are found with memchr: the floor
/// must not be slower than it has to be.
pub fn delimit(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut start = 0;
    let mut body_bytes = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        if line == b"\r" {
            return Some((end + 1, body_bytes));
        }
        if let Some((name, value)) = line.split_at_checked(15)
            && name.eq_ignore_ascii_case(b"content-length:")
        {
            body_bytes = std::str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok()).unwrap_or(0);
        }
        start = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    #[test]
    fn the_announced_length_is_the_true_one() {
        let body = ANSWER.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(delimit(ANSWER), Some((body, (ANSWER.len() - body) as u64)));
    }

    #[test]
    fn requests_are_delimited_by_their_length() {
        for (bytes, expected) in [
            ("POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 12\r\n\r\nabc", Some((48, 12))),
            ("GET / HTTP/1.1\r\n\r\n", Some((18, 0))),
            ("POST / HTTP/1.1\r\nContent-Length: 12\r\n", None),
            ("", None),
        ] {
            assert_eq!(delimit(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[test]
    fn every_request_is_answered_however_it_is_cut_and_stop_ends_the_loop() {
        let (addr, listener) = crate::net::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
        let stop = Stop::new().expect("eventfd");
        let floor = {
            let stop = stop.clone();
            std::thread::spawn(move || serve_http(listener, &stop))
        };
        let mut request = b"POST /v1/msgs/t/v1 HTTP/1.1\r\nContent-Length: 40000\r\n\r\n".to_vec();
        request.extend_from_slice(&[b'x'; 40_000]);
        request.extend_from_slice(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nyGET / HTTP/1.1\r\n\r\n");
        let mut client = TcpStream::connect(addr).expect("connect");
        for cut in [1, 30, 60, 40_050, request.len()] {
            client.write_all(&request[..cut]).expect("write");
            std::thread::yield_now();
            client.write_all(&request[cut..]).expect("write");
            let mut answers = vec![0; 3 * ANSWER.len()];
            client.read_exact(&mut answers).expect("read");
            assert_eq!(answers, ANSWER.repeat(3));
        }
        stop.stop();
        floor.join().expect("no panic").expect("no error");
        assert_eq!(client.read(&mut [0; 8]).expect("end"), 0);
    }
}
