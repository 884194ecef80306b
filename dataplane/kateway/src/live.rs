//! What a running gateway can be told to do otherwise: by a SIGHUP, when its configuration changed, and by a wish that
//! somebody left in the registry, which lies over the configuration until it is taken back or the process ends.
//!
//! A wish is obeyed as a whole or not at all. What is obeyed, or why it cannot be, is announced with the node.

use crate::config::Settings;
use daemon::keys::{Declare, Value, nearest};
use daemon::logging::{LogFilter, LogHandle};
use gateway::Gateway;
use registry::{NodeInfo, NodeState, NodeWish, RefusedWish, Registration, Registry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A registry that cannot be watched is asked again after this.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Values of the configuration keys that are `live`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    pub log_level: LogFilter,
    pub connections_per_address: usize,
    pub connections_per_app: usize,
    pub drain_delay: Duration,
    pub drain_limit: Duration,
    pub stale_after: Duration,
}

impl Live {
    pub fn of(settings: &Settings) -> Live {
        Live {
            log_level: settings.log.level.clone(),
            connections_per_address: settings.connections_per_address,
            connections_per_app: settings.connections_per_app,
            drain_delay: settings.drain_delay,
            drain_limit: settings.drain_limit,
            stale_after: settings.stale_after,
        }
    }

    /// Where there is no configuration.
    pub fn default_with(log_level: LogFilter) -> Live {
        let mut live = Live {
            log_level: log_level.clone(),
            connections_per_address: 0,
            connections_per_app: 0,
            drain_delay: Duration::ZERO,
            drain_limit: Duration::ZERO,
            stale_after: Duration::ZERO,
        };
        for key in Declare::of::<Settings>().keys.iter().filter(|key| key.is_live) {
            live.set(&key.path, key.default).expect("every default was tried when it was declared");
        }
        Live { log_level, ..live }
    }

    /// By key, as they are written.
    pub fn shown(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("log.level", self.log_level.as_str().to_owned()),
            ("limits.connections_per_address", self.connections_per_address.to_string()),
            ("limits.connections_per_app", self.connections_per_app.to_string()),
            ("drain.delay", format!("{}ms", self.drain_delay.as_millis())),
            ("drain.limit", format!("{}ms", self.drain_limit.as_millis())),
            ("tenants.stale_after", format!("{}ms", self.stale_after.as_millis())),
        ])
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        fn put<T: Value>(place: &mut T, text: &str) -> Result<(), String> {
            *place = T::parse(text)?;
            Ok(())
        }
        let taken = match key {
            "log.level" => put(&mut self.log_level, text),
            "limits.connections_per_address" => put(&mut self.connections_per_address, text),
            "limits.connections_per_app" => put(&mut self.connections_per_app, text),
            "drain.delay" => put(&mut self.drain_delay, text),
            "drain.limit" => put(&mut self.drain_limit, text),
            "tenants.stale_after" => put(&mut self.stale_after, text),
            _ => return Err(not_live(key)),
        };
        taken.map_err(|why| format!("{key}: {why}"))
    }

    fn with(&self, options: &BTreeMap<String, String>) -> Result<Live, String> {
        let mut live = self.clone();
        options.iter().try_for_each(|(key, text)| live.set(key, text))?;
        if live.drain_delay >= live.drain_limit {
            let (delay, limit) = (live.drain_delay, live.drain_limit);
            return Err(format!("drain.delay must be shorter than drain.limit; they would be {delay:?} and {limit:?}"));
        }
        Ok(live)
    }
}

fn not_live(key: &str) -> String {
    let keys = Declare::of::<Settings>().keys;
    if keys.iter().any(|declared| declared.path == key) {
        return format!("{key} is obeyed after a restart only; it belongs into the configuration");
    }
    let live: Vec<&str> = keys.iter().filter(|key| key.is_live).map(|key| key.path.as_str()).collect();
    match nearest(key, live.iter().copied()) {
        Some(near) => format!("there is no option {key}; did you mean {near}?"),
        None => format!("there is no option {key}, there are {}", live.join(", ")),
    }
}

/// The hands of whoever may tell this gateway something.
pub struct Controls {
    gateway: Arc<Gateway>,
    log: LogHandle,
    state: Mutex<State>,
}

struct State {
    configured: Live,
    wish: NodeWish,
    in_force: Live,
}

impl Controls {
    pub fn new(gateway: Arc<Gateway>, log: LogHandle, configured: Live) -> Controls {
        let state = State { in_force: configured.clone(), wish: NodeWish::default(), configured };
        let controls = Controls { gateway, log, state: Mutex::new(state) };
        controls.bring_into_force(&mut controls.lock());
        controls
    }

    pub fn in_force(&self) -> Live {
        self.lock().in_force.clone()
    }

    /// What this node would say to options.
    pub fn check(&self, options: &BTreeMap<String, String>) -> Result<(), String> {
        self.lock().configured.with(options).map(drop)
    }

    /// The configuration is another one. What was wished lies over it as before.
    pub fn reload(&self, configured: Live) {
        let mut state = self.lock();
        state.configured = configured;
        let in_force = state.configured.with(&state.wish.options);
        state.in_force = in_force.unwrap_or_else(|why| {
            tracing::error!(why, "the wish does not go with the new configuration, which is obeyed without it");
            state.configured.clone()
        });
        self.bring_into_force(&mut state);
    }

    fn obey(&self, wish: &NodeWish) -> Result<(), String> {
        let mut state = self.lock();
        state.in_force = state.configured.with(&wish.options)?;
        state.wish = wish.clone();
        self.bring_into_force(&mut state);
        Ok(())
    }

    fn bring_into_force(&self, state: &mut State) {
        let board = &self.gateway.board;
        self.log.set_level(&state.in_force.log_level);
        board.by_address.set_max(state.in_force.connections_per_address);
        board.ledger.connections.set_max(state.in_force.connections_per_app);
        board.set_resting(state.wish.drain);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Obeys what is wished of this node, and announces that. Ends with the registry.
pub async fn follow(
    controls: Arc<Controls>,
    registry: Arc<dyn Registry>,
    registration: Arc<Registration>,
    node: NodeInfo,
) {
    let mut wished = loop {
        match registry.watch_wish(&node).await {
            Ok(wished) => break wished,
            Err(err) => tracing::debug!(%err, "what is wished of this node cannot be asked yet"),
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    };
    drop(registry);
    let mut seen = 0;
    loop {
        let wish = wished.borrow_and_update().clone();
        if let Some(wish) = wish.filter(|wish| wish.revision > seen) {
            seen = wish.revision;
            let obeyed = controls.obey(&wish);
            tell(&wish, &obeyed);
            registration.update(|node| announce(node, wish, obeyed));
        }
        if wished.changed().await.is_err() {
            return;
        }
    }
}

fn tell(wish: &NodeWish, obeyed: &Result<(), String>) {
    let NodeWish { revision, drain, options, .. } = wish;
    match obeyed {
        Ok(()) => tracing::info!(revision, drain, ?options, "obeying a wish"),
        Err(why) => tracing::error!(revision, why, "a wish cannot be obeyed"),
    }
}

fn announce(node: &mut NodeInfo, wish: NodeWish, obeyed: Result<(), String>) {
    match obeyed {
        Ok(()) => {
            node.state = if wish.drain { NodeState::Draining } else { NodeState::Serving };
            (node.obeys, node.refuses) = (Some(wish), None);
        }
        Err(why) => node.refuses = Some(RefusedWish { revision: wish.revision, why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live::default_with(LogFilter::parse("info").expect("a filter"))
    }

    /// Of each kind of value one that is no default.
    fn other(key: &str) -> &'static str {
        match key {
            "log.level" => "debug",
            "drain.limit" => "9s",
            _ if key.starts_with("limits.") => "17",
            _ => "3s",
        }
    }

    #[test]
    fn every_key_that_is_declared_live_can_be_wished_and_no_other() {
        let live = live();
        let with = |key: &str| live.with(&BTreeMap::from([(key.to_owned(), other(key).to_owned())]));
        let keys = Declare::of::<Settings>().keys;
        for key in &keys {
            match with(&key.path) {
                Ok(changed) => {
                    assert!(key.is_live, "{} is declared to need a restart", key.path);
                    assert_ne!(changed.shown()[key.path.as_str()], live.shown()[key.path.as_str()], "{}", key.path);
                }
                Err(why) => assert!(!key.is_live && why.contains("after a restart"), "{}: {why}", key.path),
            }
        }
        let declared: Vec<&str> = keys.iter().filter(|key| key.is_live).map(|key| key.path.as_str()).collect();
        assert_eq!(live.shown().len(), declared.len());
        assert!(declared.len() >= 6, "{declared:?}");
    }

    #[test]
    fn what_is_shown_is_what_would_be_written() {
        let live = live();
        let written = live.shown().into_iter().map(|(key, text)| (key.to_owned(), text)).collect();
        assert_eq!(live.with(&written), Ok(live));
    }

    #[test]
    fn what_cannot_be_obeyed_is_told_with_the_nearest_that_can() {
        let rows = [
            (
                "limits.connection_per_app",
                "1",
                "there is no option limits.connection_per_app; did you mean limits.connections_per_app?",
            ),
            ("listen.pub", "1", "listen.pub is obeyed after a restart only; it belongs into the configuration"),
            ("log.level", "inf", "log.level: `inf` is no level; did you mean `info`?"),
            ("drain.delay", "1h", "drain.delay must be shorter than drain.limit; they would be 3600s and 7s"),
            (
                "limits.connections_per_app",
                "many",
                "limits.connections_per_app: expected a whole number, at least 0, found `many`",
            ),
        ];
        for (key, text, expected) in rows {
            let refused = live().with(&BTreeMap::from([(key.to_owned(), text.to_owned())]));
            assert_eq!(refused, Err(expected.to_owned()), "{key}");
        }
    }
}
