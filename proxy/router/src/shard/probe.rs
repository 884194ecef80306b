//! Asking the brokers whether they answer, and who is in the cluster: one shard does it for the process.
//!
//! A probe is a connection like a client's: ApiVersions, which every broker answers before a login, then Metadata without
//! topics. A broker that wants a login closes at that; then it is not asked again, and the topology is learned from what
//! clients are answered.

use std::io;
use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kafka_wire::{ApiKey, header};
use runtime::time::timeout;
use runtime::{Either, race};

use crate::apis::Rewriter;
use crate::limits::{PROBE_INTERVAL, PROBE_INTERVAL_DOWN, PROBE_TIMEOUT};
use crate::rewrite::rewrite;
use crate::shard::Shard;
use crate::shard::ask::ask_raw;
use crate::shard::upstream::connect_to;
use crate::topology::{Address, Learned, Naming, View};

/// Spoken by every broker from Kafka 0.10 on; no topic named means no topic from version 1.
const METADATA_VERSION: i16 = 1;

/// Whether brokers tell strangers about the cluster.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Telling {
    Perhaps,
    No,
}

/// Probes for as long as the shard lives.
pub async fn probe(shard: Rc<Shard>) {
    let mut telling = Telling::Perhaps;
    loop {
        let found = one_round(&shard, &mut telling).await;
        let pause = if found.is_ok() { PROBE_INTERVAL } else { PROBE_INTERVAL_DOWN };
        if let Err(reasons) = &found {
            tracing::debug!(?reasons, "no broker answers");
        }
        shard.board.set_unready(found.err().unwrap_or_default());
        match race(shard.probe_now.notified(), runtime::time::sleep(pause)).await {
            Either::First(()) => runtime::time::sleep(PROBE_INTERVAL_DOWN / 4).await,
            Either::Second(()) => {}
        }
    }
}

/// Ok when one broker answered; otherwise what each said.
async fn one_round(shard: &Rc<Shard>, telling: &mut Telling) -> Result<(), Vec<String>> {
    let topology = shard.topology();
    let known = topology.nodes().map(|(_, address)| address.clone());
    let mut asked: Vec<Address> = shard.config.bootstrap.clone();
    asked.extend(known.filter(|address| !shard.config.bootstrap.contains(address)));
    let mut reasons = Vec::new();
    for address in asked.iter().take(BROKERS_ASKED_MAX) {
        match timeout(PROBE_TIMEOUT, ask(shard, address, telling)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(err)) => reasons.push(format!("{}:{}: {err}", address.host, address.port)),
            Err(_) => {
                let seconds = PROBE_TIMEOUT.as_secs();
                reasons.push(format!("{}:{}: no answer within {seconds} s", address.host, address.port));
            }
        }
    }
    Err(reasons)
}

const BROKERS_ASKED_MAX: usize = 8;

async fn ask(shard: &Rc<Shard>, address: &Address, telling: &mut Telling) -> io::Result<()> {
    let mut stream = connect_to(shard, address).await?;
    ask_raw(&mut stream, ApiKey::ApiVersions, 0, &[]).await?;
    if *telling == Telling::No {
        return Ok(());
    }
    let begun = Instant::now();
    match ask_raw(&mut stream, ApiKey::Metadata, METADATA_VERSION, &[0; 4]).await {
        Ok(frame) => shard.learn(&read_brokers(&frame)),
        Err(err) => {
            *telling = Telling::No;
            let after_ms = begun.elapsed().as_millis() as u64;
            tracing::info!(%err, after_ms, "brokers want a login: the cluster is learned from clients' answers");
        }
    }
    Ok(())
}

/// The brokers in an answer without its length.
fn read_brokers(answer: &Bytes) -> Vec<Learned> {
    let mut frame = BytesMut::from(&(answer.len() as i32).to_be_bytes()[..]);
    frame.extend_from_slice(answer);
    let nobody = View { host: "".into(), naming: Naming::Ports { first: 0, base: 0, width: 0 } };
    let mut learned = Vec::new();
    let header_bytes = answer.len() - {
        let mut body = answer.clone();
        let _ = header::decode_response_header(&mut body, ApiKey::Metadata, METADATA_VERSION);
        body.len()
    };
    let frame = frame.freeze();
    if let Err(err) = rewrite(Rewriter::Metadata, METADATA_VERSION, &frame, header_bytes, &nobody, &mut learned) {
        tracing::warn!(%err, "metadata of a broker cannot be read");
    }
    learned
}
