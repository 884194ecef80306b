//! A snapshot that an older version left on disk is what a gateway starts from when the database is away.
//!
//! `tests/data/2026-11` was written by the agent of that time from the tenants of `authdb/tests/old_tenants`
//! (`AGENT_WRITE_DATA=DIR cargo test -p agent --test old_data`) and is never written again. A version that changes the
//! format adds a directory of its own.

#[path = "../../authdb/tests/old_tenants/mod.rs"]
mod old_tenants;

use std::fs;
use std::path::Path;

use agent::{Agent, AgentConfig, Source};
use authdb::{AuthDb, Missing};

const FILE: &str = "snapshot.json";
/// Set: write a new directory there.
const WRITE_TO: &str = "AGENT_WRITE_DATA";

async fn write_to(dir: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let db = AuthDb::open(scratch.path().join("tenants.db").to_str().unwrap()).await.unwrap();
    old_tenants::fill(&db).await;
    let agent = Agent::start(AgentConfig::new(db, dir.join(FILE)), |_| {}).await;
    assert_eq!(agent.status().source, Source::Database);
    agent.stop().await;
}

#[tokio::test]
async fn a_snapshot_of_every_older_version_serves_while_the_database_is_away() {
    if let Some(dir) = std::env::var_os(WRITE_TO) {
        return write_to(Path::new(&dir)).await;
    }
    for old in old_tenants::directories(env!("CARGO_MANIFEST_DIR")) {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = dir.path().join(FILE);
        fs::copy(old.join(FILE), &snapshot).unwrap();
        let away = AuthDb::at(dir.path().join("none.db").to_str().unwrap(), Missing::IsAnError).unwrap();
        let agent = Agent::start(AgentConfig::new(away, snapshot), |_| {}).await;
        assert_eq!(agent.status().source, Source::Disk, "{old:?}");
        old_tenants::check(&agent.snapshot(), &format!("{old:?}"));
        agent.stop().await;
    }
}
