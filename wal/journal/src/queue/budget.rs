//! How much may be held, by whom: a limit reached is an answer with its name in it.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::Name;

/// What may be held at most. Whoever holds more already (a smaller budget, a restart) is refused more, and keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub bytes_max: u64,
    pub subject_bytes_max: u64,
    pub account_bytes_max: u64,
    pub records_max: u64,
    /// New entries are refused while a stream's oldest one waits for longer. None: however long.
    pub age_ms_max: Option<i64>,
}

/// Which limit was reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    #[error("{held} bytes wait here already, of at most {limit}")]
    Bytes { held: u64, limit: u64 },
    #[error("{held} bytes of {subject} wait here already, of at most {limit}")]
    Subject { subject: Arc<str>, held: u64, limit: u64 },
    #[error("{held} bytes of app {account} wait here already, of at most {limit}")]
    Account { account: Arc<str>, held: u64, limit: u64 },
    #[error("{held} messages wait here already, of at most {limit}")]
    Records { held: u64, limit: u64 },
    #[error("the oldest message for this partition has waited for {waited_ms} ms, more than {limit_ms}")]
    Age { waited_ms: i64, limit_ms: i64 },
    #[error("messages for {limit} partitions wait or were delivered lately, which is the limit")]
    Streams { limit: usize },
}

/// What is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub bytes: u64,
    pub records: u64,
}

#[derive(Debug)]
pub(super) struct Ledger {
    budget: Budget,
    total: Usage,
    by_account: HashMap<Arc<str>, Usage>,
    by_subject: HashMap<Arc<str>, Usage>,
}

impl Ledger {
    pub fn new(budget: Budget) -> Ledger {
        Ledger { budget, total: Usage::default(), by_account: HashMap::new(), by_subject: HashMap::new() }
    }

    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    pub fn total(&self) -> Usage {
        self.total
    }

    /// Whether `bytes` more fit.
    pub fn check(&self, name: &Name, bytes: u64, oldest_ms: Option<i64>, now_ms: i64) -> Result<(), Over> {
        let Budget { bytes_max, subject_bytes_max, account_bytes_max, records_max, age_ms_max } = self.budget;
        let held = |of: &HashMap<Arc<str>, Usage>, key: &Arc<str>| of.get(key).map_or(0, |usage| usage.bytes);
        let fits = |held: u64, limit: u64| held.saturating_add(bytes) <= limit;
        if !fits(self.total.bytes, bytes_max) {
            return Err(Over::Bytes { held: self.total.bytes, limit: bytes_max });
        }
        if self.total.records >= records_max {
            return Err(Over::Records { held: self.total.records, limit: records_max });
        }
        let of_account = held(&self.by_account, &name.account);
        if !fits(of_account, account_bytes_max) {
            return Err(Over::Account {
                account: Arc::clone(&name.account),
                held: of_account,
                limit: account_bytes_max,
            });
        }
        let of_subject = held(&self.by_subject, &name.subject);
        if !fits(of_subject, subject_bytes_max) {
            return Err(Over::Subject {
                subject: Arc::clone(&name.subject),
                held: of_subject,
                limit: subject_bytes_max,
            });
        }
        let waited_ms = oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms));
        match age_ms_max {
            Some(limit_ms) if waited_ms > limit_ms => Err(Over::Age { waited_ms, limit_ms }),
            _ => Ok(()),
        }
    }

    pub fn add(&mut self, name: &Name, bytes: u64, records: u64) {
        let add = |usage: &mut Usage| {
            usage.bytes += bytes;
            usage.records += records;
        };
        add(&mut self.total);
        add(self.by_account.entry(Arc::clone(&name.account)).or_default());
        add(self.by_subject.entry(Arc::clone(&name.subject)).or_default());
    }

    pub fn remove(&mut self, name: &Name, bytes: u64, records: u64) {
        let remove = |usage: &mut Usage| {
            usage.bytes -= bytes;
            usage.records -= records;
        };
        remove(&mut self.total);
        for (of, key) in [(&mut self.by_account, &name.account), (&mut self.by_subject, &name.subject)] {
            if let Some(usage) = of.get_mut(key) {
                remove(usage);
                if usage.records == 0 {
                    of.remove(key);
                }
            }
        }
    }
}
