//! The broker: what it knows put together with who waits. A request comes in, its outcome becomes an answer in its slot or a
//! place in `waiting/`; the disk, the coordinator and time bring the answers that wait.
//!
//! Single-threaded and without a socket: connections hand frames in and take answers out of slots.
//!
//! Invariant: a slot is answered exactly once, or its connection is gone.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use disk::Disk;
use kafka_wire::api_key::ApiKey;
use kafka_wire::header::{RequestHeader, decode_request_header};
use runtime::notify::Notify;
use tracing::{debug, warn};

use crate::apis::outcome::{Durable, Outcome, Response};
use crate::apis::{advertised, fetch, join_group, sync_group};
use crate::clock::Now;
use crate::dispatch::{self, Request};
use crate::groups::Reply;
use crate::hooks::{Fault, Hooks};
use crate::limits::HOUSEKEEPING_EVERY;
use crate::state::partition::FetchKey;
use crate::state::{BrokerConfig, State};
use crate::waiting::delays::Delays;
use crate::waiting::disk::{AfterSync, Unsynced};
use crate::waiting::fetches::{Fetches, WaitingFetch};
use crate::waiting::slot::{Afterwards, Answer, Slot};
use crate::waiting::tickets::Tickets;

/// Who sends a request.
pub struct Peer {
    pub ip: IpAddr,
    /// Rung when an answer of this connection is ready.
    pub ready: Notify,
}

/// The whole broker.
pub struct Broker {
    pub state: State,
    hooks: Hooks,
    after_sync: AfterSync,
    fetches: Fetches,
    tickets: Tickets,
    delays: Delays,
    next_housekeeping: Instant,
    /// Wakes the timer task when a deadline earlier than its own appeared.
    timer: Notify,
    armed: Option<Instant>,
}

impl Broker {
    /// Opens everything the disk has. Whoever the disk rings calls `on_synced`; `timer` is rung when the caller's timer must
    /// be set earlier.
    pub fn open(
        config: BrokerConfig,
        hooks: Hooks,
        disk: Option<Arc<dyn Disk>>,
        timer: Notify,
        now: Now,
    ) -> io::Result<Broker> {
        Ok(Broker {
            state: State::open(config, disk, now)?,
            fetches: Fetches::new(hooks.clone()),
            hooks,
            after_sync: AfterSync::default(),
            tickets: Tickets::default(),
            delays: Delays::default(),
            next_housekeeping: now.at + HOUSEKEEPING_EVERY,
            timer,
            armed: None,
        })
    }

    /// Handles one request frame. The returned slot is, or will be, answered; None: close the connection.
    pub fn handle(&mut self, mut frame: Bytes, peer: &Peer, now: Now) -> Option<Rc<Slot>> {
        let header = read_header(&mut frame, peer)?;
        let api = offered(&header, peer)?;
        let slot = Slot::new(api, header.api_version, header.correlation_id, peer.ready.clone());
        let request = Request { api, header: &header, client_ip: &peer.ip, body: frame };
        let fault = self.hooks.take(header.api_key);
        if let Some(fault) = &fault {
            self.prepare(fault, &slot, now);
        }
        let outcome = match fault {
            None | Some(Fault::Delay(_) | Fault::ApplyThenDisconnect | Fault::Freeze(_)) => {
                dispatch::apply(&mut self.state, request, now)
            }
            Some(Fault::Error(code)) => dispatch::refuse(request, code),
            Some(Fault::Disconnect) => None,
            Some(Fault::Silence | Fault::Garbage(_)) => return Some(slot),
        };
        self.settle(&slot, outcome?, now);
        self.answer_disturbed();
        self.answer_groups();
        self.arm();
        Some(slot)
    }

    /// The disk made progress: answer who waited for it, show new records to consumers.
    pub fn on_synced(&mut self) {
        for shown in self.state.on_synced() {
            for key in self.fetches.feed(&shown) {
                self.answer_fetch(key);
            }
        }
        self.after_sync.answer_durable();
        self.arm();
    }

    /// Time has passed.
    pub fn on_timer(&mut self, now: Now) {
        self.armed = None;
        while let Some(key) = self.fetches.overdue(now.at) {
            self.answer_fetch(key);
        }
        self.state.groups.on_timer(now.at);
        self.answer_groups();
        self.delays.release(now.at);
        if self.next_housekeeping <= now.at {
            self.next_housekeeping = now.at + HOUSEKEEPING_EVERY;
            self.state.housekeep(now);
        }
    }

    /// When `on_timer` wants to be called.
    pub fn arm_timer(&mut self) -> Instant {
        let at = self.next_deadline();
        self.armed = Some(at);
        at
    }

    /// The connection of this slot is gone.
    pub fn abandon(&mut self, slot: &Slot) {
        let Some(key) = slot.fetch.get() else { return };
        if let Some(fetch) = self.fetches.take(key, &mut self.state) {
            debug!(correlation_id = fetch.slot.correlation_id, "waiting fetch of a closed connection dropped");
        }
    }

    /// What a fault does before the request is looked at.
    fn prepare(&mut self, fault: &Fault, slot: &Rc<Slot>, now: Now) {
        match fault {
            Fault::Delay(delay) => self.delays.hold(slot, now.at + *delay),
            Fault::ApplyThenDisconnect => slot.set_afterwards(Afterwards::Close),
            Fault::Freeze(time) => std::thread::sleep(*time),
            Fault::Garbage(bytes) => slot.answer(Answer::Frame(vec![Bytes::copy_from_slice(bytes)])),
            Fault::Error(_) | Fault::Disconnect | Fault::Silence => {}
        }
    }

    /// An outcome becomes an answer, or a place to wait for one.
    fn settle(&mut self, slot: &Rc<Slot>, outcome: Outcome, now: Now) {
        match outcome {
            Outcome::Answer(response) => slot.respond(&response),
            Outcome::Nothing => slot.answer(Answer::Nothing),
            Outcome::Close => slot.answer(Answer::Close),
            Outcome::Durable(durable) => {
                let Durable { point, answer, otherwise } = *durable;
                let (answer, otherwise) = (slot.encode(&answer), slot.encode(&otherwise));
                self.after_sync.wait(Unsynced::Whole { slot: Rc::clone(slot), point, answer, otherwise });
            }
            Outcome::Produced { response, points } => {
                self.after_sync.wait(Unsynced::Produce { slot: Rc::clone(slot), response, points });
            }
            Outcome::Wait { request, missing_bytes, at_most } => {
                let fetch = WaitingFetch {
                    slot: Rc::clone(slot),
                    request: *request,
                    deadline: now.at + at_most,
                    missing_bytes,
                };
                self.fetches.park(fetch, &mut self.state);
            }
            Outcome::Join(join) => self.state.groups.join(*join, self.tickets.keep(slot), now.at),
            Outcome::Sync(sync) => self.state.groups.sync(*sync, self.tickets.keep(slot), now.at),
        }
    }

    /// Answers a fetch that waited, with whatever is there now.
    fn answer_fetch(&mut self, key: FetchKey) {
        if let Some(fetch) = self.fetches.take(key, &mut self.state) {
            let collected = fetch::collect(&mut self.state, &fetch.request);
            fetch.slot.respond(&Response::Fetch(collected.response));
        }
    }

    fn answer_disturbed(&mut self) {
        for key in self.state.take_disturbed() {
            self.answer_fetch(key);
        }
    }

    fn answer_groups(&mut self) {
        while let Some((ticket, reply)) = self.state.groups.poll_reply() {
            let Some(slot) = self.tickets.take(ticket) else { continue };
            slot.respond(&Response::from(match reply {
                Reply::Joined(joined) => join_group::response(slot.version, joined),
                Reply::Synced(synced) => sync_group::response(synced),
            }));
        }
    }

    fn next_deadline(&self) -> Instant {
        let waits = [self.fetches.next_deadline(), self.state.groups.next_deadline(), self.delays.next_deadline()];
        waits.into_iter().flatten().min().map_or(self.next_housekeeping, |at| at.min(self.next_housekeeping))
    }

    fn arm(&mut self) {
        let next = self.next_deadline();
        if self.armed.is_none_or(|armed| next < armed) {
            self.timer.notify();
        }
    }
}

fn read_header(frame: &mut Bytes, peer: &Peer) -> Option<RequestHeader> {
    decode_request_header(frame).inspect_err(|err| warn!(peer = %peer.ip, %err, "request header cannot be read")).ok()
}

/// The API a request is for, of those that are offered.
fn offered(header: &RequestHeader, peer: &Peer) -> Option<ApiKey> {
    let api = header.api().filter(|api| advertised(*api).is_some());
    if api.is_none() {
        warn!(peer = %peer.ip, api_key = header.api_key, "request for an API that was not offered");
    }
    api
}
