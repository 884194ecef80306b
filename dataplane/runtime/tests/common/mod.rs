//! Runs one test body on every driver this machine offers.

use std::future::Future;

use runtime::{Driver, ShardOptions, spawn_shard};

/// Starts `main` on its own shard with each driver in turn and returns what it returned.
pub fn on_every_driver<T, F>(main: impl Fn(Driver) -> F + Clone + Send + 'static) -> Vec<(Driver, T)>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let mut values = Vec::new();
    for driver in Driver::ALL {
        let main = main.clone();
        let options = ShardOptions { force: Some(driver), ring_entries: 256, ..ShardOptions::named("test") };
        match spawn_shard(options, main) {
            Ok(thread) => match thread.join() {
                Ok(value) => values.push((driver, value)),
                Err(payload) => {
                    eprintln!("failed on {driver}");
                    std::panic::resume_unwind(payload);
                }
            },
            Err(err) => eprintln!("skipped {driver}: {err}"),
        }
    }
    assert!(!values.is_empty(), "at least epoll works");
    values
}

/// A small generator for seeded tests; the seed is printed by those who use it.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
