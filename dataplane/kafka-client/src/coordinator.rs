//! Which broker coordinates which consumer group: asked once, kept until somebody says it is wrong.

use std::time::Instant;

use kafka_wire::WireError;
use kafka_wire::cold::{RequestKind, types};
use kafka_wire::error_code::ErrorCode;

use crate::backoff::Backoff;
use crate::limits::COORDINATORS_MAX;

/// From version 4 several groups fit into one request (KIP-699); we ask for one.
const BATCHED_FROM: i16 = 4;
const KEY_TYPE_GROUP: i8 = 0;

/// What is known about one group's coordinator.
#[derive(Debug, Default)]
pub(crate) struct Coordinator {
    /// Index in the cluster.
    pub broker: Option<u32>,
    pub wanted: bool,
    pub asking: bool,
    pub retry_at: Option<Instant>,
    pub backoff: Backoff,
}

/// All groups somebody asked for.
#[derive(Debug, Default)]
pub(crate) struct Coordinators {
    by_group: foldhash::HashMap<String, Coordinator>,
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
        if let Some(coordinator) = self.by_group.get_mut(group) {
            coordinator.wanted |= coordinator.broker.is_none();
            return coordinator.broker;
        }
        if self.by_group.len() >= COORDINATORS_MAX {
            // Forgetting costs one lookup; those being asked for stay.
            let victim = self.by_group.iter().find(|(_, c)| !c.asking && !c.wanted).map(|(group, _)| group.clone());
            if let Some(victim) = victim {
                self.by_group.remove(&victim);
            }
        }
        self.by_group.insert(group.to_owned(), Coordinator { wanted: true, ..Coordinator::default() });
        None
    }

    pub fn forget(&mut self, group: &str) {
        if let Some(coordinator) = self.by_group.get_mut(group) {
            coordinator.broker = None;
        }
    }

    /// A group whose coordinator should be asked for now.
    pub fn due(&self, now: Instant) -> Option<String> {
        self.by_group
            .iter()
            .find(|(_, c)| c.wanted && !c.asking && c.retry_at.is_none_or(|at| at <= now))
            .map(|(group, _)| group.clone())
    }

    pub fn get_mut(&mut self, group: &str) -> Option<&mut Coordinator> {
        self.by_group.get_mut(group)
    }

    pub fn retry_times(&self) -> impl Iterator<Item = Instant> {
        self.by_group.values().filter(|c| c.wanted && !c.asking).filter_map(|c| c.retry_at)
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
        let coordinator = coordinators.get_mut("g").unwrap();
        coordinator.broker = Some(3);
        coordinator.wanted = false;
        assert_eq!((coordinators.find("g"), coordinators.due(now)), (Some(3), None));
        coordinators.forget("g");
        assert_eq!(coordinators.due(now), None, "nobody needs it yet");
        assert_eq!(coordinators.find("g"), None);
        assert_eq!(coordinators.due(now).as_deref(), Some("g"));
    }

    #[test]
    fn the_map_is_bounded() {
        let mut coordinators = Coordinators::default();
        for n in 0..COORDINATORS_MAX + 100 {
            let group = format!("g{n}");
            coordinators.find(&group);
            coordinators.get_mut(&group).unwrap().wanted = false;
        }
        assert!(coordinators.by_group.len() <= COORDINATORS_MAX);
    }
}
