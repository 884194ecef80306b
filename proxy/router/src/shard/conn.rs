//! One client connection from its first byte to its end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use kafka_wire::frame;
use runtime::net::{ReadHalf, Stream, WriteHalf};
use runtime::pool::PooledBuf;

use crate::limits::{FIRST_BYTE_TIMEOUT, LINGER};
use crate::listeners::Target;
use crate::requests::RequestError;
use crate::shard::conns::Conn;
use crate::shard::greeting::{self, Greeted};
use crate::shard::pipe::{End, Pipe};
use crate::shard::{Shard, login, tenants, upstream};

/// Serves it; it is counted in the crowd already.
pub async fn serve(shard: Rc<Shard>, stream: Stream, peer: SocketAddr, target: Target) {
    let now = Instant::now();
    let conn = Rc::new(Conn::new(peer, target, stream.closer(), old_at(&shard, now), now));
    conn.deadline.set(Some((now + FIRST_BYTE_TIMEOUT, "no_first_byte")));
    let key = shard.conns.add(&conn);
    if shard.is_draining.get() {
        conn.begin_retiring("drain");
    }
    let ended = live(&shard, &conn, stream, peer, target).await;
    shard.conns.remove(key);
    shard.board.crowd.leave(shard.id);
    if let (Some(tenants), Some(app)) = (&shard.tenants, conn.counted.take()) {
        tenants.config.ledger.connections.remove(&app);
    }
    say(&shard, &conn, ended);
}

/// Its last day, spread so that a fleet of clients does not come back at once.
fn old_at(shard: &Shard, now: Instant) -> Option<Instant> {
    let age_max = shard.config.age_max;
    if age_max.is_zero() {
        return None;
    }
    let jitter = runtime::clock::seed() % 1000;
    Some(now + age_max - age_max / 10 * jitter as u32 / 1000)
}

fn say(shard: &Shard, conn: &Conn, end: End) {
    let peer = conn.peer.get();
    let (reason, message) = match end {
        End::Finished => (conn.reason.get().unwrap_or("finished"), String::new()),
        End::Retired => (conn.reason.get().unwrap_or("retired"), String::new()),
        End::Fault { reason, message } => (conn.reason.get().unwrap_or(reason), message),
    };
    shard.metrics.ended(reason);
    write_access_log(shard, conn, reason);
    let client_id = conn.client_id.borrow();
    let (client_id, software) = (client_id.as_deref().unwrap_or_default(), conn.software.borrow());
    let software = software.as_deref().unwrap_or_default();
    match reason {
        "finished" | "drain" | "old" | "idle" | "connection_lost" | "broker_known" | "broker_closed" => {
            tracing::debug!(%peer, client_id, software, reason, message, "connection ended");
        }
        _ => tracing::warn!(%peer, client_id, software, reason, message, "connection ended"),
    }
}

/// One line for each session.
fn write_access_log(shard: &Shard, conn: &Conn, reason: &str) {
    let (Some(tenants), Some(app)) = (&shard.tenants, &*conn.app.borrow()) else { return };
    let side = conn.session.borrow().as_ref().map_or("", |session| session.login().side().as_str());
    let shown = |text: Option<&str>| text.unwrap_or("-").replace(|c: char| c.is_whitespace() || c.is_control(), "_");
    let client_id = shown(conn.client_id.borrow().as_deref());
    let software = shown(conn.software.borrow().as_deref());
    let used = &conn.used;
    tenants.access_log.append(|line| {
        let time = jiff::Timestamp::from_millisecond(runtime::clock::now_ms()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let _ = write!(
            line,
            "{time:.3} {} app={} side={side} client_id={client_id} software={software} seconds={:.3} requests={} refused={} \
             messages_in={} bytes_in={} messages_out={} bytes_out={} throttled={} end={reason}",
            conn.peer.get(),
            app.app,
            conn.age().as_secs_f64(),
            used.requests.get(),
            used.refused.get(),
            used.messages_in.get(),
            used.bytes_in.get(),
            used.messages_out.get(),
            used.bytes_out.get(),
            used.throttled.get(),
        );
    });
}

async fn live(shard: &Rc<Shard>, conn: &Rc<Conn>, stream: Stream, peer: SocketAddr, target: Target) -> End {
    let Greeted { stream, peer, target } = match greeting::greet(shard, stream, peer, target).await {
        Ok(greeted) => greeted,
        Err(failed) => return End::Fault { reason: failed.reason, message: failed.message },
    };
    conn.peer.set(peer);
    let per_address = shard.config.connections_per_address;
    if !shard.board.try_add(peer.ip(), per_address) {
        let message = format!("{per_address} connections of this address are open");
        return End::Fault { reason: "connections_of_address", message };
    }
    conn.target.set(target);
    let end = talk(shard, conn, stream, target).await;
    shard.board.remove(peer.ip(), per_address);
    end
}

/// No broker is troubled before a client has said something that looks like Kafka.
async fn talk(shard: &Rc<Shard>, conn: &Rc<Conn>, stream: Stream, target: Target) -> End {
    let local = match stream.local_addr() {
        Ok(local) => local,
        Err(err) => return err.into(),
    };
    let (mut from_client, mut to_client) = stream.split();
    let mut first = match first_bytes(shard, conn, &mut from_client).await {
        Ok(first) => first,
        Err(end) => return end,
    };
    conn.deadline.set(None);
    let mut told = None;
    if shard.tenants.is_some() {
        let welcome = match login::log_in(shard, conn, &mut from_client, &mut to_client, first).await {
            Ok(welcome) => welcome,
            Err(end) => return end,
        };
        (first, told) = (welcome.buffer, Some(welcome.offered));
    }
    let mut broker = match upstream::connect(shard, target).await {
        Ok(broker) => broker,
        Err(err) => return End::Fault { reason: "no_broker", message: err.to_string() },
    };
    if let Some(told) = &told {
        match tenants::learn_offered(shard, &mut broker.stream, tenants::node_of(target)).await {
            Ok(offered) if offered.covers(told) => {}
            Ok(_) => return End::Fault { reason: "broker_changed", message: BROKER_CHANGED.to_owned() },
            Err(err) => return End::Fault { reason: "no_broker", message: err.to_string() },
        }
    }
    conn.upstream.set(broker.upstream);
    conn.set_broker(broker.stream.closer());
    let metrics = shard.metrics.broker(broker.label);
    let (from_broker, to_broker) = broker.stream.split();
    let pipe = Rc::new(Pipe {
        shard: Rc::clone(shard),
        conn: Rc::clone(conn),
        view: shard.view(local.ip()),
        broker_bytes: metrics.bytes.clone(),
        tenant: told,
    });
    metrics.connections.inc();
    let end = both(&pipe, from_client, to_client, from_broker, to_broker, first).await;
    metrics.connections.dec();
    end
}

const BROKER_CHANGED: &str = "this broker no longer offers what the client was told; it asks again";

async fn first_bytes(shard: &Rc<Shard>, conn: &Conn, from: &mut ReadHalf) -> Result<PooledBuf, End> {
    match runtime::race(from.readable(), conn.retire.notified()).await {
        runtime::Either::First(readable) => readable?,
        runtime::Either::Second(()) => return Err(End::Retired),
    }
    let mut buffer = shard.pool.get_64k();
    // A length decides whether it is Kafka at all.
    while buffer.len() < 4 {
        let (read, filled) = from.read(buffer).await;
        buffer = filled;
        match read? {
            0 => return Err(End::Finished),
            count => shard.metrics.client_in.add(count as u64),
        }
    }
    let length = *buffer.first_chunk().expect("read above");
    match frame::check_length(length, shard.config.request_bytes_max).map_err(RequestError::from) {
        Ok(_) => Ok(buffer),
        Err(err) => Err(End::Fault { reason: err.reason(), message: err.to_string() }),
    }
}

/// Runs both directions until the connection has ended on both sides.
async fn both(
    pipe: &Rc<Pipe>,
    from_client: ReadHalf,
    to_client: WriteHalf,
    from_broker: ReadHalf,
    to_broker: WriteHalf,
    first: PooledBuf,
) -> End {
    let conn = &pipe.conn;
    let answers = {
        let pipe = Rc::clone(pipe);
        runtime::spawn(async move {
            let end = pipe.answers(from_broker, to_client).await;
            if let End::Fault { reason, .. } = &end {
                pipe.conn.end(reason);
            } else {
                // Whatever the client still wants, this broker is gone.
                pipe.conn.end("broker_closed");
            }
            end
        })
    };
    let end = pipe.requests(from_client, to_broker, first).await;
    match &end {
        // Requests before the end are still answered.
        End::Finished if conn.reason.get().is_none() => {
            conn.reason.set(Some("finished"));
            conn.deadline.set(Some((Instant::now() + LINGER, "finished")));
        }
        End::Finished => conn.end("finished"),
        End::Retired => conn.end("retired"),
        End::Fault { reason, .. } => conn.end(reason),
    }
    match (answers.await, end) {
        (Some(fault @ End::Fault { .. }), End::Finished | End::Retired) => fault,
        (_, end) => end,
    }
}
