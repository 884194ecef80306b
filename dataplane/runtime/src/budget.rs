//! Memory a shard may hold for others, in shares: what one tenant or one dead cluster cannot eat is left for the
//! rest.
//!
//! Every request reserves its body before reading it and keeps the reservation until the bytes are gone (answered,
//! or acknowledged by the broker). A refusal says which limit was reached, and becomes 503 with Retry-After.
//!
//! What has arrived cannot be refused any more: it is charged, over the limit if need be, and whoever asks for more looks
//! at [`Budget::room`] first.

use std::cell::RefCell;
use std::rc::Rc;

use foldhash::HashMap;

/// Limits of one shard, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetLimits {
    pub total_bytes_max: usize,
    /// Most that one tenant (app) holds at a time.
    pub tenant_bytes_max: usize,
    /// Most that waits for one cluster at a time.
    pub cluster_bytes_max: usize,
}

impl BudgetLimits {
    /// A tenant may use a quarter of the shard, a cluster half of it.
    pub fn shared(total_bytes_max: usize) -> Self {
        BudgetLimits { total_bytes_max, tenant_bytes_max: total_bytes_max / 4, cluster_bytes_max: total_bytes_max / 2 }
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scope {
    Shard,
    Tenant,
    Cluster,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scope::Shard => "shard",
            Scope::Tenant => "tenant",
            Scope::Cluster => "cluster",
        })
    }
}

/// No room now; nothing was reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("memory budget of the {scope} is spent: {used} of {limit} bytes used, {asked} asked")]
pub struct Refused {
    pub scope: Scope,
    pub used: usize,
    pub limit: usize,
    pub asked: usize,
}

/// The memory of one shard. Clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    inner: Rc<Inner>,
}

struct Inner {
    limits: BudgetLimits,
    used: RefCell<Used>,
}

/// Entries leave the maps at zero, so these hold at most one entry per outstanding reservation.
#[derive(Default)]
struct Used {
    total: usize,
    tenants: HashMap<u32, usize>,
    clusters: HashMap<u32, usize>,
    refused_total: u64,
}

impl Budget {
    pub fn new(limits: BudgetLimits) -> Budget {
        Budget { inner: Rc::new(Inner { limits, used: RefCell::default() }) }
    }

    /// Sets `bytes` aside for this tenant and cluster until the reservation is dropped.
    pub fn try_reserve(&self, tenant: u32, cluster: u32, bytes: usize) -> Result<Reservation, Refused> {
        self.inner.take(tenant, cluster, bytes)?;
        Ok(Reservation { inner: self.inner.clone(), tenant, cluster, bytes })
    }

    /// Counts what is there already; never refused.
    pub fn charge(&self, tenant: u32, cluster: u32, bytes: usize) -> Reservation {
        self.inner.add(tenant, cluster, bytes);
        Reservation { inner: self.inner.clone(), tenant, cluster, bytes }
    }

    /// What this tenant could reserve of this cluster now.
    pub fn room(&self, tenant: u32, cluster: u32) -> usize {
        let used = self.inner.used.borrow();
        let checks = self.inner.checks(&used, tenant, cluster);
        checks.map(|(_, in_use, limit)| limit.saturating_sub(in_use)).into_iter().min().unwrap_or(0)
    }

    pub fn used_bytes(&self) -> usize {
        self.inner.used.borrow().total
    }

    pub fn tenant_used_bytes(&self, tenant: u32) -> usize {
        self.inner.used.borrow().tenants.get(&tenant).copied().unwrap_or(0)
    }

    pub fn cluster_used_bytes(&self, cluster: u32) -> usize {
        self.inner.used.borrow().clusters.get(&cluster).copied().unwrap_or(0)
    }

    pub fn refused_total(&self) -> u64 {
        self.inner.used.borrow().refused_total
    }

    pub fn limits(&self) -> BudgetLimits {
        self.inner.limits
    }
}

impl Inner {
    fn take(&self, tenant: u32, cluster: u32, asked: usize) -> Result<(), Refused> {
        let checks = self.checks(&self.used.borrow(), tenant, cluster);
        for (scope, in_use, limit) in checks {
            if asked > limit.saturating_sub(in_use) {
                self.used.borrow_mut().refused_total += 1;
                return Err(Refused { scope, used: in_use, limit, asked });
            }
        }
        self.add(tenant, cluster, asked);
        Ok(())
    }

    /// Each scope with what is in use and its limit.
    fn checks(&self, used: &Used, tenant: u32, cluster: u32) -> [(Scope, usize, usize); 3] {
        let of_tenant = used.tenants.get(&tenant).copied().unwrap_or(0);
        let of_cluster = used.clusters.get(&cluster).copied().unwrap_or(0);
        [
            (Scope::Tenant, of_tenant, self.limits.tenant_bytes_max),
            (Scope::Cluster, of_cluster, self.limits.cluster_bytes_max),
            (Scope::Shard, used.total, self.limits.total_bytes_max),
        ]
    }

    fn add(&self, tenant: u32, cluster: u32, bytes: usize) {
        if bytes > 0 {
            let used = &mut *self.used.borrow_mut();
            used.total += bytes;
            *used.tenants.entry(tenant).or_default() += bytes;
            *used.clusters.entry(cluster).or_default() += bytes;
        }
    }

    fn give_back(&self, tenant: u32, cluster: u32, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let used = &mut *self.used.borrow_mut();
        used.total -= bytes;
        subtract(&mut used.tenants, tenant, bytes);
        subtract(&mut used.clusters, cluster, bytes);
    }
}

fn subtract(map: &mut HashMap<u32, usize>, key: u32, bytes: usize) {
    let left = map.get(&key).copied().unwrap_or(0).checked_sub(bytes).expect("returned no more than was reserved");
    if left == 0 {
        map.remove(&key);
    } else {
        map.insert(key, left);
    }
}

/// Bytes set aside; given back when dropped.
#[must_use = "dropping the reservation gives the bytes back"]
pub struct Reservation {
    inner: Rc<Inner>,
    tenant: u32,
    cluster: u32,
    bytes: usize,
}

impl Reservation {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes `bytes` more, for a body whose length was not told beforehand.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Refused> {
        self.inner.take(self.tenant, self.cluster, bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Counts exactly so many from now on; never refused, as [`Budget::charge`].
    pub fn set(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.inner.add(self.tenant, self.cluster, more),
            None => self.inner.give_back(self.tenant, self.cluster, self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    /// Gives `bytes` back early (at most all of them).
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.inner.give_back(self.tenant, self.cluster, bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner.give_back(self.tenant, self.cluster, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: BudgetLimits = BudgetLimits { total_bytes_max: 100, tenant_bytes_max: 40, cluster_bytes_max: 60 };

    #[test]
    fn one_tenant_or_cluster_cannot_take_what_others_need() {
        let budget = Budget::new(LIMITS);
        let _a = budget.try_reserve(1, 7, 40).expect("within the tenant's share");
        let refused = budget.try_reserve(1, 8, 1).err().expect("tenant 1 has its share");
        assert_eq!(refused, Refused { scope: Scope::Tenant, used: 40, limit: 40, asked: 1 });
        let _b = budget.try_reserve(2, 7, 20).expect("tenant 2 has room");
        assert_eq!(budget.try_reserve(3, 7, 1).err().map(|refused| refused.scope), Some(Scope::Cluster));
        let _c = budget.try_reserve(3, 8, 40).expect("another cluster has room");
        assert_eq!(budget.try_reserve(4, 9, 1).err().map(|refused| refused.scope), Some(Scope::Shard));
        assert_eq!(budget.refused_total(), 3);
        assert_eq!(refused.to_string(), "memory budget of the tenant is spent: 40 of 40 bytes used, 1 asked");
    }

    #[test]
    fn what_is_there_is_charged_over_the_limit_and_leaves_no_room_for_others() {
        let budget = Budget::new(LIMITS);
        let mut read = budget.charge(1, 7, 30);
        assert_eq!([(1, 7), (1, 8), (2, 7), (2, 8)].map(|(t, c)| budget.room(t, c)), [10, 10, 30, 40]);
        read.set(130);
        assert_eq!((budget.used_bytes(), budget.room(2, 8)), (130, 0));
        assert!(budget.try_reserve(2, 8, 1).is_err());
        read.set(5);
        assert_eq!((budget.used_bytes(), budget.room(1, 7), budget.refused_total()), (5, 35, 1));
        drop(read);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_size_near_overflow_is_refused_not_wrapped() {
        let budget = Budget::new(LIMITS);
        let mut held = budget.try_reserve(1, 1, 10).expect("room");
        assert!(budget.try_reserve(1, 1, usize::MAX).is_err());
        assert!(held.grow(usize::MAX - 5).is_err());
        assert_eq!(held.bytes(), 10);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn after_any_sequence_the_sums_are_those_of_the_live_reservations(
            steps in prop::collection::vec((0u32..4, 0u32..3, 0usize..50, 0u8..5), 0..200)
        ) {
            let budget = Budget::new(LIMITS);
            let mut live: Vec<(u32, u32, Reservation)> = Vec::new();
            for (tenant, cluster, bytes, action) in steps {
                match action {
                    0 | 1 => {
                        if let Ok(reservation) = budget.try_reserve(tenant, cluster, bytes) {
                            live.push((tenant, cluster, reservation));
                        }
                    }
                    4 => match live.last_mut() {
                        Some((_, _, reservation)) => reservation.set(bytes.min(budget.room(tenant, cluster))),
                        None => live.push((tenant, cluster, budget.charge(tenant, cluster, 0))),
                    },
                    2 if !live.is_empty() => drop(live.swap_remove(bytes % live.len())),
                    _ => {
                        if let Some((_, _, reservation)) = live.last_mut() {
                            if bytes % 2 == 0 { reservation.shrink(bytes) } else { let _ = reservation.grow(bytes); }
                        }
                    }
                }
                let sum = |of: &dyn Fn(&(u32, u32, Reservation)) -> bool| {
                    live.iter().filter(|entry| of(entry)).map(|entry| entry.2.bytes()).sum::<usize>()
                };
                prop_assert_eq!(budget.used_bytes(), sum(&|_| true));
                prop_assert_eq!(budget.tenant_used_bytes(tenant), sum(&|entry| entry.0 == tenant));
                prop_assert_eq!(budget.cluster_used_bytes(cluster), sum(&|entry| entry.1 == cluster));
                prop_assert!(budget.used_bytes() <= LIMITS.total_bytes_max);
            }
            live.clear();
            prop_assert_eq!(budget.used_bytes(), 0);
            prop_assert!(budget.inner.used.borrow().tenants.is_empty());
        }
    }
}
