//! Other people's clients, in the versions that stumbled over the embedded broker and in the newest, as a user of
//! quickstart brings them along.

use anyhow::{Context, Result};
use testkit::gateway::Quickstart;
use testkit::go::{self, Client};
use testkit::process::scratch_dir;

use crate::harness::{Case, case, same};

pub const CASES: &[Case] =
    &[case("clients_written_in_go_read_as_a_group_what_they_wrote", &["bin:kateway", "go"], of_go)];

fn of_go() -> Result<()> {
    let dir = scratch_dir("foreign")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    for (index, client) in Client::ALL.into_iter().enumerate() {
        // A topic of its own, of four partitions: the order among them is the client's.
        let topic = format!("foreign-{index}");
        let mut values = go::round_trip(client, &quickstart.kafka, &topic).with_context(|| format!("{client:?}"))?;
        values.sort();
        same(client.name, &values, &["v0", "v1", "v2"].map(str::to_owned).to_vec())?;
    }
    Ok(())
}
