//! The rules of DESIGN.md and STYLE.md that a machine can check.
//!
//! Crate graph: the allowed arrows, what must not reach tokio, lints inherited. Sources: no leftovers, no files that
//! nobody compiles, none too long to read, no addresses and no paths of somebody's machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// Files longer than this tell more than one story.
const FILE_LINES_MAX: usize = 1_000;

/// Who may depend on whom among our own crates (normal and build dependencies). A crate that is missing here fails the
/// test, so that whoever adds one decides where it stands.
const ARROWS: &[(&str, &[&str])] = &[
    // Shared and pure, usable from both planes.
    ("model", &[]),
    ("kafka-wire", &[]),
    ("kafka-client", &["kafka-wire", "model"]),
    ("gafka-http", &[]),
    ("telemetry", &[]),
    ("disk", &[]),
    ("journal", &["disk"]),
    ("jobs", &["disk", "journal"]),
    // Data plane.
    ("runtime", &["telemetry"]),
    ("embedded-kafka", &["disk", "kafka-wire", "runtime", "telemetry"]),
    ("router", &["kafka-client", "kafka-wire", "model", "runtime", "telemetry"]),
    (
        "gateway",
        &["disk", "gafka-http", "jobs", "journal", "kafka-client", "kafka-wire", "model", "runtime", "telemetry"],
    ),
    // Control plane.
    ("authdb", &["model"]),
    ("daemon", &["console", "model"]),
    ("registry", &["model"]),
    ("agent", &["authdb", "model", "registry"]),
    ("kafka-admin", &["kafka-client", "kafka-wire", "model"]),
    ("manager", &["agent", "authdb", "kafka-admin", "kafka-client", "kafka-wire", "model", "registry", "telemetry"]),
    // Tests and chores.
    ("console", &[]),
    ("testkit", &[]),
    ("mock-cluster", &[]),
    ("walctl", &["console", "disk", "journal", "kafka-admin", "kafka-client", "kafka-wire", "registry"]),
    ("xtask", &["console", "testkit"]),
];

/// Binaries compose: they may use anything.
const COMPOSITION_ROOTS: &[&str] = &["kateway", "kproxy", "kbench"];

/// From here tokio must not be reachable, at any depth.
const WITHOUT_TOKIO: &[&str] = &[
    "gafka-http",
    "kafka-client",
    "kafka-wire",
    "model",
    "runtime",
    "telemetry",
    "disk",
    "journal",
    "jobs",
    "embedded-kafka",
    "gateway",
    "router",
];

/// May say `unsafe`, so they carry lints of their own.
const WITH_OWN_LINTS: &[&str] = &["runtime", "telemetry", "disk"];

/// State machines: they run the same under a driver and under a seed.
const PURE: &[&str] = &["dataplane/kafka-wire", "dataplane/kafka-client", "dataplane/http", "controlplane/model"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout")
}

/// `cargo metadata` of the workspace, for Linux.
static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
});

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a text, got {value}"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("expected a list, got {value}"))
}

/// Our packages: id to name.
fn members() -> BTreeMap<&'static str, &'static str> {
    let ids: BTreeSet<&str> = list(&METADATA["workspace_members"]).iter().map(text).collect();
    list(&METADATA["packages"])
        .iter()
        .filter(|package| ids.contains(text(&package["id"])))
        .map(|package| (text(&package["id"]), text(&package["name"])))
        .collect()
}

/// Resolved edges that end up in a program: package id to ids, without dev-dependencies.
fn edges() -> BTreeMap<&'static str, Vec<&'static str>> {
    let not_dev = |dependency: &&Value| list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev");
    list(&METADATA["resolve"]["nodes"])
        .iter()
        .map(|node| {
            let targets = list(&node["deps"]).iter().filter(not_dev).map(|dependency| text(&dependency["pkg"]));
            (text(&node["id"]), targets.collect())
        })
        .collect()
}

fn package_name(id: &str) -> &'static str {
    let packages = list(&METADATA["packages"]);
    let package = packages.iter().find(|package| text(&package["id"]) == id);
    text(&package.unwrap_or_else(|| panic!("no package {id}"))["name"])
}

#[test]
fn only_the_arrows_of_the_design_exist_between_our_crates() {
    let members = members();
    let edges = edges();
    let mut wrong = Vec::new();
    for (id, name) in &members {
        if COMPOSITION_ROOTS.contains(name) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| from == name) else {
            wrong.push(format!("{name} is not in ARROWS of this test: where does it stand in DESIGN.md section 2?"));
            continue;
        };
        let ours = edges[id].iter().filter_map(|target| members.get(target));
        wrong.extend(ours.filter(|target| !allowed.contains(target)).map(|target| format!("{name} → {target}")));
    }
    assert!(wrong.is_empty(), "arrows that DESIGN.md section 2 does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn tokio_is_unreachable_from_the_data_plane() {
    let edges = edges();
    for (id, name) in members().into_iter().filter(|(_, name)| WITHOUT_TOKIO.contains(name)) {
        // Breadth first, remembering from where, to show the way.
        let mut from: BTreeMap<&str, &str> = BTreeMap::from([(id, id)]);
        let mut queue = vec![id];
        while let Some(current) = queue.pop() {
            for &target in &edges[current] {
                if from.contains_key(target) {
                    continue;
                }
                from.insert(target, current);
                assert!(package_name(target) != "tokio", "{name} reaches tokio: {}", way(&from, target));
                queue.push(target);
            }
        }
    }
}

fn way(from: &BTreeMap<&str, &str>, end: &str) -> String {
    let mut names = vec![package_name(end)];
    let mut at = end;
    while from[at] != at {
        at = from[at];
        names.push(package_name(at));
    }
    names.reverse();
    names.join(" → ")
}

#[test]
fn every_package_inherits_the_lints_and_the_metadata_of_the_workspace() {
    let mut wrong = Vec::new();
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).expect("a manifest");
        let name =
            text.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or("?").trim_matches('"').to_owned();
        if !text.contains("[lints]\nworkspace = true") && !WITH_OWN_LINTS.contains(&name.as_str()) {
            wrong.push(format!("{name}: [lints] workspace = true is missing"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !text.contains(&format!("{key}.workspace = true")) {
                wrong.push(format!("{name}: {key}.workspace = true is missing"));
            }
        }
        for section in text.split("\n[").filter(|section| section.contains("dependencies]")) {
            for (key, value) in section.lines().filter_map(|line| line.split_once('=')) {
                if !key.contains(".workspace") && (value.trim().starts_with('"') || value.contains("version")) {
                    wrong.push(format!("{name}: a version of its own for {key}; it belongs into the root Cargo.toml"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn manifests() -> Vec<PathBuf> {
    let members = members();
    list(&METADATA["packages"])
        .iter()
        .filter(|package| members.contains_key(text(&package["id"])))
        .map(|package| PathBuf::from(text(&package["manifest_path"])))
        .collect()
}

/// Every file of the checkout that git would take, as (path from the root, content), text only.
fn sources() -> Vec<(String, String)> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).expect("file names are text");
    names
        .lines()
        .filter_map(|name| Some((name.to_owned(), String::from_utf8(fs::read(root().join(name)).ok()?).ok()?)))
        .collect()
}

/// This file names what it forbids.
fn is_this_file(name: &str) -> bool {
    name == "tools/xtask/tests/tidy.rs"
}

#[test]
fn no_leftovers_of_unfinished_work() {
    // A test that is ignored is a skip, which CI takes for a failure; so is an example that nobody compiles.
    let forbidden = ["todo!(", "unimplemented!(", "dbg!(", "XXX:", "FIXME", "#[ignore", "```ignore"];
    let mut wrong = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| name.ends_with(".rs") && !is_this_file(name)) {
        for (index, line) in text.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a file is without its tests: they stand at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn state_machines_read_no_clock_no_socket_no_file_and_no_randomness() {
    let forbidden = [
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "std::thread",
        "std::env::var",
        "getrandom",
        ".elapsed()",
    ];
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let pure = PURE.iter().any(|folder| name.starts_with(&format!("{folder}/src/")));
        let is_test = ["/testing.rs", "/tests.rs", "/simulation.rs"].iter().any(|tests| name.ends_with(tests));
        if !pure || is_test || name.contains("/simulation/") {
            continue;
        }
        for (index, line) in without_tests(&text).lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "`now`, bytes and seeds are values here:\n{}", wrong.join("\n"));
}

#[test]
fn outcomes_become_statuses_in_one_file() {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        let answers = |line: &str| ["=> (4", "=> (5", "=> Refusal"].iter().any(|words| line.contains(words));
        let judges = |line: &&str| line.contains("ProduceError::") && answers(line);
        if name.starts_with("dataplane/gateway/src/") && !name.ends_with("/kafka/outcome.rs") {
            wrong.extend(without_tests(&text).lines().filter(judges).map(|line| format!("{name}: {line}")));
        }
    }
    assert!(wrong.is_empty(), "only kafka/outcome.rs says what an outcome is to a client:\n{}", wrong.join("\n"));
}

/// A crate's rooms from the top: each knows those of the lines below it, none of its own line. A room is a folder, or a file
/// beside them; files that are no rooms are the ground, below all.
struct Rooms {
    sources: &'static str,
    /// What stands above all rooms.
    above: &'static [&'static str],
    floors: &'static [&'static [&'static str]],
}

const GATEWAY: Rooms = Rooms {
    sources: "dataplane/gateway/src/",
    above: &["lib.rs", "gateway.rs"],
    floors: &[
        &["shard"],
        &["serve"],
        &["endpoints"],
        &["publish", "subscribe"],
        &["jobs"],
        &["kafka", "access"],
        &["exchange"],
        &["env"],
    ],
};

const EMBEDDED_KAFKA: Rooms = Rooms {
    sources: "dataplane/embedded-kafka/src/",
    above: &["lib.rs", "simulation.rs"],
    floors: &[&["connection"], &["broker"], &["dispatch", "waiting"], &["apis"], &["state"], &["groups", "storage"]],
};

const ROUTER: Rooms = Rooms {
    sources: "proxy/router/src/",
    above: &["lib.rs", "proxy.rs"],
    floors: &[&["shard"], &["tenant"], &["answers", "requests"], &["rewrite"]],
};

impl Rooms {
    fn floor_of(&self, room: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.contains(&room))
    }

    /// Where a file stands: its room, if it is in one, and its floor. Nothing: a folder that is no room.
    fn place_of<'a>(&self, inside: &'a str) -> Option<(Option<&'a str>, usize)> {
        let folder = inside.split_once('/').map(|(room, _)| room);
        let room = folder.or(inside.strip_suffix(".rs")).filter(|room| self.floor_of(room).is_some());
        match (folder, room) {
            (Some(_), None) => None,
            (_, Some(room)) => Some((Some(room), self.floor_of(room)?)),
            (None, None) => Some((None, self.floors.len())),
        }
    }

    /// Arrows that do not point downward, and how many arrows there are.
    fn wrong_arrows(&self) -> (Vec<String>, usize) {
        let (mut wrong, mut arrows) = (Vec::new(), 0);
        for (name, text) in sources() {
            let Some(inside) = name.strip_prefix(self.sources) else { continue };
            if self.above.contains(&inside) || inside.contains("/tests") {
                continue;
            }
            let Some((own, own_floor)) = self.place_of(inside) else {
                wrong.push(format!("{name}: a folder that is no room"));
                continue;
            };
            for (line, room) in mentions(without_tests(&text)) {
                let Some(floor) = self.floor_of(&room) else { continue };
                arrows += 1;
                if own != Some(room.as_str()) && floor <= own_floor {
                    wrong.push(format!("{name}: {}", line.trim()));
                }
            }
        }
        (wrong, arrows)
    }
}

/// What code names behind `crate::`, and in which line.
fn mentions(text: &str) -> impl Iterator<Item = (&str, String)> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let first = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    code.flat_map(move |line| line.split("crate::").skip(1).map(move |rest| (line, first(rest))))
}

#[test]
fn arrows_between_the_gateways_rooms_point_downward() {
    let (wrong, arrows) = GATEWAY.wrong_arrows();
    assert!(wrong.is_empty(), "arrows that do not point downward:\n{}", wrong.join("\n"));
    assert!(arrows > 100, "the sources were read: {arrows}");
}

#[test]
fn arrows_between_the_embedded_brokers_rooms_point_downward() {
    let (wrong, arrows) = EMBEDDED_KAFKA.wrong_arrows();
    assert!(wrong.is_empty(), "arrows that do not point downward:\n{}", wrong.join("\n"));
    assert!(arrows > 100, "the sources were read: {arrows}");
}

#[test]
fn arrows_between_the_proxys_rooms_point_downward() {
    let (wrong, arrows) = ROUTER.wrong_arrows();
    assert!(wrong.is_empty(), "arrows that do not point downward:\n{}", wrong.join("\n"));
    assert!(arrows > 10, "the sources were read: {arrows}");
}

/// What a program of ours has to say goes to stdout through `console`, which knows what a reader that has gone means.
#[test]
fn results_go_to_stdout_in_one_way() {
    let programs = [
        "bench/kbench/src/",
        "controlplane/daemon/src/",
        "dataplane/kateway/src/",
        "proxy/kproxy/src/",
        "tools/walctl/src/",
        "tools/xtask/src/",
    ];
    let prints = |line: &str| {
        let line = line.replace("console::print", "").replace("eprint", "");
        let writes = line.contains("io::stdout()") && !line.contains("io::stdout().is_terminal()");
        line.contains("print!(") || line.contains("println!(") || writes
    };
    let mut wrong = Vec::new();
    for (name, text) in sources().iter().filter(|(name, _)| programs.iter().any(|program| name.starts_with(program))) {
        let lines = without_tests(text).lines().enumerate().filter(|(_, line)| prints(line));
        wrong.extend(lines.map(|(index, line)| format!("{name}:{}: {}", index + 1, line.trim())));
    }
    assert!(wrong.is_empty(), "say console::print! instead:\n{}", wrong.join("\n"));
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = |(name, text): &(String, String)| {
        let lines = text.lines().count();
        (name.ends_with(".rs") && lines > FILE_LINES_MAX).then(|| format!("{name}: {lines} lines"))
    };
    let wrong: Vec<String> = sources().iter().filter_map(long).collect();
    assert!(wrong.is_empty(), "longer than {FILE_LINES_MAX} lines:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |(name, text): &(String, String)| {
        let is_code = name.ends_with(".rs") && name.contains("/src/") && !name.ends_with("/tests.rs");
        (is_code && !text.trim_start().starts_with("//!")).then(|| name.clone())
    };
    let wrong: Vec<String> = sources().iter().filter_map(silent).collect();
    assert!(wrong.is_empty(), "these begin without //!:\n{}", wrong.join("\n"));
}

#[test]
fn no_paths_of_a_machine_and_no_addresses_of_registries() {
    // In two parts, so that a search for one does not end here.
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/tmp/", "plan"),
        concat!("crates", ".io/"),
        concat!("repo1.", "maven"),
        concat!("repo.maven", ".apache"),
        concat!("files.python", "hosted"),
        concat!("pypi", ".org"),
        concat!("registry.", "npmjs"),
        concat!("proxy.go", "lang"),
        concat!("deb.deb", "ian"),
    ];
    let mut wrong = Vec::new();
    // The lock file names the registry as cargo does everywhere.
    for (name, text) in sources().iter().filter(|(name, _)| name != "Cargo.lock") {
        for (index, line) in text.lines().enumerate() {
            if forbidden.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{}: {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_source_file_is_compiled() {
    let sources: BTreeMap<String, String> = sources().into_iter().filter(|(name, _)| name.ends_with(".rs")).collect();
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut queue: Vec<String> = target_roots();
    while let Some(name) = queue.pop() {
        if let Some(text) = sources.get(&name)
            && reached.insert(name.clone())
        {
            queue.extend(modules_of(&name, text));
        }
    }
    let orphan = |name: &&String| !reached.contains(*name) && !name.starts_with(FUZZ);
    let orphans: Vec<&String> = sources.keys().filter(orphan).collect();
    assert!(orphans.is_empty(), "declared as a module by nobody:\n{orphans:#?}");
}

/// A workspace of its own, built by the fuzzer only; each of its files is a target.
const FUZZ: &str = "tools/fuzz/";

/// The files cargo starts from, seen from the root of the checkout.
fn target_roots() -> Vec<String> {
    let (root, members) = (root(), members());
    list(&METADATA["packages"])
        .iter()
        .filter(|package| members.contains_key(text(&package["id"])))
        .flat_map(|package| list(&package["targets"]))
        .filter_map(|target| Path::new(text(&target["src_path"])).strip_prefix(&root).ok())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect()
}

#[test]
fn what_the_fuzz_targets_include_by_path_uses_only_what_they_depend_on() {
    // They are a workspace of their own that CI does not build: they did not compile for a while and nobody saw it.
    const LIB: &str = "tools/fuzz/src/lib.rs";
    let all: BTreeMap<String, String> = sources().into_iter().collect();
    let (lib, manifest) = (&all[LIB], &all["tools/fuzz/Cargo.toml"]);
    let included = lib.lines().filter_map(|line| line.strip_prefix("#[path = \"../../../")?.strip_suffix("\"]"));
    let mut wrong = Vec::new();
    let mut count = 0;
    for path in included {
        let folder = path.strip_suffix("mod.rs").unwrap_or(path);
        for (name, text) in all.iter().filter(|(name, _)| name.starts_with(folder) && !name.contains("/tests/")) {
            count += 1;
            for line in without_tests(text).lines().filter_map(|line| line.trim().strip_prefix("use ")) {
                let mut parts = line.split("::");
                let root = parts.next().unwrap_or_default();
                let second = parts.next().unwrap_or_default().trim_end_matches(';').split([' ', ';']).next();
                let known = match root {
                    "std" | "super" | "self" => true,
                    "crate" => second.is_some_and(|module| lib.contains(&format!("mod {module};"))),
                    other => [other.to_owned(), other.replace('_', "-")]
                        .iter()
                        .any(|package| manifest.lines().any(|line| line.starts_with(&format!("{package} =")))),
                };
                if !known {
                    wrong.push(format!("{name}: use {line}"));
                }
            }
        }
    }
    assert!(count > 4, "the included files were read: {count}");
    assert!(wrong.is_empty(), "{LIB} and its Cargo.toml do not have:\n{}", wrong.join("\n"));
}

/// Files that the `mod name;` and `#[path]` lines of a file may mean; those that do not exist are ignored.
fn modules_of(name: &str, text: &str) -> Vec<String> {
    let path = Path::new(name);
    let dir = path.parent().unwrap_or(Path::new(""));
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut found = Vec::new();
    let mut explicit: Option<&str> = None;
    // Modules written out in braces around the current line, by their indentation.
    let mut inline: Vec<(usize, &str)> = Vec::new();
    for raw in text.lines() {
        let indent = raw.len() - raw.trim_start().len();
        let line = raw.trim();
        if line == "}" {
            inline.retain(|(opened, _)| *opened < indent);
        }
        if let Some(file) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            explicit = Some(file);
            continue;
        }
        let after_visibility = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(')').map_or(rest, |(_, rest)| rest).trim_start(),
            Some(rest) => rest.trim_start(),
            None => line,
        };
        let Some(declared) = after_visibility.strip_prefix("mod ") else { continue };
        if let Some(module) = declared.strip_suffix(" {") {
            inline.push((indent, module));
        } else if let Some(module) = declared.strip_suffix(';') {
            if let Some(file) = explicit.take() {
                found.push(dir.join(file));
                continue;
            }
            let nested: PathBuf = inline.iter().map(|(_, outer)| *outer).collect();
            // A root or mod.rs owns its directory, x.rs owns x/; which one this is need not be known.
            for base in [dir.to_owned(), dir.join(stem)] {
                let base = base.join(&nested);
                found.push(base.join(format!("{module}.rs")));
                found.push(base.join(module).join("mod.rs"));
            }
        }
    }
    found.iter().filter_map(|path| path.to_str().map(str::to_owned)).collect()
}

#[test]
fn module_lines_are_understood() {
    let text =
        "mod a;\npub(crate) mod b;\n#[path = \"x/c.rs\"]\npub mod c;\nmod inner {\n    mod d;\n}\nmod e;\nmod t { }";
    let found = modules_of("p/src/lib.rs", text);
    for expected in ["p/src/a.rs", "p/src/b/mod.rs", "p/src/x/c.rs", "p/src/inner/d.rs", "p/src/lib/a.rs", "p/src/e.rs"]
    {
        assert!(found.iter().any(|path| path == expected), "{expected} in {found:?}");
    }
    assert!(!found.iter().any(|path| path == "p/src/d.rs"));
    assert!(!found.iter().any(|path| path == "p/src/inner/e.rs"));
}
