//! The Kafka clusters of a shard: one client each, its broker connections, the routes found through it.

pub mod cluster;
mod complaints;
pub mod denied;
pub mod destination;
pub mod link;
mod outcome;
pub mod prober;
pub mod searches;

use crate::config::{ClusterSpec, GatewayConfig};
use cluster::Cluster;
use destination::Routes;
use foldhash::HashMap;
use std::rc::Rc;
use std::time::Instant;

/// Whether a shard asks its clusters whether they answer; one of a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probing {
    Asks,
    Relies,
}

/// One per shard.
pub struct Clusters {
    list: Vec<Rc<Cluster>>,
    by_name: HashMap<String, usize>,
    pub routes: Routes,
    message_bytes_max: usize,
}

impl Clusters {
    pub fn new(specs: Vec<ClusterSpec>, config: &GatewayConfig, probing: Probing, now: Instant) -> Clusters {
        let by_name = specs.iter().enumerate().map(|(index, spec)| (spec.name.clone(), index)).collect();
        let make = |(index, spec): (usize, ClusterSpec)| {
            let client = config.client(spec.client);
            Rc::new(Cluster::new(&spec.name, index, client, spec.tls, probing, now))
        };
        Clusters {
            list: specs.into_iter().enumerate().map(make).collect(),
            by_name,
            routes: Routes::default(),
            message_bytes_max: config.message_bytes_max,
        }
    }

    pub fn at(&self, index: usize) -> &Rc<Cluster> {
        &self.list[index]
    }

    pub fn find(&self, name: &str) -> Option<&Rc<Cluster>> {
        self.by_name.get(name).map(|index| &self.list[*index])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rc<Cluster>> {
        self.list.iter()
    }
}
