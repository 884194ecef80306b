//! The manager and `kateway admin`: apps, topics, grants and secrets, in force at once.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use testkit::daemon::bin_path;
use testkit::gateway::{Gateway, Quickstart, Tenant};
use testkit::http::{Request, call};
use testkit::process::{scratch_dir, tethered};
use testkit::{python, wait};

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case("a_new_topic_is_in_kafka_as_asked_and_takes_messages", &["bin:kateway", "kafka", "python-clients"], new_topic),
    case("a_grant_opens_a_topic_to_another_app_until_it_is_revoked", &["bin:kateway"], grants),
    case("two_secrets_are_live_during_a_rotation", &["bin:kateway"], rotation),
    case("the_manager_lets_nobody_in_without_its_key", &["bin:kateway"], manager_auth),
    case("what_is_set_enabled_disabled_and_deleted_is_so_at_once_and_is_said", &["bin:kateway"], command_line),
];

/// Changes travel as a snapshot; nobody should wait longer, and no probe may hide a wait of its own in it.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(3);
/// How long a poll waits that is to be ended by something else.
const LONG_WAIT: &str = "&wait=20s";

/// Name of the one cluster of a quickstart.
fn cluster(gateway: &Gateway) -> Result<String> {
    let clusters = gateway.admin(&["clusters"])?;
    let first = clusters.as_array().and_then(|all| all.first()).or_else(|| clusters["clusters"].get(0));
    let name = first.and_then(|cluster| cluster["name"].as_str().or_else(|| cluster.as_str()));
    name.map(str::to_owned).with_context(|| format!("no cluster in {clusters}"))
}

fn status_becomes(what: &str, expected: u16, ask: impl Fn() -> Result<u16>) -> Result<()> {
    wait::until(what, IN_FORCE_WITHIN, || same("status", &ask()?, &expected))
}

fn new_topic() -> Result<()> {
    let (kafka, dir, appid) = (kafka()?, scratch_dir("admin")?, unique("shop"));
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    let tenant = quickstart.new_tenant(&appid, &cluster(&quickstart)?, 3)?;
    status_becomes("the new topic", 201, || Ok(quickstart.post(&tenant, "?partition=2", "first")?.status))?;
    quickstart.poll_for(&tenant, "g", &["first"], Duration::from_secs(10))?;

    quickstart.admin(&["topic", "create", &appid, "returns", "v2", "--partitions", "2", "--retention-hours", "5"])?;
    let described = python::describe_topic(&kafka.bootstrap(), &format!("{appid}.returns.v2"))?;
    same("partitions", &described["partitions"].as_array().map(Vec::len), &Some(2))?;
    same("retention", &described["configs"]["retention.ms"].as_str(), &Some("18000000"))?;

    let list = quickstart.admin(&["topic", "list", &appid])?.to_string();
    ensure!(list.contains("orders") && list.contains("returns"), "{list}");
    quickstart.admin(&["topic", "delete", &appid, "returns", "v2"])?;
    let gone = Tenant { topic: "returns".into(), ver: "v2".into(), ..tenant };
    status_becomes("the deleted topic", 404, || Ok(quickstart.post(&gone, "", "x")?.status))
}

fn grants() -> Result<()> {
    let dir = scratch_dir("admin")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let cluster = cluster(&quickstart)?;
    let owner = quickstart.new_tenant("owner", &cluster, 1)?;
    let reader = quickstart.new_tenant("reader", &cluster, 1)?;
    status_becomes("the owner's topic", 201, || Ok(quickstart.post(&owner, "", "secret recipe")?.status))?;
    let poll = |wait| reader.poll_of(&owner, "g", wait);
    same("before the grant", &call(&quickstart.subscribe, &poll(""))?.status, &403)?;
    quickstart.admin(&["grant", "subscribe", "reader", "owner", "orders"])?;
    let granted = || -> Result<u16> { Ok(call(&quickstart.subscribe, &poll(""))?.status) };
    wait::until("the grant", IN_FORCE_WITHIN, || {
        let status = granted()?;
        ensure!(status == 200 || status == 204, "{status}");
        Ok(())
    })?;
    revoke_under_a_poll(&quickstart, &poll(LONG_WAIT))?;
    status_becomes("the revocation", 403, granted)
}

/// A poll that is open when its grant goes ends then, not when its wait is over.
fn revoke_under_a_poll(quickstart: &Quickstart, poll: &Request) -> Result<()> {
    std::thread::scope(|scope| {
        let open = scope.spawn(|| call(&quickstart.subscribe, poll));
        // Long enough that it waits in the gateway; the message of the topic, if it still comes, ends it sooner.
        std::thread::sleep(Duration::from_millis(500));
        let was_open = !open.is_finished();
        let started = Instant::now();
        quickstart.admin(&["grant", "revoke-subscribe", "reader", "owner", "orders"])?;
        wait::until_true("the open poll to end", IN_FORCE_WITHIN, || open.is_finished())?;
        let status = open.join().map_err(|_| anyhow!("the poll panicked"))??.status;
        ensure!(was_open, "the poll was answered {status} before the grant went");
        same("the open poll", &status, &403)?;
        ensure!(started.elapsed() < IN_FORCE_WITHIN, "in force after {:?}", started.elapsed());
        Ok(())
    })
}

fn rotation() -> Result<()> {
    let dir = scratch_dir("admin")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let old = quickstart.new_tenant("rotating", &cluster(&quickstart)?, 1)?;
    status_becomes("the first secret", 201, || Ok(quickstart.post(&old, "", "x")?.status))?;
    let answer = quickstart.admin(&["secret", "rotate", "rotating", "publish"])?;
    let secret = answer["secret"].as_str().with_context(|| format!("no secret in {answer}"))?;
    let new = Tenant { pubkey: secret.to_owned(), ..old.clone() };
    ensure!(new.pubkey != old.pubkey, "the secret did not change");
    status_becomes("the new secret", 201, || Ok(quickstart.post(&new, "", "x")?.status))?;
    quickstart.post(&old, "", "the old one still works")?.expect(201)?;
    quickstart.admin(&["secret", "revoke-previous", "rotating", "publish"])?;
    status_becomes("the revoked secret", 401, || Ok(quickstart.post(&old, "", "x")?.status))?;
    quickstart.post(&new, "", "x")?.expect(201)?;
    // Secrets are shown once and never logged.
    let shown = quickstart.admin(&["app", "show", "rotating"])?.to_string();
    ensure!(!shown.contains(secret), "the secret is shown again");
    ensure!(!quickstart.log().contains(secret), "the secret is in the log");
    Ok(())
}

/// Exit code, stdout and stderr of `kateway admin`, in a pipe.
fn typed(quickstart: &Quickstart, line: &str) -> Result<(Option<i32>, String, String)> {
    let mut command = tethered(bin_path("kateway")?);
    command.args(["admin", "--yes", "--manager", &quickstart.manager, "--credentials"]);
    let output = command.arg(quickstart.credentials_path()).args(line.split(' ')).output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code(), text(&output.stdout), text(&output.stderr)))
}

fn command_line() -> Result<()> {
    let dir = scratch_dir("admin")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let tenant = quickstart.new_tenant("shop", &cluster(&quickstart)?, 1)?;
    let says = |line: &str, expected: (i32, &str, &str)| {
        let (code, out, err) = expected;
        same(line, &typed(&quickstart, line)?, &(Some(code), out.to_owned(), err.to_owned()))
    };
    let publishes = |what: &str, status| status_becomes(what, status, || Ok(quickstart.post(&tenant, "", "x")?.status));
    publishes("the topic", 201)?;
    says("topic set shop orders v1 --partitions 3 -o name", (0, "shop orders v1\n", ""))?;
    let (_, partitions, _) = typed(&quickstart, "topic partitions shop orders v1 -o tsv")?;
    same("partitions", &partitions.as_str(), &"0\t0\t1\n1\t0\t0\n2\t0\t0\n")?;
    for noun in ["topic", "app"] {
        let name = if noun == "topic" { "shop orders v1" } else { "shop" };
        says(&format!("{noun} disable {name} -o name"), (0, &format!("{name}\n"), ""))?;
        let refused = quickstart.post(&tenant, "", "x")?.status;
        ensure!((400..500).contains(&refused), "a publish of a disabled {noun} is answered {refused}");
        says(&format!("{noun} enable {name} -o name"), (0, &format!("{name}\n"), ""))?;
        publishes(noun, 201)?;
    }
    says("grant revoke-raw shop main", (3, "", "kateway: there is no grant raw shop main; nothing was removed\n"))?;
    says("topic delete shop orders v9", (3, "", "kateway: there is no topic shop orders v9; nothing was removed\n"))?;
    says("topic delete shop orders v1", (0, "shop orders v1\ttrue\t-\n", ""))?;
    says("app delete shop", (0, "shop\ttrue\t-\n", ""))?;
    says("app delete shop", (3, "", "kateway: there is no app shop; nothing was removed\n"))
}

fn manager_auth() -> Result<()> {
    let dir = scratch_dir("admin")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let answer = call(&quickstart.manager, &Request::get("/v1/apps"))?;
    same("without credentials", &answer.status, &401)?;
    ensure!(answer.header("www-authenticate").is_some(), "no WWW-Authenticate");
    let demo = &quickstart.demo;
    quickstart.admin(&["app", "create", "another", "--cluster", "main"])?;
    let as_tenant = |request: Request, key: &str| {
        call(&quickstart.manager, &request.header("Appid", &*demo.appid).header("Pubkey", key))
    };
    let own = as_tenant(Request::get("/v1/apps"), &demo.pubkey)?.expect(200)?.json()?;
    same("what a tenant sees with its key", &own.as_array().map(Vec::len), &Some(1))?;
    same("itself", &own[0]["appid"], &json!(demo.appid))?;
    let another = as_tenant(Request::get("/v1/apps/another"), &demo.pubkey)?.status;
    same("another one", &another, &403)?;
    let body = json!({"enabled": false});
    let change = Request::new("PUT", &format!("/v1/apps/{}", demo.appid)).json(&body);
    same("a change of itself", &as_tenant(change, &demo.pubkey)?.status, &403)?;
    same("its key for reading", &as_tenant(Request::get("/v1/apps"), &demo.subkey)?.status, &401)?;
    let credentials = quickstart.credentials()?;
    let admin = |name: &str| credentials[name].as_str().unwrap_or_default().to_owned();
    let request = Request::get("/v1/apps").header("Appid", admin("admin_appid")).header("Pubkey", admin("admin_key"));
    let apps = call(&quickstart.manager, &request)?.expect(200)?.text();
    ensure!(apps.contains(&demo.appid), "{apps}");
    ensure!(!apps.contains(&demo.pubkey), "a list of apps shows secrets");
    Ok(())
}
