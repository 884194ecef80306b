//! `/openapi.json` held against other people's tools: it is a good OpenAPI document, and whatever is sent to the three
//! listeners, the answer is one that it describes.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use testkit::components;
use testkit::gateway::Quickstart;
use testkit::http::{self, Request};
use testkit::process::{run, scratch_dir, tethered};

use crate::harness::{Case, case, same};

pub const CASES: &[Case] = &[
    case("the_document_passes_a_validator", &["bin:kateway", "api-tools"], validator),
    case("every_answer_of_every_listener_is_one_the_document_describes", &["bin:kateway", "api-tools"], answers),
];

/// About 30 s of work for one core on a busy machine, a third of it on an idle one.
const WITHIN: Duration = Duration::from_secs(120);
/// Requests that are made up for each operation, beside those that go around its limits.
const EXAMPLES: u32 = 15;
const SEED: u32 = 20_171_117;
/// Whether it meets a rotation that has not ended is luck; the node that answers is not to be drained; nobody has died here
/// whose backlog could be adopted; no job is parked.
const MAY_FAIL_ALWAYS: &[&str] = &["revokePreviousSecret", "drainInstance", "adoptHandoff", "replayJob"];

/// The id of a delayed job that waits.
fn far_job(quickstart: &Quickstart) -> Result<String> {
    let demo = &quickstart.demo;
    let added = Request::post(&format!("/v1/jobs/{}/{}?delay=10h", demo.topic, demo.ver))
        .header("Appid", &demo.appid)
        .header("Pubkey", &demo.pubkey)
        .body("far");
    let added = http::call(&quickstart.publish, &added)?.expect(201)?.json()?;
    added["id"].as_str().map(str::to_owned).with_context(|| format!("no id in {added}"))
}

/// Asks `python/openapi.py`.
fn ask(question: &Value) -> Result<Value> {
    let mut command = tethered(components::ensure("api-tools")?.join("venv/bin/python"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/openapi.py");
    // Nothing but what was verified is imported, and nothing is written beside it.
    command.args(["-I", "-B"]).arg(script).arg(question.to_string());
    Ok(serde_json::from_slice(&run(command, WITHIN)?)?)
}

fn validator() -> Result<()> {
    let dir = scratch_dir("openapi")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let found = ask(&json!({"do": "validate", "url": format!("{}/openapi.json", quickstart.manager)}))?;
    same("mistakes", &found["mistakes"], &json!([]))?;
    ensure!(found["operations"].as_u64() >= Some(28), "{found}");
    Ok(())
}

fn answers() -> Result<()> {
    let dir = scratch_dir("openapi")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let credentials = quickstart.credentials()?;
    let text = |name: &str| credentials[name].as_str().with_context(|| format!("no {name} in the credentials"));
    let (appid, key) = (text("admin_appid")?, text("admin_key")?);
    // What the names of `python/openapi.py` stand for.
    for (path, body) in [
        ("/v1/apps", json!({"appid": "st1"})),
        ("/v1/apps", json!({"appid": "st2"})),
        ("/v1/topics/st1/t1/v1", json!({})),
        ("/v1/grants", json!({"kind": "raw", "appid": "demo", "cluster": "main"})),
    ] {
        let request = Request::post(path).header("Appid", appid).header("Pubkey", key).json(&body);
        let status = http::call(&quickstart.manager, &request)?.status;
        ensure!([200, 201].contains(&status), "{path} {body}: {status}");
    }
    let status = Request::get("/v1/status").header("Appid", appid).header("Pubkey", key);
    let node = http::call(&quickstart.manager, &status)?.expect(200)?.json()?["id"].clone();
    // The group has its partitions before polls that wait for nobody.
    quickstart.post(&quickstart.demo, "", "first")?.expect(201)?;
    quickstart.poll(&quickstart.demo, "g1", "")?.expect(200)?;
    let receipt = quickstart.post(&quickstart.demo, "?async=1", "handed off")?.expect(202)?.json()?["msg_id"].clone();

    let jobs: Vec<String> = (0..8).map(|_| far_job(&quickstart)).collect::<Result<_>>()?;

    let demo = &quickstart.demo;
    for (listener, url, appid, secret) in [
        ("publish", &quickstart.publish, demo.appid.as_str(), format!("Pubkey: {}", demo.pubkey)),
        ("subscribe", &quickstart.subscribe, demo.appid.as_str(), format!("Subkey: {}", demo.subkey)),
        ("manager", &quickstart.manager, appid, format!("Pubkey: {key}")),
    ] {
        let answered = ask(&json!({
            "do": "run",
            "openapi": format!("{}/openapi.json", quickstart.manager),
            "listener": listener,
            "url": url,
            "headers": [format!("Appid: {appid}"), secret],
            "node": node,
            "receipt": receipt,
            "jobs": jobs.join(","),
            "seed": SEED,
            "examples": EXAMPLES,
        }))?;
        let answered: BTreeMap<String, BTreeMap<u16, u64>> = serde_json::from_value(answered)?;
        // Had nearly everything been refused, nothing would be shown.
        for (operation, statuses) in &answered {
            let is_fine = statuses.keys().any(|status| *status < 300) || MAY_FAIL_ALWAYS.contains(&operation.as_str());
            ensure!(is_fine, "{listener}: {operation} never succeeded: {statuses:?}");
        }
    }
    Ok(())
}
