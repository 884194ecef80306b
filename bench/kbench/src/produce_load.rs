//! `kbench produce-load`: Produce requests on schedule, to give a broker the work that a gateway gives it.
//!
//! Used by `kbench latency` to load the null broker while a floor is measured, so that the reader sees how much of the
//! gateway's latency the broker's use of the client's CPU is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::messages::produce::{OutPartition, OutTopic, encode_request_frame};
use kafka_wire::record_batch::{BatchBuilder, RecordRef};

use crate::cli::ProduceLoad;
use crate::{pin, publish, ready};

const TOPIC: &str = "produce-load";
const VERSION: i16 = 9;
const ACKS_ALL: i16 = -1;

/// Until killed.
pub fn run(load: ProduceLoad) -> Result<ExitCode> {
    pin::this_thread(Some(load.cpu))?;
    ensure!(load.rate > 0.0 && load.records > 0, "nothing to send");
    let frame = frame(TOPIC, 0, load.records, load.size);
    let mut sender = TcpStream::connect(load.to).with_context(|| format!("cannot connect to {}", load.to))?;
    sender.set_nodelay(true)?;
    let mut receiver = sender.try_clone()?;
    std::thread::Builder::new().name("answers".to_owned()).spawn(
        move || {
            while skip_answer(&mut receiver).is_ok() {}
        },
    )?;
    ready::announce(true, "to", &load.to.to_string());
    let (start, interval) = (Instant::now(), Duration::from_secs_f64(1.0 / load.rate));
    for number in 0u32.. {
        let due = start + interval * number;
        let now = Instant::now();
        if due > now {
            std::thread::sleep(due - now);
        }
        sender.write_all(&frame)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One Produce request with `records` records of `size` bytes, in one batch without a producer id.
pub fn frame(topic: &str, partition: i32, records: usize, size: usize) -> Bytes {
    let value = publish::message(size);
    let mut builder = BatchBuilder::with_capacity(records * (size + 16));
    for _ in 0..records {
        let timestamp_ms = 1_700_000_000_000;
        builder.append(&RecordRef { timestamp_ms, key: None, value: Some(&value), headers: &[] });
    }
    let batch = builder.seal(Compression::None);
    let partitions = [OutPartition { index: partition, batch: &batch }];
    let topics = [OutTopic { name: topic, partitions: &partitions }];
    encode_request_frame(VERSION, 1, "kbench", ACKS_ALL, 30_000, &topics).concat().into()
}

/// A batch of one record that is `bytes` long as nearly as may be without being longer; its least length for 0.
pub fn batch(bytes: usize) -> Bytes {
    let sealed = |size: usize| {
        let mut builder = BatchBuilder::with_capacity(size + 100);
        let value = publish::message(size);
        builder.append(&RecordRef { timestamp_ms: 1_700_000_000_000, key: None, value: Some(&value), headers: &[] });
        builder.seal(Compression::None).to_bytes()
    };
    let least = sealed(1);
    if bytes <= least.len() + 8 { least } else { sealed(bytes - least.len() - 8) }
}

/// Reads one answer and forgets it.
pub fn skip_answer(socket: &mut TcpStream) -> io::Result<()> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let answer_bytes = u64::from(u32::from_be_bytes(length));
    let skipped = io::copy(&mut socket.take(answer_bytes), &mut io::sink())?;
    if skipped == answer_bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
