//! Transactions and idempotent producers of a tenant while a broker and the proxy die.

use anyhow::Result;
use testkit::kafka::Cluster;
use testkit::login::SCRAM_512;

use super::stage::Stage;
use crate::kproxy::exactly_once::{Names, Place, Play, play};

/// A transformer that reads with one secret and writes with the other copies what producers write.
pub fn a_tenant_loses_doubles_and_reorders_nothing(kafka: &mut Cluster) -> Result<()> {
    let stage = Stage::start(kafka, "")?;
    let tenant = stage.tenant("eos")?;
    let names = |topic: &str| -> Result<Names> {
        let made = stage.topic(&tenant, topic, "v10", crate::kproxy::exactly_once::PARTITIONS)?;
        Ok(Names { shown: made.own, physical: made.physical })
    };
    let (topic, copy) = (names("eos")?, names("copy")?);
    let login = tenant.login(SCRAM_512);
    let place = Place::new(kafka)?.of_tenants(&stage.data);
    let kproxy = place.start(&[])?;
    stage.in_force(&tenant, 3)?;
    let play_of_tenants = Play { place: &place, login: Some(&login), topic, copy, brokers: &[2], proxies: 1 };
    play(kafka, kproxy, &play_of_tenants)
}
