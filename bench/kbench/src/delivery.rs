//! From a publish to the poll that waits for it, one message after the other, for one group of its own.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use testkit::http::{Connection, Request};

use crate::gateway::{App, Gateway};
use crate::limits::DELIVERY_STALE_MAX;
use crate::outcome::{histogram, us};

/// The topic that is polled, and its group.
pub const TOPIC: &str = "polled";
pub const GROUP: &str = "probe";
/// Long enough that no answer is an empty one; the group is left after twice that.
const WAIT_MS: u64 = 5_000;
/// Answers that come before counting begins: the group joins with the first.
const WARMUP: usize = 3;
/// The poll is there, and the group's fetch waits at the broker again, when the message is sent: from this
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// up to this much longer, so that no rhythm of anybody's is met each time.
const PAUSE_SPREAD_MS: usize = 31;

/// Microseconds from the moment a publish is written to the moment the whole answer of the poll is read.
pub fn measure(gateway: &Gateway, app: &App, samples: usize) -> Result<Histogram<u64>> {
    let mut found = histogram();
    let poll = gateway.poll(app, TOPIC, GROUP, WAIT_MS);
    let mut subscriber = Connection::open(&gateway.subscribe)?;
    let mut publisher = Connection::open(&gateway.server.sender.target)?;
    pass_over(&mut subscriber, poll.as_bytes())?;
    for number in 0..WARMUP + samples {
        let message = format!("message {number}");
        let sender = gateway.sender(app, TOPIC);
        let publish = Request::post(&format!("/v1/msgs/{}/{}", sender.topic, sender.ver))
            .header("Appid", sender.appid.as_str())
            .header("Pubkey", sender.pubkey.as_str())
            .body(message.as_str())
            .to_bytes();
        subscriber.send_raw(poll.as_bytes())?;
        sleep(PAUSE_MIN + Duration::from_millis((number * 7 % PAUSE_SPREAD_MS) as u64));
        let sent_at = Instant::now();
        publisher.send_raw(&publish)?;
        let answer = subscriber.read()?.expect(200)?;
        let took = sent_at.elapsed();
        ensure!(answer.text() == message, "the poll got {:?} instead of {message:?}", answer.text());
        publisher.read()?.expect(201)?;
        if number >= WARMUP {
            found.saturating_record(us(took));
        }
    }
    Ok(found)
}

/// What an earlier round left, if it broke off; it also makes the group join.
fn pass_over(subscriber: &mut Connection, poll: &[u8]) -> Result<()> {
    for _ in 0..DELIVERY_STALE_MAX {
        subscriber.send_raw(poll)?;
        if subscriber.read()?.status == 204 {
            return Ok(());
        }
    }
    anyhow::bail!("a topic of the bench's own does not become empty")
}
