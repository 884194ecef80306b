//! One broker connection of a shard: bytes between its socket and the Kafka client, nothing decided.

use crate::kafka::cluster::Cluster;
use bytes::BytesMut;
use kafka_client::{ConnId, Connect};
use runtime::net::{self, Closer, ReadHalf, Stream, WriteHalf};
use runtime::notify::Notify;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

/// Bytes asked of a broker connection per read; produce answers are small, fetch answers want the space.
const BROKER_READ_BYTES: usize = 64 << 10;

/// One broker connection of this shard.
pub struct Link {
    pub conn: ConnId,
    pub writable: Notify,
    /// Rung when the link is closed while it is being opened.
    given_up: Notify,
    /// From the first moment there is a socket, so also during the TLS handshake.
    stream: RefCell<Option<Closer>>,
    closed: Cell<bool>,
}

impl Link {
    pub fn new(conn: ConnId) -> Link {
        Link {
            conn,
            writable: Notify::new(),
            given_up: Notify::new(),
            stream: RefCell::new(None),
            closed: Cell::new(false),
        }
    }

    pub fn close(&self) {
        self.closed.set(true);
        self.given_up.notify();
        self.writable.notify();
        if let Some(stream) = self.stream.borrow().as_ref() {
            stream.shutdown();
        }
    }
}

/// Opens the connection, then reads and writes it to its end.
pub async fn run(cluster: Rc<Cluster>, connect: Connect, link: Rc<Link>) {
    let why = match open_in_time(&cluster, &connect, &link).await {
        Err(why) => {
            let (broker, port) = (&connect.host, connect.port);
            if !cluster.is_stopped()
                && let Some(attempts) = cluster.complaints.borrow_mut().count(broker, port, Instant::now())
            {
                tracing::warn!(cluster = %cluster.name, %broker, port, why, attempts, "cannot connect to a broker");
            }
            cluster.forget_link(link.conn);
            cluster.client.borrow_mut().on_connect_failed(link.conn, why, Instant::now());
            cluster.wake();
            return;
        }
        Ok(stream) => {
            let (reader, writer) = stream.split();
            cluster.client.borrow_mut().on_connected(link.conn, Instant::now());
            cluster.wake();
            runtime::spawn(write_link(Rc::clone(&cluster), Rc::clone(&link), writer));
            read_link(&cluster, &link, reader).await
        }
    };
    link.close();
    cluster.forget_link(link.conn);
    let now = Instant::now();
    cluster.client.borrow_mut().on_closed(link.conn, why, now);
    cluster.suspect(now);
    cluster.wake();
}

/// Name, TCP and TLS together within `Connect::timeout`, and no longer than the client wants the connection.
async fn open_in_time(cluster: &Cluster, connect: &Connect, link: &Link) -> Result<Stream, String> {
    let opening = runtime::time::timeout(connect.timeout, open(cluster, connect, link));
    match runtime::race(opening, link.given_up.notified()).await {
        runtime::Either::First(Ok(opened)) if !link.closed.get() => opened,
        runtime::Either::First(Err(_)) => {
            link.close(); // a read of the handshake may be in the kernel's hands: that ends it
            Err(format!("no connection within {} ms", connect.timeout.as_millis()))
        }
        runtime::Either::First(Ok(_)) | runtime::Either::Second(()) => Err("not wanted any more".to_owned()),
    }
}

async fn open(cluster: &Cluster, connect: &Connect, link: &Link) -> Result<Stream, String> {
    let stream = net::connect(&connect.host, connect.port, connect.timeout).await.map_err(|err| err.to_string())?;
    *link.stream.borrow_mut() = Some(stream.closer());
    if !connect.tls {
        return Ok(stream);
    }
    let tls = cluster.tls().ok_or("the cluster asks for TLS but none is configured")?;
    tls.connect(stream, &connect.host).await.map_err(|err| format!("TLS handshake failed: {err}"))
}

async fn read_link(cluster: &Cluster, link: &Link, mut reader: ReadHalf) -> String {
    let mut buffer = BytesMut::new();
    loop {
        if let Err(err) = reader.readable().await {
            return err.to_string();
        }
        buffer.reserve(BROKER_READ_BYTES);
        let (result, filled) = reader.read(buffer).await;
        buffer = filled;
        match result {
            Ok(0) => return "the broker closed the connection".to_owned(),
            Ok(_) => {}
            Err(err) => return err.to_string(),
        }
        if link.closed.get() {
            return "closed by us".to_owned();
        }
        cluster.client.borrow_mut().on_bytes(link.conn, &mut buffer, Instant::now());
        cluster.wake();
        if buffer.is_empty() && buffer.capacity() > 4 * BROKER_READ_BYTES {
            buffer = BytesMut::new(); // a large fetch answer must not pin its space for ever
        }
    }
}

async fn write_link(cluster: Rc<Cluster>, link: Rc<Link>, mut writer: WriteHalf) {
    while !link.closed.get() {
        let chain = cluster.client.borrow_mut().take_transmit(link.conn);
        if chain.is_empty() {
            link.writable.notified().await;
            continue;
        }
        if let Err(err) = writer.write_chain(chain).await {
            tracing::debug!(cluster = %cluster.name, %err, "writing to a broker failed");
            link.close(); // the reader ends next and tells the client
            return;
        }
    }
}
