//! A registration and a leader while the registry fails, on the double in memory and in paused time.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{gateway, soon};
use registry::limits::{ANNOUNCE_PERIOD_MIN, END_TIMEOUT, RETRY_MAX};
use registry::memory::{Fail, Faults, MemoryEnsemble, SESSION_TIMEOUT};
use registry::{AppliedGeneration, ConnectionState, NodeInfo, NodeKind, Registration, Registry, RegistryError};
use tokio::time::{Instant, sleep};

struct World {
    ensemble: MemoryEnsemble,
    registry: Arc<dyn Registry>,
    faults: Faults,
}

impl World {
    fn new() -> World {
        let ensemble = MemoryEnsemble::default();
        let registry = ensemble.open();
        let faults = registry.faults();
        World { ensemble, registry: Arc::new(registry), faults }
    }

    /// As others see them.
    async fn nodes(&self) -> Vec<NodeInfo> {
        self.ensemble.open().nodes(None).await.unwrap()
    }

    async fn registered(&self) -> Registration {
        let registration = Registration::keep(Arc::clone(&self.registry), gateway("gw-1"));
        soon(registration.registered()).await;
        registration
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_interruption_keeps_the_session_and_a_long_one_loses_it() {
    let world = World::new();
    world.registry.register(&gateway("gw-1")).await.unwrap();
    let before = *world.registry.connection().borrow();

    world.faults.suspend();
    assert_eq!(*world.registry.connection().borrow(), ConnectionState::Suspended);
    assert!(matches!(world.registry.nodes(None).await, Err(RegistryError::Away { .. })));
    sleep(SESSION_TIMEOUT / 2).await;
    assert_eq!(world.nodes().await, [gateway("gw-1")]);
    world.faults.reconnect();
    assert_eq!(*world.registry.connection().borrow(), before);
    // Several short ones are no long one.
    world.faults.suspend();
    sleep(SESSION_TIMEOUT * 3 / 4).await;
    world.faults.reconnect();
    sleep(SESSION_TIMEOUT * 2).await;
    assert_eq!(*world.registry.connection().borrow(), before);
    assert_eq!(world.nodes().await, [gateway("gw-1")]);

    world.faults.suspend();
    sleep(SESSION_TIMEOUT + Duration::from_millis(1)).await;
    assert_eq!(*world.registry.connection().borrow(), ConnectionState::SessionLost);
    assert_eq!(world.nodes().await, []);
    world.faults.reconnect();
    assert_ne!(*world.registry.connection().borrow(), before);
}

#[tokio::test(start_paused = true)]
async fn a_registration_survives_calls_that_fail_before_or_after_their_effect() {
    for fail in [Fail::Before, Fail::After] {
        let world = World::new();
        world.faults.fail_next_call(fail);
        let registration = world.registered().await;
        assert_eq!(world.nodes().await, [gateway("gw-1")], "{fail:?}");
        world.faults.fail_next_call(fail);
        registration.end().await;
        assert_eq!(world.nodes().await, [], "{fail:?}");
        assert_eq!(world.faults.call_count(), 4, "{fail:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_goes_on_failing_is_tried_ever_more_slowly() {
    let world = World::new();
    world.ensemble.open(); // Gone at once.
    let holder = world.ensemble.open();
    holder.register(&gateway("gw-1")).await.unwrap();
    let _registration = Registration::keep(Arc::clone(&world.registry), gateway("gw-1"));
    sleep(Duration::from_secs(3600)).await;
    let count = world.faults.call_count();
    let least = 3600 / RETRY_MAX.as_secs();
    assert!((least..least + 20).contains(&count), "{count} calls in an hour");
}

#[tokio::test(start_paused = true)]
async fn changes_that_follow_each_other_quickly_go_out_together() {
    let world = World::new();
    let registration = world.registered().await;
    for number in 0..1000 {
        registration.update_applied(AppliedGeneration { history: "h".to_owned(), number });
        sleep(Duration::from_millis(1)).await;
    }
    sleep(ANNOUNCE_PERIOD_MIN).await;
    assert_eq!(world.nodes().await[0].applied.as_ref().unwrap().number, 999);
    let most = 2 + 1000 / ANNOUNCE_PERIOD_MIN.as_millis() as u64;
    assert!((3..=most + 1).contains(&world.faults.call_count()), "{} calls", world.faults.call_count());

    // After a quiet time a change goes out at once: a revocation waits for it.
    sleep(ANNOUNCE_PERIOD_MIN).await;
    let before = Instant::now();
    registration.update(|node| node.zone = "elsewhere".to_owned());
    let mut seen = world.registry.watch(None).await.unwrap();
    soon(seen.wait_for(|nodes| nodes[0].zone == "elsewhere")).await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_of_a_registry_that_is_away_and_what_changed_meanwhile_is_announced() {
    let world = World::new();
    let registration = world.registered().await;
    world.faults.suspend();
    registration.update(|node| node.zone = "elsewhere".to_owned());
    sleep(3 * SESSION_TIMEOUT).await;
    assert_eq!(world.faults.call_count(), 1);
    assert!(!registration.is_registered());
    world.faults.reconnect();
    soon(registration.registered()).await;
    assert_eq!(world.nodes().await, [NodeInfo { zone: "elsewhere".to_owned(), ..gateway("gw-1") }]);
}

#[tokio::test(start_paused = true)]
async fn after_a_short_interruption_the_node_is_still_registered() {
    let world = World::new();
    let registration = world.registered().await;
    world.faults.suspend();
    sleep(SESSION_TIMEOUT / 2).await;
    assert!(!registration.is_registered(), "nobody knows");
    world.faults.reconnect();
    soon(registration.registered()).await;
    assert_eq!(world.faults.call_count(), 1, "there was nothing to do");
}

/// The states in between come too quickly to be seen: another session number is enough.
#[tokio::test(start_paused = true)]
async fn a_session_lost_and_regained_unseen_is_noticed() {
    let world = World::new();
    let _registration = world.registered().await;
    world.faults.lose_session();
    world.faults.reconnect();
    assert_eq!(world.nodes().await, []);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(world.nodes().await, [gateway("gw-1")]);
}

#[tokio::test(start_paused = true)]
async fn a_session_lost_during_the_call_that_registers_is_noticed() {
    // On the way there, where it is registered in the next session, and on the way back.
    for lost_after_ms in [2, 8] {
        let world = World::new();
        world.faults.delay_calls(Duration::from_millis(10));
        let registration = Registration::keep(Arc::clone(&world.registry), gateway("gw-1"));
        sleep(Duration::from_millis(lost_after_ms)).await;
        world.faults.lose_session();
        world.faults.reconnect();
        sleep(Duration::from_millis(50)).await;
        assert!(registration.is_registered());
        assert_eq!(world.nodes().await, [gateway("gw-1")], "lost after {lost_after_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn ending_waits_for_the_call_under_way_but_not_for_a_registry_that_is_away() {
    let world = World::new();
    world.faults.delay_calls(Duration::from_millis(100));
    let registration = Registration::keep(Arc::clone(&world.registry), gateway("gw-1"));
    sleep(Duration::from_millis(50)).await;
    let before = Instant::now();
    registration.end().await;
    assert_eq!(before.elapsed(), Duration::from_millis(150));
    assert_eq!(world.nodes().await, []);

    let world = World::new();
    let registration = world.registered().await;
    world.faults.suspend();
    let before = Instant::now();
    registration.end().await;
    assert_eq!(before.elapsed(), END_TIMEOUT);
    // It is taken back when the registry is there again.
    world.faults.reconnect();
    sleep(RETRY_MAX).await;
    assert_eq!(world.nodes().await, []);

    let world = World::new();
    let registration = world.registered().await;
    world.faults.lose_session();
    let before = Instant::now();
    registration.end().await;
    assert_eq!(before.elapsed(), Duration::ZERO, "there is nothing to take back");
}

#[tokio::test(start_paused = true)]
async fn an_interruption_leaves_the_leader_in_place_until_the_session_is_lost() {
    let world = World::new();
    let leadership = soon(world.registry.campaign("jobs", "gw-1")).await.unwrap();
    let other = world.ensemble.open();
    world.faults.suspend();
    sleep(SESSION_TIMEOUT / 2).await;
    assert!(!leadership.is_lost());
    let before = Instant::now();
    let next = soon(other.campaign("jobs", "gw-2")).await.unwrap();
    assert_eq!(before.elapsed(), SESSION_TIMEOUT / 2);
    soon(leadership.lost()).await;
    assert!(next.epoch() > leadership.epoch());
}

/// Which of the two the registry notices first is chance, hence the repetition.
#[tokio::test(start_paused = true)]
async fn resigning_what_was_lost_just_now_does_not_touch_the_next_leader() {
    for _ in 0..32 {
        let world = World::new();
        let other = world.ensemble.open();
        let former = soon(world.registry.campaign("jobs", "gw-1")).await.unwrap();
        world.faults.lose_session();
        let next = soon(other.campaign("jobs", "gw-2")).await.unwrap();
        drop(former);
        sleep(Duration::from_millis(1)).await;
        assert!(!next.is_lost());
        assert_eq!(other.leader("jobs").await.unwrap().unwrap().epoch, next.epoch());
    }
}

#[tokio::test(start_paused = true)]
async fn a_campaign_ends_with_its_session_and_one_whose_answer_was_lost_holds_nothing() {
    let world = World::new();
    let other = world.ensemble.open();
    let leadership = soon(other.campaign("jobs", "gw-2")).await.unwrap();
    let faults = world.faults.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        faults.lose_session();
    });
    let err = soon(world.registry.campaign("jobs", "gw-1")).await.unwrap_err();
    assert!(err.can_retry(), "{err}");
    soon(leadership.resign()).await;
    world.faults.reconnect();
    for fail in [Fail::Before, Fail::After] {
        world.faults.fail_next_call(fail);
        assert!(soon(world.registry.campaign("jobs", "gw-1")).await.is_err(), "{fail:?}");
        soon(other.campaign("jobs", "gw-2")).await.unwrap().resign().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_keeps_what_it_knows_while_the_registry_is_away_and_catches_up() {
    let world = World::new();
    let other = world.ensemble.open();
    other.register(&gateway("gw-2")).await.unwrap();
    let mut nodes = world.registry.watch(Some(NodeKind::Kateway)).await.unwrap();
    world.faults.suspend();
    drop(other);
    sleep(3 * SESSION_TIMEOUT).await;
    assert_eq!(*nodes.borrow(), [gateway("gw-2")], "being away proves nobody dead");
    world.faults.reconnect();
    soon(nodes.wait_for(|nodes| nodes.is_empty())).await.unwrap();
}
