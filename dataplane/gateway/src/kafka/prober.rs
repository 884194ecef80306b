//! Whether a cluster answers, known by asking it. One per cluster and process: it lives on shard 0 and asks over that
//! shard's own connections, so a cluster that nobody uses costs one connection and one small request every
//! [`PROBE_INTERVAL`].
//!
//! ```text
//!   Resting ──until──> Asking ──an answer──────────> up,   Resting for PROBE_INTERVAL
//!                        │└──PROBE_PATIENCE──> somebody else is asked as well
//!                        └─────PROBE_TIMEOUT──────> down, Resting for PROBE_PAUSE
//! ```
//!
//! A round asks for Metadata of no topic, which every broker answers from memory. The Kafka client gives a request
//! that anybody can answer to no connection that has been silent for a second, so each further question of a round
//! goes to another broker: a cluster counts as down only when none of those asked has answered.

use crate::env::board::ClusterHealth;
use crate::limits::{PROBE_INTERVAL, PROBE_PATIENCE, PROBE_PAUSE, PROBE_QUESTIONS_MAX, PROBE_RETRY, PROBE_TIMEOUT};
use kafka_client::{Client, Lane, Request, RequestError, RequestToken, Response, Target};
use kafka_wire::cold::types::MetadataRequest;
use kafka_wire::cold::{RequestKind, ResponseKind};
use smallvec::SmallVec;
use std::time::Instant;

/// One per (process, cluster).
pub struct Prober {
    phase: Phase,
    /// Ended a round; not fetched yet.
    verdict: Option<ClusterHealth>,
}

enum Phase {
    Resting {
        since: Instant,
        until: Instant,
    },
    Asking {
        deadline: Instant,
        again_at: Instant,
        /// Questions of this round, answered or not.
        asked: usize,
        open: SmallVec<[RequestToken; PROBE_QUESTIONS_MAX]>,
        last_error: Option<String>,
    },
}

impl Prober {
    /// Asks at the first [`Prober::tick`].
    pub fn new(now: Instant) -> Prober {
        Prober { phase: Phase::Resting { since: now, until: now }, verdict: None }
    }

    /// Asks what is due. Call it before the client's flush.
    pub fn tick(&mut self, client: &mut Client, now: Instant) {
        if let Phase::Resting { until, .. } = self.phase
            && until <= now
        {
            let deadline = now + PROBE_TIMEOUT;
            let open = SmallVec::new();
            self.phase = Phase::Asking { deadline, again_at: now, asked: 0, open, last_error: None };
        }
        let Phase::Asking { deadline, again_at, asked, open, last_error } = &mut self.phase else { return };
        if *deadline <= now {
            let health = client.health(now);
            let silent = || format!("no answer within {} ms", PROBE_TIMEOUT.as_millis());
            let why = last_error.take().unwrap_or_else(|| if health.reachable { silent() } else { health.detail });
            return self.conclude(client, false, why, now);
        }
        if *again_at <= now && *asked < PROBE_QUESTIONS_MAX {
            let nothing =
                MetadataRequest::default().with_topics(Some(Vec::new())).with_allow_auto_topic_creation(false);
            let request = Request::Cold(RequestKind::Metadata(nothing));
            open.push(client.request(Target::Any, Lane::Control, request, *deadline - now, now));
            *asked += 1;
            *again_at = now + PROBE_PATIENCE;
        }
    }

    /// Takes a reply to a question of this prober; false: it is somebody else's.
    pub fn on_reply(
        &mut self,
        client: &mut Client,
        token: RequestToken,
        reply: &Result<Response, RequestError>,
        now: Instant,
    ) -> bool {
        let Phase::Asking { again_at, open, last_error, .. } = &mut self.phase else { return false };
        let Some(position) = open.iter().position(|asked| *asked == token) else { return false };
        open.swap_remove(position);
        match reply {
            Ok(Response::Cold(ResponseKind::Metadata(answer))) => {
                let detail = format!("{} brokers", answer.brokers.len());
                self.conclude(client, true, detail, now);
            }
            Ok(_) => *last_error = Some("another answer than Metadata".to_owned()),
            // Asking again is no use: the next one would be told the same.
            Err(err @ RequestError::Authentication { .. }) => self.conclude(client, false, err.to_string(), now),
            // At the end of the round, which says why.
            Err(RequestError::Timeout { .. }) => {}
            Err(err) => {
                *last_error = Some(err.to_string());
                *again_at = (*again_at).min(now + PROBE_RETRY);
            }
        }
        true
    }

    /// A connection to the cluster was lost: does it still answer? Asked soon, but no more often than of a cluster
    /// that is down.
    pub fn suspect(&mut self, now: Instant) {
        if let Phase::Resting { since, until } = &mut self.phase {
            *until = (*until).min(now.max(*since + PROBE_PAUSE));
        }
    }

    /// The result of a round that ended, once.
    pub fn take_verdict(&mut self) -> Option<ClusterHealth> {
        self.verdict.take()
    }

    /// When to call [`Prober::tick`] at the latest.
    pub fn next_deadline(&self) -> Instant {
        match &self.phase {
            Phase::Resting { until, .. } => *until,
            Phase::Asking { deadline, again_at, asked, .. } if *asked < PROBE_QUESTIONS_MAX => *again_at.min(deadline),
            Phase::Asking { deadline, .. } => *deadline,
        }
    }

    fn conclude(&mut self, client: &mut Client, up: bool, detail: String, now: Instant) {
        if let Phase::Asking { open, .. } = &self.phase {
            open.iter().for_each(|token| client.cancel(*token));
        }
        let pause = if up { PROBE_INTERVAL } else { PROBE_PAUSE };
        self.phase = Phase::Resting { since: now, until: now + pause };
        self.verdict = Some(ClusterHealth { up, detail, probed_at: Some(now) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_client::ClientConfig;
    use std::time::Duration;

    struct Scene {
        client: Client,
        prober: Prober,
        now: Instant,
    }

    impl Scene {
        /// A cluster whose only broker is never connected to.
        fn new() -> Scene {
            let now = Instant::now();
            let config = ClientConfig { bootstrap: vec!["kafka.invalid:9092".into()], ..ClientConfig::default() };
            Scene { client: Client::new(config, 1, now), prober: Prober::new(now), now }
        }

        fn tick(&mut self) {
            self.prober.tick(&mut self.client, self.now);
            self.client.flush(self.now);
            while let Some((token, reply)) = self.client.poll_reply() {
                assert!(self.prober.on_reply(&mut self.client, token, &reply, self.now), "nobody else asks");
            }
        }

        /// The question that is open gets this reply.
        fn answer(&mut self, error: RequestError) {
            let Phase::Asking { open, .. } = &self.prober.phase else { panic!("asking") };
            let token = open[0];
            self.client.cancel(token);
            assert!(self.prober.on_reply(&mut self.client, token, &Err(error), self.now));
        }

        /// Goes from deadline to deadline until a round has ended; how long that took.
        fn round(&mut self) -> (ClusterHealth, Duration) {
            let begun = self.now;
            loop {
                self.tick();
                if let Some(health) = self.prober.take_verdict() {
                    return (health, self.now - begun);
                }
                let next = self.prober.next_deadline();
                assert!(next > self.now, "nothing more is due now");
                self.now = next;
            }
        }
    }

    #[test]
    fn without_an_answer_the_cluster_is_down_after_the_timeout_and_asked_again_soon() {
        let mut scene = Scene::new();
        let (health, took) = scene.round();
        assert_eq!((health.up, health.detail.as_str(), took), (false, "not connected yet", PROBE_TIMEOUT));
        assert!(scene.client.is_idle(), "its questions are withdrawn");
        assert_eq!(scene.round().1, PROBE_PAUSE + PROBE_TIMEOUT);
    }

    #[test]
    fn a_reply_to_somebody_elses_request_is_not_taken() {
        let mut scene = Scene::new();
        scene.tick();
        let reply = Err(RequestError::QueueFull);
        assert!(!scene.prober.on_reply(&mut scene.client, RequestToken(4711), &reply, scene.now));
    }

    #[test]
    fn errors_are_asked_again_within_the_round_and_refused_credentials_end_it() {
        let mut scene = Scene::new();
        for asked in 1..=PROBE_QUESTIONS_MAX {
            scene.tick();
            let Phase::Asking { asked: so_far, .. } = &scene.prober.phase else { panic!("still asking") };
            assert_eq!(*so_far, asked);
            scene.answer(RequestError::Disconnected { why: "gone".into() });
            scene.now = scene.prober.next_deadline();
        }
        let (health, _) = scene.round();
        assert_eq!((health.up, health.detail.as_str()), (false, "connection lost before the answer: gone"));

        scene.now = scene.prober.next_deadline();
        scene.tick();
        scene.answer(RequestError::Authentication { why: "wrong password".into() });
        let health = scene.prober.take_verdict().expect("the round is over");
        assert_eq!(health.detail, "brokers refuse our credentials: wrong password");
    }

    #[test]
    fn a_lost_connection_brings_the_next_question_forward_but_no_closer_than_the_pause() {
        let mut scene = Scene::new();
        scene.prober.phase = Phase::Resting { since: scene.now, until: scene.now + PROBE_INTERVAL };
        scene.prober.suspect(scene.now);
        assert_eq!(scene.prober.next_deadline(), scene.now + PROBE_PAUSE);
        let later = scene.now + PROBE_INTERVAL / 2;
        scene.prober.phase = Phase::Resting { since: scene.now, until: scene.now + PROBE_INTERVAL };
        scene.prober.suspect(later);
        assert_eq!(scene.prober.next_deadline(), later);
    }
}
