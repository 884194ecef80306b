//! Keeps who guesses passwords, or deletes groups in a loop, from pushing everything else out of the audit log.
//!
//! The first events of a kind pass at once; those beyond, within a minute of the first, are counted, and one event at the
//! minute's end says how many they were. For logins it stays at that while it goes on: one event a minute. What is of a kind
//! has the same key: what, from which address (of logins), which app. So rows a minute are at most
//!
//! ```text
//! one address that tries one app     1 (in the first minute 2)
//! one address that invents apps      as above for each of AUDIT_ADDRESS_KEYS_MAX apps, and for all others together
//! any number of addresses            as above for each of AUDIT_KEYS_MAX keys, and for all others together
//! an app's deletions                 DELETIONS_MAX, and 1
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use model::{AuditEvent, AuditWhat};

use crate::limits::{AUDIT_ADDRESS_KEYS_MAX, AUDIT_KEYS_MAX, AUDIT_WINDOW};

/// Of one app that pass in a minute: the names of what was deleted are worth a row.
const DELETIONS_MAX: u32 = 60;
/// Sessions of one app that end.
const REVOCATIONS_MAX: u32 = 10;

fn free(what: &AuditWhat) -> u32 {
    match what {
        what if what.is_login() => 1,
        what if what.is_of_app() => DELETIONS_MAX,
        _ => REVOCATIONS_MAX,
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    what: AuditWhat,
    /// `None`: any.
    address: Option<IpAddr>,
    /// Empty: of no app, or of those for which there was no place.
    app: String,
}

struct Window {
    began: Instant,
    passed: u32,
    counted: Option<AuditEvent>,
}

#[derive(Default)]
pub(super) struct Gate {
    windows: HashMap<Key, Window>,
}

impl Gate {
    /// The event, if it is to be told at once.
    pub(super) fn pass(&mut self, event: AuditEvent, now: Instant) -> Option<AuditEvent> {
        let (key, free) = (self.key(&event), free(&event.what));
        let window = self.windows.entry(key).or_insert(Window { began: now, passed: 0, counted: None });
        if window.passed < free {
            window.passed += 1;
            return Some(event);
        }
        window.counted = Some(match window.counted.take() {
            Some(before) => together(before, event),
            None => event,
        });
        None
    }

    /// What was counted in minutes that are over.
    pub(super) fn counted(&mut self, now: Instant) -> Vec<AuditEvent> {
        let mut counted = Vec::new();
        self.windows.retain(|key, window| {
            if now.saturating_duration_since(window.began) < AUDIT_WINDOW {
                return true;
            }
            let Some(event) = window.counted.take() else { return false };
            counted.push(event);
            window.began = now;
            if !key.what.is_login() {
                window.passed = 0;
            }
            true
        });
        counted
    }

    /// What was counted until now.
    pub(super) fn counted_so_far(&mut self) -> Vec<AuditEvent> {
        self.windows.drain().filter_map(|(_, window)| window.counted).collect()
    }

    /// With whom an event is counted. Memory is bounded: for whom there is no place, there is one for all of them.
    fn key(&self, event: &AuditEvent) -> Key {
        let what = event.what.clone();
        let address = event.address().filter(|_| what.is_login());
        let own = Key { what: what.clone(), address, app: event.app.clone() };
        if self.windows.contains_key(&own) {
            return own;
        }
        if self.windows.len() >= AUDIT_KEYS_MAX {
            return Key { what, address: None, app: String::new() };
        }
        let of_address = || self.windows.keys().filter(|key| key.address == address && key.what == what).count();
        if address.is_some() && of_address() >= AUDIT_ADDRESS_KEYS_MAX {
            return Key { app: String::new(), ..own };
        }
        own
    }
}

/// Two as one: the later one, without what is not true of both.
fn together(before: AuditEvent, event: AuditEvent) -> AuditEvent {
    AuditEvent {
        count: before.count.saturating_add(event.count),
        app: if before.app == event.app { event.app } else { String::new() },
        side: event.side.filter(|_| before.side == event.side),
        peer: event.peer.filter(|peer| before.peer.is_some_and(|before| before.ip() == peer.ip())),
        ..event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn event(what: AuditWhat, address: &str, app: &str) -> AuditEvent {
        AuditEvent::new(0, what, app, format!("{address}:1").parse().unwrap(), "")
    }

    fn failed(address: &str, app: &str) -> AuditEvent {
        event(AuditWhat::KafkaLoginFailed, address, app)
    }

    fn shown(events: &[AuditEvent]) -> Vec<String> {
        let shown = |event: &AuditEvent| {
            let address = event.address().map_or("-".to_owned(), |address| address.to_string());
            format!("{address} {} {}", event.app, event.count)
        };
        events.iter().map(shown).collect()
    }

    #[test]
    fn who_guesses_has_one_row_at_once_and_one_a_minute_with_the_count() {
        let (mut gate, begin) = (Gate::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let (mut passed, mut counted) = (0, Vec::new());
        for second in 0..=180 {
            passed += (0..10).filter(|_| gate.pass(failed("10.0.0.1", "shop"), at(second)).is_some()).count();
            counted.extend(gate.counted(at(second)));
        }
        assert_eq!(
            (passed, shown(&counted)),
            (1, ["10.0.0.1 shop 609", "10.0.0.1 shop 600", "10.0.0.1 shop 600"].map(str::to_owned).to_vec())
        );
        assert!(gate.pass(failed("10.0.0.2", "shop"), at(181)).is_some(), "somebody else is not counted with it");
        // A quiet minute, and it is as if nothing had been.
        assert_eq!(gate.counted(at(241)).len(), 0);
        assert_eq!((gate.counted(at(301)).len(), gate.windows.len()), (0, 0));
        assert!(gate.pass(failed("10.0.0.1", "shop"), at(302)).is_some());
    }

    #[test]
    fn who_invents_apps_or_addresses_is_counted_with_the_others_who_do() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let passed =
            (0..1_000).filter(|app| gate.pass(failed("10.0.0.1", &format!("app{app}")), now).is_some()).count();
        assert_eq!(passed, AUDIT_ADDRESS_KEYS_MAX + 1);
        let passed = (0..10_000)
            .filter(|n| gate.pass(failed(&format!("10.1.{}.{}", n / 250, n % 250), "shop"), now).is_some())
            .count();
        assert!(passed <= AUDIT_KEYS_MAX + 1 && gate.windows.len() <= AUDIT_KEYS_MAX + 1, "{passed}");
        let counted = gate.counted(now + AUDIT_WINDOW);
        let rest = |events: usize| 1_000 - (AUDIT_ADDRESS_KEYS_MAX + 1) + 10_000 - events;
        assert_eq!(counted.len(), 2);
        assert_eq!(counted.iter().map(|event| event.count).sum::<u64>() as usize, rest(passed));
        let mut shown = shown(&counted);
        shown.sort();
        assert_eq!(shown[0], format!("- shop {}", 10_000 - passed), "of several addresses");
        assert!(shown[1].starts_with("10.0.0.1  "), "of several apps: {shown:?}");
    }

    #[test]
    fn deletions_have_their_rows_until_they_are_a_flood() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let deleted = || event(AuditWhat::KafkaGroupsDeleted, "10.0.0.1", "shop");
        for round in 0..2 {
            let now = now + round * AUDIT_WINDOW;
            assert_eq!((0..100).filter(|_| gate.pass(deleted(), now).is_some()).count(), 60);
            assert_eq!(shown(&gate.counted(now + AUDIT_WINDOW)), ["10.0.0.1 shop 40"]);
        }
        gate.pass(failed("10.0.0.1", "shop"), now);
        gate.pass(failed("10.0.0.1", "shop"), now);
        assert_eq!((shown(&gate.counted_so_far()), gate.windows.len()), (vec!["10.0.0.1 shop 1".to_owned()], 0));
    }
}
