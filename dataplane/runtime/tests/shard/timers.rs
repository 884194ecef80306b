//! Time while a shard is busy: what monoio 0.2.4 starves, and what `yield_now` rescues.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use runtime::mailbox::mailbox;
use runtime::{spawn, time};

use crate::common::on_every_driver;

#[test]
fn timers_and_foreign_wakes_arrive_while_tasks_do_nothing_but_yield() {
    on_every_driver(|driver| async move {
        let stop = Rc::new(Cell::new(false));
        let turns = Rc::new(Cell::new(0u64));
        for _ in 0..3 {
            let (stop, turns) = (stop.clone(), turns.clone());
            spawn(async move {
                while !stop.get() {
                    turns.set(turns.get() + 1);
                    time::yield_now().await;
                }
            });
        }
        let started = Instant::now();
        for _ in 0..5 {
            time::sleep(Duration::from_millis(2)).await;
        }
        let late = started.elapsed();
        assert!(late < Duration::from_secs(2), "{driver}: five timers of 2 ms took {late:?}");

        let (sender, mut receiver) = mailbox(4);
        let thread = std::thread::spawn(move || {
            for value in 0..4 {
                std::thread::sleep(Duration::from_millis(1));
                sender.try_send(value).expect("room");
            }
        });
        let mut seen = Vec::new();
        while let Some(value) = receiver.recv().await {
            seen.push(value);
        }
        assert_eq!(seen, [0, 1, 2, 3], "{driver}");
        thread.join().expect("sender");
        stop.set(true);
        // Far more than one turn per millisecond: yielding does not wait for the clock.
        assert!(turns.get() > 100, "{driver}: only {} turns", turns.get());
    });
}

#[test]
fn a_yielding_task_lets_the_others_run_in_between() {
    on_every_driver(|driver| async move {
        let turns = Rc::new(Cell::new(0u32));
        let other = turns.clone();
        let task = spawn(async move {
            for _ in 0..100 {
                other.set(other.get() + 1);
                time::yield_now().await;
            }
        });
        for turn in 0..50 {
            time::yield_now().await;
            assert!(turns.get() + 5 > turn, "{driver}: the other task had {} of {turn} turns", turns.get());
        }
        task.await;
    });
}

#[test]
fn timeouts_fire_on_time_and_a_moved_deadline_counts() {
    on_every_driver(|_| async {
        let started = Instant::now();
        assert_eq!(time::timeout(Duration::from_millis(5), std::future::pending::<()>()).await, Err(time::Elapsed));
        assert!(started.elapsed() >= Duration::from_millis(5));
        assert_eq!(time::timeout(Duration::ZERO, async { 3 }).await, Ok(3), "a ready future wins");

        let mut sleep = std::pin::pin!(time::sleep(Duration::from_secs(3600)));
        sleep.as_mut().reset(Instant::now() + Duration::from_millis(1));
        sleep.await;
        time::sleep_until(Instant::now() - Duration::from_secs(1)).await;
    });
}
