//! The loop that both floors turn: accept, hand every other completion to the floor, end when told to.

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::{Completion, Ring, Stop, shutdown};

const ACCEPT: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// What a floor does with connections and with operations it started itself. Their tags are below [`STOP`].
pub(super) trait Floor {
    /// A connection was accepted. Never called after [`Floor::shutdown_all`].
    fn accepted(&mut self, ring: &mut Ring, fd: OwnedFd) -> io::Result<()>;
    fn completed(&mut self, ring: &mut Ring, done: Completion) -> io::Result<()>;
    /// Shuts all connections down, so that their operations end.
    fn shutdown_all(&mut self);
}

/// Serves on this thread until `stop`, and then until nothing is in flight.
pub(super) fn serve(listener: TcpListener, stop: &Stop, mut floor: impl Floor) -> io::Result<()> {
    listener.set_nonblocking(false)?;
    let listener = Rc::new(OwnedFd::from(listener));
    let mut ring = Ring::new()?;
    let mut completions = VecDeque::new();
    let mut stopping = false;
    ring.accept(&listener, ACCEPT)?;
    ring.watch(stop, STOP)?;
    loop {
        ring.wait(&mut completions)?;
        while let Some(done) = completions.pop_front() {
            match done.user {
                STOP => {
                    stopping = true;
                    shutdown(&listener);
                    floor.shutdown_all();
                }
                // Its connection, if any, is closed by being dropped.
                ACCEPT if stopping => {}
                ACCEPT => {
                    if let Some(fd) = done.accepted {
                        floor.accepted(&mut ring, fd)?;
                    }
                    ring.accept(&listener, ACCEPT)?;
                }
                _ => floor.completed(&mut ring, done)?,
            }
        }
        if stopping && ring.in_flight() == 0 {
            return Ok(());
        }
    }
}
