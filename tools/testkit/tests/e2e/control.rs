//! The control plane when it is not a fair day: nodes that lag, disks that are full, files that were removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::Value;
use testkit::gateway::{Gateway, Quickstart, Tenant};
use testkit::http::{Connection, Request, Response, call};
use testkit::kafka::disk::Disk;
use testkit::process::{run, scratch_dir, tethered};
use testkit::wait;

use crate::harness::{Case, case, same};
use crate::serve::{config, table, tenant_in_force};

pub const CASES: &[Case] = &[
    case("a_revocation_is_202_and_names_the_gateway_that_is_frozen_until_it_has_it", &["bin:kateway"], frozen_gateway),
    case(
        "a_node_is_drained_and_told_what_to_log_by_another_ones_manager_until_it_starts_again",
        &["bin:kateway"],
        wishes,
    ),
    case("starts_at_once_on_one_directory_make_one_admin_and_one_owner", &["bin:kateway"], starts_at_once),
    case("credentials_that_were_removed_are_made_anew_and_the_old_ones_die", &["bin:kateway"], removed_credentials),
    case("a_full_disk_is_named_and_nothing_is_broken_when_there_is_room_again", &["bin:kateway"], full_disk),
    case("a_disk_that_cannot_be_written_does_not_stop_a_start", &["bin:kateway"], read_only_disk),
    case("a_gateway_that_nobody_can_tell_of_revocations_is_not_ready_beyond_the_limit", &["bin:kateway"], stale),
    case("two_gateways_pass_one_number_together_and_the_one_that_is_left_all_of_it", &["bin:kateway"], one_number),
    case("an_app_may_be_used_from_the_addresses_that_were_set", &["bin:kateway"], addresses),
    case("secrets_are_in_no_log_metric_answer_or_list_of_processes", &["bin:kateway"], told_nobody),
    case("everything_below_the_data_directory_is_private", &["bin:kateway"], private_files),
    case("an_app_made_again_does_not_get_the_old_ones_messages", &["bin:kateway"], made_again),
];

fn admin_call(gateway: &Gateway, request: Request) -> Result<Response> {
    let credentials = gateway.credentials()?;
    let text = |name: &str| credentials[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
    call(&gateway.manager, &request.header("Appid", text("admin_appid")?).header("Pubkey", text("admin_key")?))
}

/// Gateways before the broker of a quickstart, all on one data directory.
struct Fleet {
    kafka: Quickstart,
    dir: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Result<Self> {
        let dir = scratch_dir("control")?;
        Ok(Self { kafka: Quickstart::start(&dir.path().join("kafka"), &[])?, dir })
    }

    fn start(&self, name: &str, data: &Path) -> Result<Gateway> {
        let clusters = table("main", &self.kafka.kafka, "");
        Gateway::serve(&config(self.dir.path(), name, data, &clusters)?, data)
    }
}

fn publishes(gateway: &Gateway, tenant: &Tenant, pubkey: &str) -> Result<u16> {
    let with_key = Tenant { pubkey: pubkey.to_owned(), ..tenant.clone() };
    Ok(gateway.post(&with_key, "", "x")?.status)
}

fn frozen_gateway() -> Result<()> {
    let fleet = Fleet::new()?;
    let data = fleet.dir.path().join("data");
    let (first, mut second) = (fleet.start("first", &data)?, fleet.start("second", &data)?);
    let tenant = tenant_in_force(&first, "shop", "main")?;
    same("at the second, once the first has answered", &publishes(&second, &tenant, &tenant.pubkey)?, &201)?;
    first.admin(&["secret", "rotate", "shop", "publish"])?;

    second.signal(Signal::STOP)?;
    let answer = admin_call(&first, Request::new("DELETE", "/v1/apps/shop/secrets/publish"))?.expect(202)?;
    let body = answer.json()?;
    let lacking = body["lacking"].as_array().context("lacking")?;
    same("nodes that lack it", &lacking.len(), &1)?;
    ensure!(lacking[0].as_str().is_some_and(|node| node.starts_with("kateway ")), "{body}");
    let ask = answer.header("location").context("where to ask")?.to_owned();
    let asked = || -> Result<Value> { admin_call(&first, Request::get(&ask))?.expect(200)?.json() };
    same("asked meanwhile", &asked()?["in_force"], &Value::Bool(false))?;
    same("at the first", &publishes(&first, &tenant, &tenant.pubkey)?, &401)?;

    second.signal(Signal::CONT)?;
    wait::until("the second to have it", Duration::from_secs(5), || {
        same("in force", &asked()?["in_force"], &Value::Bool(true))
    })?;
    // What was told to be in force is.
    same("at the second", &publishes(&second, &tenant, &tenant.pubkey)?, &401)?;

    // The owner of the snapshot goes; the other one takes its place and nobody is forgotten.
    drop(first);
    second.admin(&["app", "create", "later", "--cluster", "main"])?;
    let answer = admin_call(&second, Request::new("DELETE", "/v1/apps/later"))?;
    same("nobody else is waited for", &answer.status, &200)
}

fn wishes() -> Result<()> {
    let fleet = Fleet::new()?;
    let data = fleet.dir.path().join("data");
    let (first, mut second) = (fleet.start("first", &data)?, fleet.start("second", &data)?);
    let tenant = tenant_in_force(&first, "shop", "main")?;
    let man = second.manager.strip_prefix("http://").context("an address")?.to_owned();
    let instance = |from: &Gateway, man: &str| -> Result<Value> {
        let nodes = from.admin(&["instances"])?;
        let mut nodes = nodes.as_array().context("nodes")?.iter();
        nodes.find(|node| node["addresses"]["man"] == man).cloned().context("the second is not registered")
    };
    let id = instance(&first, &man)?["id"].as_str().context("id")?.to_owned();

    // A node that obeys says so, unless it was told to say less.
    let obeyed = |revision: u32| format!("obeying a wish revision={revision} ");
    first.admin(&["log", &id, "warn"])?;
    first.admin(&["log", &id, "info"])?;
    wait::until("the second to say it", Duration::from_secs(10), || {
        ensure!(second.log().contains(&obeyed(2)), "{}", second.log());
        Ok(())
    })?;
    ensure!(!second.log().contains(&obeyed(1)), "{}", second.log());

    // Answered when the node obeys, so that nothing has to be waited for.
    first.admin(&["drain", &id])?;
    let asks = |gateway: &Gateway, path: &str, expected: u16| -> Result<()> {
        for at in [&gateway.publish, &gateway.subscribe, &gateway.manager] {
            same(&format!("{at}{path}"), &call(at, &Request::get(path))?.status, &expected)?;
        }
        Ok(())
    };
    asks(&second, "/readyz", 503)?;
    asks(&second, "/alive", 503)?;
    asks(&second, "/healthz", 200)?;
    asks(&first, "/readyz", 200)?;
    same("told to balancers", &instance(&first, &man)?["state"], &Value::from("draining"))?;
    same("it serves all the same", &publishes(&second, &tenant, &tenant.pubkey)?, &201)?;

    first.admin(&["options", &id, "limits.connections_per_app=7", "drain.delay=10ms"])?;
    let status = second.admin(&["status"])?;
    same("an option", &status["options"]["limits.connections_per_app"], &Value::from("7"))?;
    let Err(refused) = first.admin(&["options", &id, "limits.connection_per_app=7"]) else { bail!("taken") };
    ensure!(format!("{refused:#}").contains("did you mean limits.connections_per_app"), "{refused:#}");
    asks(&second, "/readyz", 503)?;

    first.admin(&["undrain", &id])?;
    asks(&second, "/readyz", 200)?;
    asks(&second, "/alive", 200)?;

    // A frozen one obeys when it wakes up.
    second.signal(Signal::STOP)?;
    let answer = admin_call(&first, Request::new("PUT", &format!("/v1/instances/{id}/drain")))?.expect(202)?;
    same("lacking", &answer.json()?["lacking"][0], &Value::from(format!("kateway {id}")))?;
    second.signal(Signal::CONT)?;
    wait::until("the second to obey", Duration::from_secs(10), || asks(&second, "/readyz", 503))?;

    // Drained or not, it ends as ever; started again it is as it is configured.
    let (status, _) = second.sigterm_and_wait(Duration::from_secs(20))?;
    ensure!(status.success(), "{status}");
    let second = fleet.start("second", &data)?;
    asks(&second, "/readyz", 200)?;
    same("of the configuration", &second.admin(&["status"])?["options"]["drain.delay"], &Value::from("1000ms"))?;
    let audit = first.admin(&["audit"])?;
    let count =
        |operation: &str| audit.as_array().into_iter().flatten().filter(|row| row["operation"] == operation).count();
    let counts = ["instance.drain", "instance.undrain", "instance.options"].map(count);
    same("rows of the audit log", &counts, &[2, 1, 3])
}

fn starts_at_once() -> Result<()> {
    let fleet = Fleet::new()?;
    let data = fleet.dir.path().join("data");
    let gateways: Vec<Gateway> = std::thread::scope(|scope| {
        let starts: Vec<_> = ["a", "b", "c"]
            .map(|name| {
                let (fleet, data) = (&fleet, &data);
                scope.spawn(move || fleet.start(name, data))
            })
            .into();
        starts.into_iter().map(|start| start.join().map_err(|_| anyhow::anyhow!("panicked"))?).collect::<Result<_>>()
    })?;
    let credentials = gateways[0].credentials()?;
    let managers: Vec<&str> = gateways.iter().map(|gateway| gateway.manager.as_str()).collect();
    ensure!(
        managers.contains(&credentials["man"].as_str().context("man")?),
        "{credentials} names none of {managers:?}"
    );
    for gateway in &gateways {
        // With the one key there is.
        admin_call(gateway, Request::get("/v1/apps"))?.expect(200)?;
    }
    let owners = gateways.iter().map(|gateway| {
        let text = call(&gateway.manager, &Request::get("/metrics"))?.expect(200)?.text();
        Ok(usize::from(text.contains("\ntenants_snapshot_owner 1\n")))
    });
    same("owners of the snapshot", &owners.sum::<Result<usize>>()?, &1)
}

fn removed_credentials() -> Result<()> {
    let dir = scratch_dir("control")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let (old, old_admin) = (quickstart.demo.clone(), quickstart.credentials()?);
    drop(quickstart);
    fs::remove_file(dir.path().join("credentials.json"))?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    ensure!(quickstart.demo.pubkey != old.pubkey, "the old secret came back from somewhere");
    same("new", &publishes(&quickstart, &quickstart.demo, &quickstart.demo.pubkey)?, &201)?;
    same("old", &publishes(&quickstart, &old, &old.pubkey)?, &401)?;
    quickstart.admin(&["app", "list"])?;
    let key = old_admin["admin_key"].as_str().context("admin_key")?;
    let request = Request::get("/v1/apps").header("Appid", "admin").header("Pubkey", key);
    same("the old admin", &call(&quickstart.manager, &request)?.status, &401)
}

/// Publishes as fast as it goes until it is told to stop; the last refusal. Whatever is not 201 or 429 is an error.
fn flood(gateway: &Gateway, tenant: &Tenant, stored: &AtomicU64, stop: &AtomicBool) -> Result<Option<Response>> {
    let mut connection = Connection::open(&gateway.publish)?;
    let request = tenant.publish("").body("x");
    let mut refused = None;
    while !stop.load(Ordering::Relaxed) {
        let answer = connection.call(&request)?;
        match answer.status {
            201 => drop(stored.fetch_add(1, Ordering::Relaxed)),
            429 => {
                refused = Some(answer);
                std::thread::sleep(Duration::from_millis(1));
            }
            other => bail!("{other}"),
        }
    }
    Ok(refused)
}

/// That these gateways store `limit` messages a second together, once their shares are settled, give or take a tenth. A
/// machine that stalls for seconds spoils one look, not three.
fn store_together(gateways: &[&Gateway], tenant: &Tenant, limit: f64) -> Result<()> {
    let (stored, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let floods: Vec<_> =
            gateways.iter().map(|gateway| scope.spawn(|| flood(gateway, tenant, &stored, &stop))).collect();
        std::thread::sleep(Duration::from_secs(4));
        let mut found = Vec::new();
        let is_it = |rate: &f64| (0.9 * limit..=1.1 * limit).contains(rate);
        while found.len() < 3 && !found.iter().any(is_it) {
            let (before, since) = (stored.load(Ordering::Relaxed), Instant::now());
            std::thread::sleep(Duration::from_secs(10));
            let after = stored.load(Ordering::Relaxed);
            found.push((after - before) as f64 / since.elapsed().as_secs_f64());
        }
        stop.store(true, Ordering::Relaxed);
        for flood in floods {
            let refused = flood.join().map_err(|_| anyhow::anyhow!("panicked"))??.context("nothing was refused")?;
            same("code", &refused.code().as_deref(), &Some("over_quota"))?;
            ensure!(refused.header("retry-after").is_some(), "no Retry-After");
        }
        ensure!(found.iter().any(is_it), "{found:?} a second by {} gateways, the limit is {limit}", gateways.len());
        Ok(())
    })
}

fn one_number() -> Result<()> {
    let fleet = Fleet::new()?;
    let data = fleet.dir.path().join("data");
    let (first, mut second) = (fleet.start("first", &data)?, fleet.start("second", &data)?);
    let tenant = tenant_in_force(&first, "shop", "main")?;
    first.admin(&["app", "limit", "shop", "--publish-messages", "100"])?;
    store_together(&[&first, &second], &tenant, 100.0)?;
    // The lessor may be either.
    second.kill9();
    store_together(&[&first], &tenant, 100.0)?;
    wait::until("the topic's rate", Duration::from_secs(20), || {
        first.post(&tenant, "", "x")?;
        let shown = admin_call(&first, Request::get(&format!("/v1/topics/shop/{}/{}", tenant.topic, tenant.ver)))?
            .expect(200)?
            .json()?;
        ensure!(shown["rates"]["publish_messages"].as_f64() > Some(0.0), "{shown}");
        Ok(())
    })?;
    first.admin(&["app", "limit", "shop", "--publish-messages", "0"])?;
    wait::until("no limit any more", Duration::from_secs(5), || {
        let mut connection = Connection::open(&first.publish)?;
        let request = tenant.publish("").body("x");
        (0..300).try_for_each(|_| connection.call(&request)?.expect(201).map(drop))
    })
}

/// Whatever is done with them, rightly and wrongly, and however much is logged.
fn told_nobody() -> Result<()> {
    let dir = scratch_dir("control")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let demo = &quickstart.demo;
    let nodes = quickstart.admin(&["instances"])?;
    quickstart.admin(&["log", nodes[0]["id"].as_str().context("an id")?, "trace"])?;
    let (admin, guess) = (quickstart.credentials()?, "a-guess-that-is-somebodys-secret-elsewhere");
    let field = |value: &Value, name: &str| value[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
    let mut secrets = vec![field(&admin, "admin_key")?, demo.pubkey.clone(), demo.subkey.clone(), guess.to_owned()];
    let shop = quickstart.admin(&["app", "create", "shop", "--cluster", "main"])?;
    secrets.extend([field(&shop, "pubkey")?, field(&shop, "subkey")?]);
    secrets.push(field(&quickstart.admin(&["secret", "rotate", "shop", "publish"])?, "secret")?);
    let key = field(&quickstart.admin(&["principal", "create", "team", "--role", "owner", "--app", "shop"])?, "key")?;
    let as_team = |request: Request| call(&quickstart.manager, &request.header("Appid", "team").header("Pubkey", &key));
    let token = field(&as_team(Request::post("/v1/tokens"))?.expect(201)?.json()?, "token")?;

    // What answers say: of what went right, and of what went wrong.
    let basic = |user: &str, key: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{key}")));
    let (manager, publish) = (&quickstart.manager, &quickstart.publish);
    let guessed = Tenant { pubkey: guess.to_owned(), ..demo.clone() };
    let other = |request: Request| request.header("Authorization", basic(&demo.appid, &demo.pubkey)).body("x");
    let asks = [
        (manager, Request::get("/v1/apps/shop").header("Authorization", format!("Bearer {token}"))),
        (manager, Request::get("/v1/apps/shop").header("Authorization", format!("Bearer {token}x"))),
        (manager, Request::get("/v1/audit").header("Authorization", basic("admin", &secrets[0]))),
        (manager, Request::get("/v1/audit").header("Authorization", basic("admin", guess))),
        (manager, Request::get("/v1/principals").header("Appid", "admin").header("Pubkey", &secrets[0])),
        (manager, Request::get("/v1/status").header("Appid", "admin").header("Pubkey", &secrets[0])),
        (manager, Request::get("/readyz")),
        (manager, Request::get("/metrics")),
        (manager, Request::get("/openapi.json")),
        (publish, demo.publish("").body("x")),
        (publish, guessed.publish("").body("x")),
        (publish, other(Request::post("/v1/msgs/foobar/v1"))),
        (publish, other(Request::post("/v1/msgs/none/v1"))),
    ];
    let mut told = String::new();
    for (base, request) in asks {
        told += &call(base, &request)?.text();
    }
    secrets.extend([
        basic("admin", &secrets[0]),
        basic("admin", guess),
        basic(&demo.appid, &demo.pubkey),
        key.clone(),
        token,
    ]);
    let log = quickstart.log();
    ensure!(log.contains("failed login") && log.contains("/v1/apps/shop"), "nothing much is logged: {log}");
    let mut processes = String::new();
    for entry in fs::read_dir("/proc")? {
        // Some end meanwhile, and most entries are no process.
        let arguments = fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        processes += &String::from_utf8_lossy(&arguments);
    }
    for (number, secret) in secrets.iter().enumerate() {
        for (place, text) in [("an answer", &told), ("the log", &log), ("the list of processes", &processes)] {
            ensure!(!text.contains(secret.as_str()), "{place} has secret {number}");
        }
    }
    Ok(())
}

fn addresses() -> Result<()> {
    let dir = scratch_dir("control")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let demo = &quickstart.demo;
    for (ranges, status) in [(&["192.0.2.0/24"][..], 403), (&["192.0.2.0/24", "127.0.0.0/8"], 201), (&[], 201)] {
        quickstart.admin(&[&["app", "addresses", &demo.appid], ranges].concat())?;
        same(&format!("{ranges:?}"), &publishes(&quickstart, demo, &demo.pubkey)?, &status)?;
    }
    Ok(())
}

/// Went wrong: after a full disk one of the pool's connections was refused for ever.
fn full_disk() -> Result<()> {
    let dir = scratch_dir("control")?;
    let disk = Disk::make(dir.path());
    let mut quickstart = Quickstart::start(&dir.path().join("data"), &[])?;
    let create = |quickstart: &Quickstart, appid: &str| {
        let body = format!("{{\"appid\":\"{appid}\",\"cluster\":\"main\"}}");
        admin_call(quickstart, Request::post("/v1/apps").body(body.into_bytes()))
    };
    create(&quickstart, "before")?.expect(201)?;
    quickstart.fill(&disk)?;
    for attempt in 0..6 {
        let answer = create(&quickstart, &format!("full{attempt}"))?.expect(503)?;
        let said = answer.json()?["errmsg"].as_str().unwrap_or_default().to_owned();
        ensure!(said.contains("disk") && said.contains("full"), "attempt {attempt}: {said}");
    }
    same("reading goes on", &admin_call(&quickstart, Request::get("/v1/apps"))?.status, &200)?;
    let Disk::Mounted(_) = disk else { return Ok(()) };
    disk.free()?;
    wait::until("room again", Duration::from_secs(10), || create(&quickstart, "freed")?.expect(201).map(drop))?;
    for attempt in 0..6 {
        create(&quickstart, &format!("freed{attempt}"))?.expect(201)?;
    }
    let readyz = || -> Result<Value> { call(&quickstart.manager, &Request::get("/readyz"))?.json() };
    wait::until("the snapshot to be written again", Duration::from_secs(40), || {
        same("unwritten", &readyz()?["tenants"]["unwritten"], &Value::Null)
    })?;
    let litter: Vec<String> = fs::read_dir(dir.path().join("data"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .filter(|name: &Result<String>| name.as_ref().is_ok_and(|name| name.contains(".new") || name.contains(".tmp")))
        .collect::<Result<_>>()?;
    same("litter", &litter, &Vec::new())?;
    quickstart.sigterm_and_wait(Duration::from_secs(20)).map(drop)
}

fn read_only_disk() -> Result<()> {
    let fleet = Fleet::new()?;
    let mount_at = fleet.dir.path().join("disk");
    fs::create_dir(&mount_at)?;
    let Disk::Mounted(_mounted) = Disk::make(&mount_at) else {
        // Without a file system of one's own there is none to make read-only.
        return Ok(());
    };
    let data = mount_at.join("data");
    let mut gateway = fleet.start("first", &data)?;
    let tenant = tenant_in_force(&gateway, "shop", "main")?;
    gateway.sigterm_and_wait(Duration::from_secs(20))?;
    let mut command = tethered("mount");
    command.args(["-o", "remount,ro"]).arg(&mount_at);
    run(command, Duration::from_secs(10))?;
    let gateway = fleet.start("again", &data)?;
    same("published", &publishes(&gateway, &tenant, &tenant.pubkey)?, &201)?;
    let readyz = call(&gateway.manager, &Request::get("/readyz"))?.expect(200)?.json()?;
    ensure!(readyz["tenants"]["unwritten"]["why"].as_str().is_some_and(|why| why.contains("Read-only")), "{readyz}");
    let answer = admin_call(&gateway, Request::post("/v1/apps").body(&b"{\"appid\":\"new\"}"[..]))?;
    same("a change", &answer.status, &503)
}

fn stale() -> Result<()> {
    let fleet = Fleet::new()?;
    let data = fleet.dir.path().join("data");
    let keys = table("main", &fleet.kafka.kafka, "") + "[tenants]\nstale_after = \"1500ms\"\n";
    let gateway = Gateway::serve(&config(fleet.dir.path(), "stale", &data, &keys)?, &data)?;
    let tenant = tenant_in_force(&gateway, "shop", "main")?;
    let (database, away) = (data.join("gafka.db"), data.join("away.db"));
    fs::rename(&database, &away)?;
    let readyz = |at: &str| call(at, &Request::get("/readyz"));
    for at in [&gateway.publish, &gateway.subscribe, &gateway.manager] {
        wait::until("it not to be ready", Duration::from_secs(10), || readyz(at)?.expect(503).map(drop))?;
        let said = readyz(at)?.text();
        ensure!(at == &gateway.manager || said.contains("tenants.stale_after"), "{said}");
    }
    same("it serves all the same", &publishes(&gateway, &tenant, &tenant.pubkey)?, &201)?;
    let metrics = call(&gateway.manager, &Request::get("/metrics"))?.expect(200)?.text();
    let stale = metrics.lines().find_map(|line| line.strip_prefix("tenants_staleness_seconds ")).context("a metric")?;
    ensure!(stale.parse::<f64>()? > 1.0, "{stale}");
    fs::rename(&away, &database)?;
    wait::until("it to be ready again", Duration::from_secs(10), || readyz(&gateway.publish)?.expect(200).map(drop))
}

fn private_files() -> Result<()> {
    let dir = scratch_dir("control")?;
    let data = dir.path().join("data");
    let log = data.join("access.log");
    let quickstart = Quickstart::start(&data, &["--access-log", &log.display().to_string()])?;
    same("published", &publishes(&quickstart, &quickstart.demo, &quickstart.demo.pubkey)?, &201)?;
    let mut all = vec![data];
    let mut files = 0;
    while let Some(path) = all.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let mode = metadata.permissions().mode() & 0o777;
        ensure!(mode & 0o077 == 0, "{} has mode {mode:o}", path.display());
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                all.push(entry?.path());
            }
        } else {
            files += 1;
        }
    }
    ensure!(log.exists() && files > 8, "only {files} files were looked at");
    Ok(())
}

/// Went wrong: an app deleted with `--cascade` and made again adopted the old Kafka topic.
fn made_again() -> Result<()> {
    let dir = scratch_dir("control")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let old = quickstart.new_tenant("shop", "main", 1)?;
    quickstart.post(&old, "", "a secret of the old shop")?.expect(201)?;
    quickstart.admin(&["app", "delete", "shop", "--cascade"])?;
    let Err(refused) = quickstart.admin(&["app", "create", "shop", "--cluster", "main"]) else { bail!("made again") };
    ensure!(format!("{refused:#}").contains("appid_reserved"), "{refused:#}");
    let app = quickstart.admin(&["app", "create", "shop", "--cluster", "main", "--reuse"])?;
    let Err(refused) = quickstart.admin(&["topic", "create", "shop", "orders", "v1"]) else { bail!("adopted") };
    ensure!(format!("{refused:#}").contains("kafka_topic_exists"), "{refused:#}");
    quickstart.admin(&["topic", "create", "shop", "orders", "v2"])?;
    let key = |name: &str| app[name].as_str().map(str::to_owned).with_context(|| name.to_owned());
    let new = Tenant { pubkey: key("pubkey")?, subkey: key("subkey")?, ver: "v2".to_owned(), ..old };
    quickstart.post(&new, "", "of the new shop")?.expect(201)?;
    quickstart.poll_for(&new, "g", &["of the new shop"], Duration::from_secs(10)).map(drop)
}
