//! `GET /alive`, `/healthz`, `/readyz`: no credentials, no body.
//!
//! `/healthz` says the process lives. `/alive`, the 2017 load balancer's word, fails only while draining: a gateway
//! taken out for its clusters' sake could not even say 503. `/readyz` says whether this node wants traffic: not while
//! draining, and not before a cluster has answered its last probe (`prober.rs`); those that did not are named.

use crate::conn::{Conn, RequestMeta};
use crate::reply::{self, Failure};
use crate::shard::Shard;
use std::time::Instant;

pub fn alive(
    shard: &Shard,
    conn: &Conn,
    sequence: u64,
    meta: &RequestMeta,
    begun: Instant,
    now: Instant,
) -> Result<(), Failure> {
    if shard.shared.is_draining() {
        return Err(Failure::new(503, "not_ready", "this gateway is draining"));
    }
    answer(shard, conn, sequence, meta, b"{\"ok\":1}", begun, now);
    Ok(())
}

pub fn healthz(
    shard: &Shard,
    conn: &Conn,
    sequence: u64,
    meta: &RequestMeta,
    begun: Instant,
    now: Instant,
) -> Result<(), Failure> {
    answer(shard, conn, sequence, meta, b"{\"ok\":1}", begun, now);
    Ok(())
}

pub fn readyz(
    shard: &Shard,
    conn: &Conn,
    sequence: u64,
    meta: &RequestMeta,
    begun: Instant,
    now: Instant,
) -> Result<(), Failure> {
    let readiness = shard.shared.readiness();
    let status = if readiness.ready { 200 } else { 503 };
    let answer = reply::json(&meta.context(shard), status, readiness.to_json().as_bytes());
    shard.finish(conn, sequence, meta, "health", status, begun, now, answer);
    Ok(())
}

fn answer(shard: &Shard, conn: &Conn, sequence: u64, meta: &RequestMeta, body: &[u8], begun: Instant, now: Instant) {
    let answer = reply::json(&meta.context(shard), 200, body);
    shard.finish(conn, sequence, meta, "health", 200, begun, now, answer);
}
