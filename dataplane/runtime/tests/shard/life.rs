//! Starting, ending and failing.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use runtime::crew::{Crew, Roll};
use runtime::mailbox::mailbox;
use runtime::net::{self, Listener};
use runtime::{Driver, ShardOptions, race, spawn, spawn_shard, time};

use crate::common::on_every_driver;

#[test]
fn a_forced_driver_is_the_one_that_runs_and_unforced_takes_the_first_that_works() {
    let forced = on_every_driver(|driver| async move { driver });
    for (asked, got) in &forced {
        assert_eq!(asked, got);
    }
    let chosen = spawn_shard(ShardOptions::default(), |driver| async move { driver });
    assert_eq!(chosen.expect("a driver").join().expect("no panic"), forced[0].0);
}

#[test]
fn driver_names_are_the_ones_of_the_variable() {
    for (name, driver) in
        [("coop", Some(Driver::IoUringCoop)), ("uring", Some(Driver::IoUring)), ("epoll", Some(Driver::Epoll))]
    {
        assert_eq!(name.parse().ok(), driver);
    }
    let err = "kqueue".parse::<Driver>().expect_err("not a driver");
    assert_eq!(err.to_string(), "unknown driver \"kqueue\": use coop, uring or epoll");
}

#[test]
fn an_impossible_cpu_is_a_warning_not_a_failure() {
    let options = ShardOptions { cpu: Some(1_000_000), ..ShardOptions::default() };
    spawn_shard(options, |_| async {}).expect("starts").join().expect("ends");
}

#[test]
fn a_pinned_shard_runs_on_its_cpu() {
    let options = ShardOptions { cpu: Some(0), ..ShardOptions::default() };
    let cpu = spawn_shard(options, |_| async { rustix::thread::sched_getcpu() }).expect("starts").join();
    assert_eq!(cpu.expect("ends"), 0);
}

#[test]
fn a_panic_in_main_surfaces_at_join() {
    for driver in Driver::ALL {
        let options = ShardOptions { force: Some(driver), ..ShardOptions::default() };
        let Ok(thread) = spawn_shard(options, |_| async {
            time::sleep(Duration::from_millis(1)).await;
            panic!("main is broken");
        }) else {
            continue;
        };
        let payload = thread.join().expect_err("the panic");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"main is broken"));
    }
}

#[test]
fn a_panic_in_a_task_ends_its_shard_and_closes_its_sockets() {
    for driver in Driver::ALL {
        let (addr, listener) = net::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let options = ShardOptions { force: Some(driver), ..ShardOptions::default() };
        let Ok(thread) = spawn_shard(options, move |_| async move {
            let listener = Listener::from_std(listener).expect("listener");
            let (stream, _) = listener.accept().await.expect("a client");
            spawn(async move {
                let _ = stream.readable().await;
                panic!("task is broken");
            });
            std::future::pending::<()>().await;
        }) else {
            continue;
        };
        let mut client = std::net::TcpStream::connect(addr).expect("connect");
        std::io::Write::write_all(&mut client, b"x").expect("write");
        // End of stream or reset, but not for ever.
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        let closed = client.read(&mut [0; 8]);
        assert!(
            !matches!(&closed, Err(err) if err.kind() == std::io::ErrorKind::WouldBlock),
            "{driver}: still open: {closed:?}"
        );
        assert_eq!(thread.join().expect_err("the panic").downcast_ref::<&str>(), Some(&"task is broken"));
    }
}

/// Went wrong: what panicked while it was dropped took the rest of the closing with it, and the listener stayed open.
#[test]
fn a_panic_in_a_drop_is_told_and_everything_else_is_closed_all_the_same() {
    struct Broken;
    impl Drop for Broken {
        fn drop(&mut self) {
            panic!("drop is broken");
        }
    }
    for driver in Driver::ALL {
        let (addr, listener) = net::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let crew = Crew::new(Roll::new(1));
        let options = ShardOptions { force: Some(driver), ..ShardOptions::default() };
        let started = crew.start(options, move |_| async move {
            spawn(async {
                let _broken = Broken;
                std::future::pending::<()>().await;
            });
            spawn(async move {
                let listener = Listener::from_std(listener).expect("listener");
                let _ = listener.accept().await;
            });
            time::sleep(Duration::from_millis(5)).await;
        });
        if started.is_err() {
            continue;
        }
        let fallen = crew.join().expect_err("the panic");
        assert_eq!(fallen.to_string(), "shard 0 panicked: drop is broken", "{driver}");
        assert!(std::net::TcpStream::connect(addr).is_err(), "{driver}: the listener is closed");
    }
}

#[test]
fn when_a_shard_falls_the_roll_knows_and_the_others_get_all_new_connections() {
    const CLIENTS: usize = 50;
    for driver in Driver::ALL {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let (addr, listeners) = net::bind_reuseport(any, 2).expect("a free port");
        let roll = Roll::new(2);
        let crew = Crew::new(roll.clone());
        let (fall, falls) = mailbox::<()>(1);
        let mut falls = Some(falls);
        let mut is_started = true;
        for (shard, listener) in listeners.into_iter().enumerate() {
            let falls = if shard == 1 { falls.take() } else { None };
            let options = ShardOptions { force: Some(driver), ..ShardOptions::default() };
            is_started &= crew
                .start(options, move |_| async move {
                    spawn(async move {
                        let listener = Listener::from_std(listener).expect("listener");
                        while let Ok((mut stream, _)) = listener.accept().await {
                            let _ = stream.write_all([b"0", b"1"][shard].as_slice().into()).await;
                        }
                    });
                    let Some(mut falls) = falls else { return time::sleep(Duration::from_secs(2)).await };
                    spawn(async move {
                        falls.recv().await;
                        panic!("told\nto fall");
                    });
                    std::future::pending().await
                })
                .is_ok();
        }
        if !is_started {
            continue;
        }
        assert!(!roll.has_fallen(1) && crew.fallen().is_empty());
        fall.try_send(()).expect("it listens");
        while !roll.has_fallen(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(roll.reasons(), ["shard 1 has failed"]);
        // It closes its sockets right after it has fallen.
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..CLIENTS {
            let mut client = std::net::TcpStream::connect(addr).expect("connect");
            client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
            let mut answer = [0];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(answer, *b"0", "{driver}");
        }
        assert!(!crew.is_finished(), "the other one is at work");
        let fallen = crew.join().expect_err("the panic");
        assert_eq!((fallen.shard, fallen.message.as_str()), (1, "told to fall"));
    }
}

#[test]
fn when_main_returns_waiting_tasks_are_dropped_and_their_sockets_closed() {
    struct Dropped(std::sync::mpsc::Sender<&'static str>, &'static str);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    for driver in Driver::ALL {
        let (addr, listener) = net::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let (dropped, drops) = std::sync::mpsc::channel();
        let options = ShardOptions { force: Some(driver), ..ShardOptions::default() };
        let Ok(thread) = spawn_shard(options, move |_| async move {
            let listener = Listener::from_std(listener).expect("listener");
            let (stream, _) = listener.accept().await.expect("a client");
            let (in_poll, in_timer) = (Dropped(dropped.clone(), "poll"), Dropped(dropped, "timer"));
            spawn(async move {
                let _kept = in_poll;
                let _ = stream.readable().await;
            });
            spawn(async move {
                let _kept = in_timer;
                time::sleep(Duration::from_secs(3600)).await;
            });
            time::yield_now().await;
        }) else {
            continue;
        };
        let mut client = std::net::TcpStream::connect(addr).expect("connect");
        thread.join().expect("no panic");
        let mut seen: Vec<_> = drops.try_iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, ["poll", "timer"], "{driver}");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
        assert_eq!(client.read(&mut [0; 8]).expect("end of stream"), 0, "{driver}");
        // The port is free again at once.
        net::bind(addr).expect("rebind");
    }
}

#[test]
fn an_aborted_task_gives_none_and_a_finished_one_its_value() {
    on_every_driver(|_| async {
        let done = spawn(async { 7 });
        let endless = spawn(std::future::pending::<()>());
        time::yield_now().await;
        endless.abort();
        assert_eq!(endless.await, None);
        assert!(done.is_finished());
        done.abort();
        assert_eq!(done.await, Some(7));
    });
}

#[test]
fn race_takes_the_first_and_drops_the_other() {
    on_every_driver(|_| async {
        let notify = runtime::notify::Notify::new();
        let lost = race(time::sleep(Duration::from_millis(2)), notify.notified()).await;
        assert_eq!(lost, runtime::Either::First(()));
        notify.notify();
        notify.notify();
        let won = race(notify.notified(), std::future::pending::<()>()).await;
        assert_eq!(won, runtime::Either::First(()));
        assert!(!notify.take(), "many notifications before a wait are one");
    });
}

#[test]
fn a_notification_wakes_a_waiting_task_and_is_not_lost_by_a_dropped_waiter() {
    on_every_driver(|_| async {
        let notify = runtime::notify::Notify::new();
        let seen = Rc::new(Cell::new(0));
        let task = {
            let (notify, seen) = (notify.clone(), seen.clone());
            spawn(async move {
                for _ in 0..2 {
                    notify.notified().await;
                    seen.set(seen.get() + 1);
                }
            })
        };
        time::yield_now().await;
        assert!(time::timeout(Duration::from_millis(1), notify.notified()).await.is_err(), "dropped waiter");
        notify.notify();
        time::yield_now().await;
        assert_eq!(seen.get(), 1);
        notify.notify();
        task.await;
        assert_eq!(seen.get(), 2);
    });
}

#[test]
fn the_variable_forces_the_driver_of_shards_that_force_none() {
    const CHILD: &str = "RUNTIME_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        match spawn_shard(ShardOptions::default(), |driver| async move { driver }) {
            Ok(thread) => println!("runs on {}", thread.join().expect("no panic")),
            Err(err) => println!("refused: {err}"),
        }
        return;
    }
    for (value, expected) in [("epoll", "runs on epoll"), ("kqueue", "refused: unknown driver \"kqueue\"")] {
        // The environment of a process with threads cannot be changed safely, so another process is asked.
        let this = std::env::current_exe().expect("the test's program");
        let output = std::process::Command::new(this)
            .args(["--exact", "life::the_variable_forces_the_driver_of_shards_that_force_none", "--nocapture"])
            .env(CHILD, "1")
            .env(runtime::DRIVER_VARIABLE, value)
            .output()
            .expect("the test itself runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains(expected), "{value}: {text}");
    }
}
