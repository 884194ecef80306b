//! A snapshot that an older version left on disk is what a gateway starts from when the database is away.
//!
//! Each directory of `tests/data` was written by the agent of that time from the tenants of `authdb/tests/old_tenants`
//! (`AGENT_WRITE_DATA=DIR cargo test -p agent --test old_data`) and is never written again; `2026-11-27` has all of them in a
//! file of changes. A version that changes the
//! format adds a directory of its own.

#[path = "../../authdb/tests/old_tenants/mod.rs"]
mod old_tenants;

use std::fs;
use std::path::Path;

use agent::{Agent, AgentConfig, Source};
use authdb::Missing;

const FILE: &str = "snapshot.json";
/// Set: write a new directory there.
const WRITE_TO: &str = "AGENT_WRITE_DATA";

async fn write_to(dir: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let db = authdb::open(scratch.path().join("tenants.db").to_str().unwrap()).await.unwrap();
    let agent = Agent::start(AgentConfig::new(db.clone(), dir.join(FILE)), |_| {}).await;
    // Into the changes, not into the snapshot.
    old_tenants::fill(&*db).await;
    agent.refresh().await.unwrap();
    assert_eq!(agent.status().source, Source::Database);
    agent.stop().await;
    fs::remove_file(dir.join(format!("{FILE}.lock"))).unwrap();
}

#[tokio::test]
async fn a_snapshot_of_every_older_version_serves_while_the_database_is_away() {
    if let Some(dir) = std::env::var_os(WRITE_TO) {
        return write_to(Path::new(&dir)).await;
    }
    for old in old_tenants::directories(env!("CARGO_MANIFEST_DIR")) {
        let dir = tempfile::tempdir().unwrap();
        let snapshot = dir.path().join(FILE);
        for entry in fs::read_dir(&old).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        let away = authdb::at(dir.path().join("none.db").to_str().unwrap(), Missing::IsAnError).unwrap();
        let agent = Agent::start(AgentConfig::new(away, snapshot), |_| {}).await;
        assert_eq!(agent.status().source, Source::Disk, "{old:?}");
        old_tenants::check(&agent.snapshot(), &format!("{old:?}"));
        agent.stop().await;
    }
}
