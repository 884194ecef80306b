//! Searches for records of ours in topics of a cluster, each begun by whoever wants to know.

use std::collections::BTreeMap;
use std::time::Instant;

use kafka_client::{Client, Found, RequestError, RequestToken, Response, Search, SearchError};
use slab::Slab;

/// A search that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchKey(usize);

/// What a search came to since the last look.
#[derive(Debug)]
pub struct Look {
    pub found: Vec<Found>,
    /// Where the partitions ended: nothing more comes, and the key is nobody's.
    pub ended: Option<Result<BTreeMap<i32, i64>, SearchError>>,
    /// Why it goes on.
    pub last_error: Option<String>,
}

/// Of one cluster on one shard.
#[derive(Default)]
pub struct Searches {
    all: Slab<Search>,
}

impl Searches {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub fn begin(&mut self, search: Search) -> SearchKey {
        SearchKey(self.all.insert(search))
    }

    /// Asks what is due.
    pub fn tick(&mut self, client: &mut Client, now: Instant) {
        self.all.iter_mut().for_each(|(_, search)| search.tick(client, now));
    }

    /// True: the reply was for one of them, and is taken.
    pub fn on_reply(
        &mut self,
        client: &mut Client,
        token: RequestToken,
        reply: &mut Option<Result<Response, RequestError>>,
        now: Instant,
    ) -> bool {
        self.all.iter_mut().any(|(_, search)| search.on_reply(client, token, reply, now))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.all.iter().filter_map(|(_, search)| search.next_deadline()).min()
    }

    /// # Panics
    /// After it was told that the search ended.
    pub fn look(&mut self, SearchKey(key): SearchKey) -> Look {
        let search = &mut self.all[key];
        let look = Look {
            found: search.take_found(),
            ended: search.ended(),
            last_error: search.last_error().map(str::to_owned),
        };
        if look.ended.is_some() {
            self.all.remove(key);
        }
        look
    }

    /// Nobody wants to know any more.
    pub fn cancel(&mut self, SearchKey(key): SearchKey, client: &mut Client) {
        if let Some(mut search) = self.all.try_remove(key) {
            search.cancel(client);
        }
    }
}
