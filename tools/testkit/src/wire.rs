//! A TCP wire between a client and a server that a test cuts and mends.
//!
//! Cut, it refuses: its port is closed, and what went through it is reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::{ports, wait};

/// How often the accepting thread looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// A port that was closed can be had again.
const BOUND_WITHIN: Duration = Duration::from_secs(5);

/// See the module. Cut on drop.
#[derive(Debug)]
pub struct Wire {
    port: u16,
    to: SocketAddr,
    mended: Option<Mended>,
}

#[derive(Debug)]
struct Mended {
    thread: std::thread::JoinHandle<()>,
    state: Arc<Mutex<State>>,
}

/// What flows.
#[derive(Debug, Default)]
struct State {
    is_over: bool,
    ends: Vec<TcpStream>,
}

impl Wire {
    /// Cut, on a port of its own. [`Wire::leads_to`] and [`Wire::mend`] make it one.
    pub fn new() -> Result<Self> {
        let port = *ports::free(1)?.first().context("as many ports as asked for")?;
        Ok(Self { port, to: SocketAddr::from(([127, 0, 0, 1], 0)), mended: None })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn leads_to(&mut self, address: &str) -> Result<()> {
        self.to = address.parse().with_context(|| address.to_owned())?;
        Ok(())
    }

    /// Takes connections from now on.
    pub fn mend(&mut self) -> Result<()> {
        if self.mended.is_some() {
            return Ok(());
        }
        let port = self.port;
        let bind = || Ok(TcpListener::bind(("127.0.0.1", port))?);
        let listener = wait::until("the port of the wire", BOUND_WITHIN, bind)?;
        listener.set_nonblocking(true)?;
        let state = Arc::new(Mutex::new(State::default()));
        let (flows, to) = (Arc::clone(&state), self.to);
        let thread = std::thread::spawn(move || accept(&listener, to, &flows));
        self.mended = Some(Mended { thread, state });
        Ok(())
    }

    /// Refuses from now on, and resets what is connected.
    pub fn cut(&mut self) {
        let Some(Mended { thread, state }) = self.mended.take() else { return };
        {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_over = true;
            for end in state.ends.drain(..) {
                let _ = end.shutdown(Shutdown::Both);
            }
        }
        let _ = thread.join();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.cut();
    }
}

fn accept(listener: &TcpListener, to: SocketAddr, state: &Mutex<State>) {
    loop {
        let accepted = match listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(err) if err.kind() == ErrorKind::WouldBlock => None,
            Err(_) => return,
        };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return;
        }
        match accepted {
            Some(client) => drop(connect(client, to, &mut state)),
            None => {
                drop(state);
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

fn connect(client: TcpStream, to: SocketAddr, state: &mut State) -> std::io::Result<()> {
    client.set_nonblocking(false)?;
    let server = TcpStream::connect(to)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
        state.ends.push(stream.try_clone()?);
    }
    let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
    std::thread::spawn(move || pour(from_client, server));
    std::thread::spawn(move || pour(from_server, client));
    Ok(())
}

fn pour(mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_carries_both_ways_until_it_is_cut_and_again_when_it_is_mended() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut stream = stream;
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&[byte[0] + 1]).is_ok() {}
                });
            }
        });
        let mut wire = Wire::new().unwrap();
        wire.leads_to(&address).unwrap();
        let ask = |stream: &mut TcpStream| -> std::io::Result<u8> {
            stream.write_all(b"a")?;
            let mut byte = [0];
            stream.read_exact(&mut byte).map(|()| byte[0])
        };
        for _ in 0..3 {
            assert!(TcpStream::connect(("127.0.0.1", wire.port())).is_err(), "cut, it takes connections");
            wire.mend().unwrap();
            let mut stream = TcpStream::connect(("127.0.0.1", wire.port())).unwrap();
            assert_eq!(ask(&mut stream).unwrap(), b'b');
            wire.cut();
            assert!(ask(&mut stream).is_err(), "cut, it carries");
        }
    }
}
