//! `walctl drain`: delivers by hand what waits in the journal of a gateway that will not come back.
//!
//! ```text
//! plan.rs ──▶ connect.rs ──▶ settled.rs ──▶ deliver.rs ──▶ report.rs
//! what waits   Kafka, topics   the journal,   partition by    rows, and how
//!                              recovered      partition       far it is
//! ```
//! It holds the node's lock from the beginning to the end, and does to the journal what the gateway does: the same records
//! settle and park, so a gateway that starts on it later finds itself further on.

pub mod connect;
mod deliver;
mod plan;
mod report;
mod settled;

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};

use crate::backlog::see;
use crate::cli::Drain;
use crate::exit;
use crate::place::Place;
use crate::repair::{confirm, node_of};
use crate::rows::{self, Format};
use connect::Kafka;
use deliver::Delivery;
use plan::Planned;
use settled::Settling;

pub fn run(drain: &Drain, output: Option<Format>) -> Result<ExitCode> {
    let place = Place::find(&drain.place)?;
    let access = connect::access(drain)?;
    // Held until the end.
    let _lock = if drain.dry_run { None } else { Some(place.lock()?) };
    let seen = see(&place)?;
    if !seen.lost.is_empty() {
        eprintln!("walctl: records of this journal are lost, so messages may be missing; walctl verify says where");
    }
    let node = node_of(&place, &seen, drain.place.node.as_deref());
    let queue = seen.queue.map_err(|err| anyhow!(err))?;
    let planned = plan::plan(&queue, drain)?;
    if planned.is_empty() {
        eprintln!("nothing waits in {}", place.journal.display());
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let here = tokio::task::LocalSet::new();
    if drain.dry_run {
        let problems = here.block_on(&runtime, async {
            match access {
                Some(access) => Kafka::connect(access, drain.timeout).await?.look_at(&planned).await,
                None => Ok(Default::default()),
            }
        })?;
        rows::print(&[report::would_be(&planned, &problems, drain)], output);
        return Ok(ExitCode::SUCCESS);
    }
    let access = access.context("--bootstrap is required")?;
    let messages = plan::messages(&planned, drain);
    if !drain.yes {
        let servers = drain.bootstrap.join(",");
        confirm(&format!("Deliver {messages} messages of cluster {} to {servers}?", planned[0].cluster()))?;
    }
    let node = node?;
    let (rows, is_whole) = here.block_on(&runtime, async {
        let kafka = Kafka::connect(access, drain.timeout).await?;
        // What was seen is what recovery finds: nobody else has the journal.
        let settling = Settling::open(&place, node)?;
        let planned = plan::plan(settling.queue(), drain)?;
        deliver(drain, kafka, settling, planned).await
    })?;
    rows::print(&[rows], output);
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// Delivers, says how far it is, and closes the journal.
async fn deliver(
    drain: &Drain,
    kafka: Kafka,
    settling: Settling,
    planned: Vec<Planned>,
) -> Result<(rows::Section, bool)> {
    let messages = plan::messages(&planned, drain);
    let delivery = Rc::new(Delivery::new(drain, kafka, settling));
    let watching = tokio::task::spawn_local(report::watch(Rc::clone(&delivery), messages, drain.progress));
    let stopping = tokio::task::spawn_local(deliver::stop_when_told(Rc::clone(&delivery)));
    deliver::run(&delivery, &planned).await;
    for other in [watching, stopping] {
        other.abort();
        let _ = other.await;
    }
    report::clear();
    let delivery = Rc::into_inner(delivery).expect("everybody else has ended");
    let failed = delivery.failed.take();
    let ends = delivery.ends.into_inner();
    let settling = RefCell::into_inner(delivery.settling);
    let rows = report::done(&planned, &ends, settling.queue());
    settling.close();
    match failed {
        // The rows are the better half of the answer.
        Some(why) => {
            eprintln!("walctl: {why}");
            Ok((rows.section, false))
        }
        None => {
            eprintln!("{} messages delivered, {} left, {} parked", rows.delivered, rows.left, rows.parked);
            Ok((rows.section, rows.is_whole))
        }
    }
}
