//! Which broker coordinates which consumer group: asked once, kept until somebody says it is wrong.

use std::collections::BTreeSet;
use std::time::Instant;

use kafka_wire::WireError;
use kafka_wire::cold::{RequestKind, types};
use kafka_wire::error_code::ErrorCode;

use crate::backoff::Backoff;
use crate::limits::COORDINATORS_MAX;
use crate::rng::Rng;

/// From version 4 several groups fit into one request (KIP-699); we ask for one.
const BATCHED_FROM: i16 = 4;
const KEY_TYPE_GROUP: i8 = 0;

/// What is known about one group's coordinator.
#[derive(Debug, Default)]
struct Coordinator {
    /// Index in the cluster.
    broker: Option<u32>,
    asking: Asking,
    backoff: Backoff,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Asking {
    /// Nobody needs it.
    #[default]
    No,
    /// To be asked for as soon as a connection takes it.
    Due,
    /// The last try failed.
    After(Instant),
    /// A question is on its way.
    Asked,
}

/// All groups somebody asked for.
///
/// Invariant: a group is in `due` or `delayed` exactly when its [`Asking`] says so.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    by_group: foldhash::HashMap<String, Coordinator>,
    due: BTreeSet<String>,
    delayed: BTreeSet<(Instant, String)>,
}

/// What a FindCoordinator answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Broker {
        node: i32,
        host: String,
        port: i32,
    },
    /// Later, perhaps.
    Retry(ErrorCode),
    /// Never, as things are.
    Refused(ErrorCode),
}

impl Coordinators {
    /// The coordinator if known; else it will be asked for.
    pub fn find(&mut self, group: &str) -> Option<u32> {
        if let Some(coordinator) = self.by_group.get(group) {
            let (broker, asking) = (coordinator.broker, coordinator.asking);
            if broker.is_none() && asking == Asking::No {
                self.turn(group, Asking::Due);
            }
            return broker;
        }
        if self.by_group.len() >= COORDINATORS_MAX {
            // Forgetting costs one lookup; those being asked for stay.
            let victim = self.by_group.iter().find(|(_, c)| c.asking == Asking::No).map(|(group, _)| group.clone());
            if let Some(victim) = victim {
                self.by_group.remove(&victim);
            }
        }
        self.by_group.insert(group.to_owned(), Coordinator::default());
        self.turn(group, Asking::Due);
        None
    }

    /// The one way to another [`Asking`].
    fn turn(&mut self, group: &str, asking: Asking) {
        let Some(coordinator) = self.by_group.get_mut(group) else { return };
        match std::mem::replace(&mut coordinator.asking, asking) {
            Asking::No | Asking::Asked => {}
            Asking::Due => {
                self.due.remove(group);
            }
            Asking::After(at) => {
                self.delayed.remove(&(at, group.to_owned()));
            }
        }
        match asking {
            Asking::No | Asking::Asked => {}
            Asking::Due => {
                self.due.insert(group.to_owned());
            }
            Asking::After(at) => {
                self.delayed.insert((at, group.to_owned()));
            }
        }
    }

    pub fn forget(&mut self, group: &str) {
        if let Some(coordinator) = self.by_group.get_mut(group) {
            coordinator.broker = None;
        }
    }

    /// A group whose coordinator should be asked for now.
    pub fn due(&mut self, now: Instant) -> Option<String> {
        while let Some((_, group)) = self.delayed.first().filter(|(at, _)| *at <= now).cloned() {
            self.turn(&group, Asking::Due);
        }
        self.due.first().cloned()
    }

    /// A question is on its way.
    pub fn asked(&mut self, group: &str) {
        self.turn(group, Asking::Asked);
    }

    /// No answer, or none that helps: asked again after a pause.
    pub fn failed(&mut self, group: &str, now: Instant, rng: &mut Rng) {
        if let Some(coordinator) = self.by_group.get_mut(group) {
            let at = coordinator.backoff.failed(now, rng);
            self.turn(group, Asking::After(at));
        }
    }

    pub fn found(&mut self, group: &str, broker: u32) {
        self.turn(group, Asking::No);
        if let Some(coordinator) = self.by_group.get_mut(group) {
            coordinator.broker = Some(broker);
            coordinator.backoff.succeeded();
        }
    }

    /// Asked for again only when somebody needs it anew.
    pub fn refused(&mut self, group: &str) {
        self.turn(group, Asking::No);
    }

    /// When the next pause ends.
    pub fn next_retry(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }
}

/// The question, as `version` has it.
pub(crate) fn request(group: &str, version: i16) -> RequestKind {
    let request = types::FindCoordinatorRequest::default().with_key_type(KEY_TYPE_GROUP);
    let group = kafka_wire::cold::StrBytes::from_string(group.to_owned());
    RequestKind::FindCoordinator(if version >= BATCHED_FROM {
        request.with_coordinator_keys(vec![group])
    } else {
        request.with_key(group)
    })
}

/// Reads the answer.
pub(crate) fn found(group: &str, version: i16, answer: types::FindCoordinatorResponse) -> Result<Found, WireError> {
    let (code, node, host, port) = if version >= BATCHED_FROM {
        let entry = answer.coordinators.iter().find(|c| c.key.as_str() == group);
        let Some(entry) = entry else {
            return Err(WireError::Invalid { what: "coordinators without the group asked for", offset: 0, found: 0 });
        };
        (entry.error_code, entry.node_id.0, entry.host.to_string(), entry.port)
    } else {
        (answer.error_code, answer.node_id.0, answer.host.to_string(), answer.port)
    };
    Ok(match ErrorCode(code) {
        ErrorCode::NONE => Found::Broker { node, host, port },
        code if code.is_retriable() => Found::Retry(code),
        code => Found::Refused(code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_coordinator_is_asked_for_again_when_needed() {
        let now = Instant::now();
        let mut coordinators = Coordinators::default();
        assert_eq!(coordinators.find("g"), None);
        assert_eq!(coordinators.due(now).as_deref(), Some("g"));
        coordinators.asked("g");
        assert_eq!(coordinators.due(now), None, "once");
        coordinators.found("g", 3);
        assert_eq!((coordinators.find("g"), coordinators.due(now)), (Some(3), None));
        coordinators.forget("g");
        assert_eq!(coordinators.due(now), None, "nobody needs it yet");
        assert_eq!(coordinators.find("g"), None);
        assert_eq!(coordinators.due(now).as_deref(), Some("g"));
    }

    #[test]
    fn a_lookup_that_failed_is_due_after_its_pause_and_not_before() {
        let now = Instant::now();
        let (mut coordinators, mut rng) = (Coordinators::default(), Rng::new(1));
        for group in ["g", "h"] {
            coordinators.find(group);
            coordinators.asked(group);
        }
        coordinators.failed("g", now, &mut rng);
        let at = coordinators.next_retry().expect("a pause");
        assert!(at > now);
        assert_eq!(coordinators.due(at - std::time::Duration::from_nanos(1)), None);
        assert_eq!(coordinators.find("g"), None);
        assert_eq!(coordinators.due(now), None, "needing it does not shorten the pause");
        assert_eq!(coordinators.due(at).as_deref(), Some("g"));
        assert_eq!(coordinators.next_retry(), None);
    }

    #[test]
    fn the_map_is_bounded() {
        let mut coordinators = Coordinators::default();
        for n in 0..COORDINATORS_MAX + 100 {
            let group = format!("g{n}");
            coordinators.find(&group);
            coordinators.refused(&group);
        }
        assert!(coordinators.by_group.len() <= COORDINATORS_MAX);
    }
}
