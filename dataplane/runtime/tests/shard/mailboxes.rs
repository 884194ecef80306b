//! Values between threads: none lost, none doubled, in order per sender, whether the receiver sleeps or not.

use std::time::Duration;

use runtime::mailbox::{TrySendError, mailbox};
use runtime::{race, spawn, time};

use crate::common::{Random, on_every_driver};

#[test]
fn every_value_arrives_once_and_in_order_whether_the_receiver_is_parked_or_not() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 4_000;
    let seed = runtime::clock::seed();
    println!("seed {seed:#x}");
    on_every_driver(move |driver| async move {
        let (sender, mut receiver) = mailbox::<(u64, u64)>(64);
        let threads: Vec<_> = (0..SENDERS)
            .map(|id| {
                let sender = sender.clone();
                std::thread::spawn(move || {
                    let mut random = Random(seed ^ id);
                    for number in 0..EACH {
                        let mut value = (id, number);
                        while let Err(TrySendError::Full(back)) = sender.try_send(value) {
                            value = back;
                            std::thread::yield_now();
                        }
                        // Sometimes long enough for the receiver to fall asleep, mostly not.
                        match random.below(400) {
                            0 => std::thread::sleep(Duration::from_micros(random.below(300))),
                            1..=20 => std::thread::yield_now(),
                            _ => {}
                        }
                    }
                })
            })
            .collect();
        drop(sender);
        let mut random = Random(seed ^ 0xfeed);
        let mut next = [0u64; SENDERS as usize];
        let receiving = async {
            while let Some((id, number)) = receiver.recv().await {
                assert_eq!(number, next[id as usize], "{driver}, seed {seed:#x}: sender {id}");
                next[id as usize] += 1;
                if random.below(200) == 0 {
                    time::yield_now().await;
                }
            }
        };
        time::timeout(Duration::from_secs(60), receiving).await.unwrap_or_else(|_| panic!("{driver}: stuck"));
        assert_eq!(next, [EACH; SENDERS as usize], "{driver}, seed {seed:#x}");
        for thread in threads {
            thread.join().expect("sender");
        }
    });
}

#[test]
fn a_dropped_recv_loses_nothing() {
    on_every_driver(|_| async {
        let (sender, mut receiver) = mailbox(4);
        assert!(time::timeout(Duration::from_millis(1), receiver.recv()).await.is_err());
        sender.try_send(1).expect("room");
        assert_eq!(race(std::future::ready(()), receiver.recv()).await, runtime::Either::First(()));
        assert_eq!(receiver.recv().await, Some(1));
        // The doorbell of the first value is still ringing; that is a spurious wake, not a value.
        assert!(time::timeout(Duration::from_millis(1), receiver.recv()).await.is_err());
    });
}

#[test]
fn full_and_closed_give_the_value_back() {
    let (sender, mut receiver) = mailbox(2);
    sender.try_send(1).expect("room");
    sender.try_send(2).expect("room");
    assert_eq!(sender.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(receiver.try_recv(), Some(1));
    sender.try_send(3).expect("room again");
    drop(receiver);
    assert!(sender.is_empty(), "what was queued is dropped with the receiver");
    assert_eq!(sender.try_send(4), Err(TrySendError::Closed(4)));
}

/// Went wrong: what was pushed between a receiver's last look and its end lay in the queue for ever.
#[test]
fn what_is_sent_while_the_receiver_leaves_is_dropped_and_never_kept() {
    for _ in 0..2_000 {
        let (sender, receiver) = mailbox(64);
        let other = sender.clone();
        let sending = std::thread::spawn(move || while !matches!(other.try_send(()), Err(TrySendError::Closed(()))) {});
        while sender.is_empty() {
            std::hint::spin_loop();
        }
        drop(receiver);
        sending.join().expect("sender");
        assert!(sender.is_empty());
    }
}

#[test]
fn the_last_sender_leaving_wakes_a_parked_receiver() {
    on_every_driver(|_| async {
        let (sender, mut receiver) = mailbox::<u8>(2);
        let waiting = spawn(async move { receiver.recv().await });
        time::yield_now().await;
        let other = sender.clone();
        drop(sender);
        std::thread::spawn(move || {
            other.try_send(9).expect("room");
            drop(other);
        })
        .join()
        .expect("thread");
        assert_eq!(waiting.await, Some(Some(9)));

        let (sender, mut receiver) = mailbox::<u8>(2);
        let waiting = spawn(async move { receiver.recv().await });
        time::yield_now().await;
        drop(sender);
        assert_eq!(waiting.await, Some(None));
    });
}

#[test]
fn a_receiver_moves_to_its_shard_and_may_be_dropped_anywhere() {
    let (sender, receiver) = mailbox::<u32>(1);
    let thread = runtime::spawn_shard(runtime::ShardOptions::default(), move |_| async move {
        let mut receiver = receiver;
        let value = receiver.recv().await;
        let _ = time::timeout(Duration::from_millis(1), receiver.recv()).await;
        (value, receiver)
    })
    .expect("starts");
    sender.try_send(5).expect("room");
    let (value, receiver) = thread.join().expect("ends");
    assert_eq!(value, Some(5));
    drop(receiver);
}
