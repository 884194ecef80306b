//! A daemon as its operator sees it: messages, exit codes, signals, service manager. The daemon is [`toyd`], the example
//! of the crate's documentation; this very program is it when it is started with a subcommand.

mod toyd;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use expect_test::{Expect, expect, expect_file};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::{Pid, Signal, kill_process};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("serve" | "config-reference") => toyd::main(),
        _ => libtest_mimic::run(&Arguments::from_args(), trials()).exit_code(),
    }
}

fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 9] = [
        ("mistakes_in_the_file_are_told_with_their_lines", mistakes_in_the_file),
        ("mistakes_in_flags_and_variables_are_told_by_name", mistakes_outside_the_file),
        ("listeners_that_share_a_port_or_a_range_are_refused", ports),
        ("half_a_login_is_refused", half_a_login),
        ("a_good_configuration_is_good_with_and_without_a_file", good),
        ("variables_that_nobody_reads_are_a_warning_only", unknown_variables),
        ("reference_and_schema_are_as_written_down_and_the_reference_is_a_file", reference),
        ("sigterm_drains_and_ends_with_0_and_the_service_manager_is_told", life),
        ("a_sighup_obeys_the_log_level_and_tells_what_waits_for_a_restart", reload),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || std::panic::catch_unwind(test).map_err(|_| Failed::from("panicked, see above")))
    };
    tests.into_iter().map(trial).collect()
}

fn toyd(args: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(args.split_whitespace()).envs(variables.iter().copied()).env_remove("NOTIFY_SOCKET");
    command
}

/// Runs it with `FILE` in its arguments for a file of this text: exit code, stdout, stderr.
fn run(args: &str, file: &str, variables: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("toyd.toml");
    fs::write(&path, file).expect("written");
    let args = args.replace("FILE", &path.display().to_string());
    let output = toyd(&args, variables).output().expect("runs");
    let text =
        |bytes: Vec<u8>| String::from_utf8(bytes).expect("text").replace(&dir.path().display().to_string(), "DIR");
    let code = output.status.code().expect("an exit code");
    format!("exit code {code}\n{}{}", text(output.stdout), text(output.stderr))
}

fn check(args: &str, file: &str, variables: &[(&str, &str)], expected: Expect) {
    expected.assert_eq(&run(args, file, variables));
}

fn mistakes_in_the_file() {
    check(
        "serve --config FILE",
        r#"bootsrap = ["a:1"]
node_id_base = -1
forward = "maybe"
mode = "ajar"
tenants = [1]
[listen]
kafka = "localhost"
[drain]
delay = "1 week"
limit = 7.5
[lgo]
level = "info"
[clusters.main.tls]
enabeld = true
[clusters.none]
bootstrap = []
[clusters]
flat = 1
"#,
        &[],
        expect![[r#"
            exit code 2
            DIR/toyd.toml:1: unknown key `bootsrap`; did you mean `bootstrap`?
            DIR/toyd.toml:2: `node_id_base`: expected a whole number, at least 0, found `-1`
            DIR/toyd.toml:3: `forward`: expected true or false, found `maybe`
            DIR/toyd.toml:4: `mode`: expected one of open, closed, found `ajar`
            DIR/toyd.toml:5: `tenants`: expected a list of strings, found a number
            DIR/toyd.toml:7: `listen.kafka`: expected an address like 127.0.0.1:9191, found `localhost`
            DIR/toyd.toml:9: `drain.delay`: expected a duration like 30s, 250ms or 5m, found `1 week`
            DIR/toyd.toml:10: `drain.limit`: expected a duration, found a decimal number
            DIR/toyd.toml:11: unknown key `lgo`; did you mean `log`?
            DIR/toyd.toml:13: `clusters.main.bootstrap`: is required; for example ["broker1:9092"]
            DIR/toyd.toml:14: unknown key `clusters.main.tls.enabeld`; did you mean `clusters.main.tls.enabled`?
            DIR/toyd.toml:16: `clusters.none.bootstrap`: is required; for example ["broker1:9092"]
            DIR/toyd.toml:18: `clusters.flat` must be a table: [clusters.flat]
            DIR/toyd.toml: `bootstrap`: is required; for example ["broker1:9092", "broker2:9092"]
            toyd: 14 mistakes in the configuration
        "#]],
    );
    check(
        "serve --config FILE",
        "log = 1\nclusters = 1\nbootstrap = ['a:1'\n",
        &[],
        expect![[r#"
        exit code 2
        DIR/toyd.toml:1: `log` must be a table: [log]
        DIR/toyd.toml:2: `clusters` must be tables: [clusters.NAME]
        DIR/toyd.toml:3: unclosed array, expected `]`
        toyd: 3 mistakes in the configuration
    "#]],
    );
    check(
        "serve --config DIR/none.toml",
        "",
        &[],
        expect![[r#"
        exit code 2
        DIR/none.toml: cannot read the file: No such file or directory (os error 2)
        toyd: 1 mistake in the configuration
    "#]],
    );
}

fn mistakes_outside_the_file() {
    check(
        "serve --node-id-base x --bootstrap a:1,b,http://c:1 --drain-limit 1s",
        "",
        &[("TOYD_LISTEN_OPS", "somewhere"), ("TOYD_DRAIN_DELAY", "2s")],
        expect![[r#"
            exit code 2
            TOYD_LISTEN_OPS: expected an address like 127.0.0.1:9191, found `somewhere`
            TOYD_DRAIN_DELAY: `drain.delay`: must be shorter than drain.limit, which is 1s
            --bootstrap: expected host:port, found `b`; expected host:port without a scheme (tls.enabled and sasl.mechanism say how to speak), found `http://c:1`
            --node-id-base: expected a whole number, at least 0, found `x`
            toyd: 4 mistakes in the configuration
        "#]],
    );
    check(
        "serve --bootstrap a:1 --drain-limit 1s --listen-kafka 127.0.0.1:19080",
        "",
        &[],
        expect![[r#"
        exit code 2
        --listen-kafka: `listen.kafka`: 127.0.0.1:19080 to 19144 is taken by `listen.ops`, which listens on 127.0.0.1:19090
        --drain-limit: `drain.limit`: must be longer than drain.delay, which is 1s
        toyd: 2 mistakes in the configuration
    "#]],
    );
    check(
        "serve",
        "",
        &[],
        expect![[r#"
        exit code 2
        --bootstrap: `bootstrap`: is required; for example ["broker1:9092", "broker2:9092"]
        toyd: 1 mistake in the configuration
    "#]],
    );
}

fn ports() {
    let file = "bootstrap = ['a:1']\n[listen]\n";
    check(
        "serve --config FILE",
        &format!("{file}kafka = '127.0.0.1:1000'\nops = '0.0.0.0:1064'\n"),
        &[],
        expect![[r#"
            exit code 2
            DIR/toyd.toml:4: `listen.ops`: 0.0.0.0:1064 is taken by `listen.kafka`, which listens on 127.0.0.1:1000 to 1064
            toyd: 1 mistake in the configuration
        "#]],
    );
    check(
        "serve --config FILE",
        &format!("{file}kafka = '127.0.0.1:65500'\n"),
        &[],
        expect![[r#"
        exit code 2
        DIR/toyd.toml:3: `listen.kafka`: 65 ports from 65500 on are more than there are
        toyd: 1 mistake in the configuration
    "#]],
    );
    let next_to_it = "kafka = '127.0.0.1:1000'\nops = '127.0.0.1:1065'\n";
    check(
        "serve --check-config --config FILE",
        &format!("{file}{next_to_it}"),
        &[],
        expect![[r#"
        exit code 0
        DIR/toyd.toml: good
    "#]],
    );
}

fn half_a_login() {
    check(
        "serve --config FILE",
        r#"bootstrap = ["a:1"]
[clusters.a]
bootstrap = ["a:1"]
sasl.password_file = "/dev/null"
[clusters.b]
bootstrap = ["a:1"]
sasl.mechanism = "PLAIN"
sasl.username = "u"
sasl.password_file = "/dev/null"
[clusters.c]
bootstrap = ["a:1"]
sasl.mechanism = "SCRAM"
tls.cert_file = "/dev/null"
"#,
        &[],
        expect![[r#"
            exit code 2
            DIR/toyd.toml:4: `clusters.a.sasl.mechanism`: is required with sasl.password_file
            DIR/toyd.toml:7: `clusters.b.sasl.password`: sasl.password_file or sasl.password is required
            DIR/toyd.toml:12: `clusters.c.sasl.mechanism`: expected one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, found `SCRAM`
            DIR/toyd.toml:13: `clusters.c.tls.cert_file`: tls.cert_file and tls.key_file go together
            DIR/toyd.toml:13: `clusters.c.tls.cert_file`: has no effect while tls.enabled is false
            toyd: 5 mistakes in the configuration
        "#]],
    );
}

fn good() {
    check(
        "serve --check-config --config FILE",
        "bootstrap = ['a:1']",
        &[],
        expect![[r#"
        exit code 0
        DIR/toyd.toml: good
    "#]],
    );
    check(
        "serve --check-config --bootstrap a:1,[::1]:2",
        "",
        &[],
        expect![[r#"
        exit code 0
        configuration: good
    "#]],
    );
    check(
        "serve --check-config",
        "",
        &[("TOYD_BOOTSTRAP", "a:1")],
        expect![[r#"
        exit code 0
        configuration: good
    "#]],
    );
}

fn unknown_variables() {
    let variables = [("TOYD_BOOTSTRAP", "a:1"), ("TOYD_DRAIN_LIMT", "1s"), ("TOYD_SERVICE_HOST", "10.0.0.1")];
    check(
        "serve --check-config",
        "",
        &variables,
        expect![[r#"
        exit code 0
        configuration: good
        toyd: the environment variable TOYD_DRAIN_LIMT is none of toyd's; did you mean TOYD_DRAIN_LIMIT?
        toyd: the environment variable TOYD_SERVICE_HOST is none of toyd's
    "#]],
    );
}

fn reference() {
    let text = run("config-reference", "", &[]);
    expect_file!["reference.golden.toml"].assert_eq(&text);
    let file = text.replace("exit code 0\n", "").replace("# bootstrap = []", "bootstrap = ['a:1']");
    check(
        "serve --check-config --config FILE",
        &file,
        &[],
        expect![[r#"
        exit code 0
        DIR/toyd.toml: good
    "#]],
    );
    expect_file!["schema.golden.json"]
        .assert_eq(&run("config-reference --schema", "", &[]).replace("exit code 0\n", ""));
}

/// Ends it if a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Started, and ready.
    fn start(mut command: Command) -> (Running, serde_json::Value) {
        let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts"));
        let mut line = String::new();
        let stdout = child.0.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("a ready line");
        (child, serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line}")))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).expect("signalled");
    }

    /// SIGTERM; the exit code and the log.
    fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let mut log = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut log).expect("text");
        (self.0.wait().expect("ended").code(), log)
    }
}

/// What the service manager hears.
fn notifications(dir: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(dir.join("notify")).expect("bound");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    socket
}

fn next(socket: &UnixDatagram) -> String {
    let mut message = [0; 256];
    let length = socket.recv(&mut message).expect("a notification in time");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

const SERVE: &str =
    "serve --json --bootstrap a:1 --listen-kafka 127.0.0.1:0 --listen-ops 127.0.0.1:0 --drain-delay 1ms";

fn life() {
    let dir = tempfile::tempdir().expect("a directory");
    let manager = notifications(dir.path());
    let mut command = toyd(SERVE, &[]);
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    let (running, ready) = Running::start(command);
    assert_eq!(ready["ready"], true);
    let ops = ready["ops"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address");
    std::net::TcpStream::connect(ops).expect("the operator's port is open");
    assert_eq!(next(&manager), "READY=1");
    running.signal(Signal::HUP);
    let reloading = next(&manager);
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(next(&manager), "READY=1");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(next(&manager), "STOPPING=1");
}

fn reload() {
    let dir = tempfile::tempdir().expect("a directory");
    let manager = notifications(dir.path());
    let file = dir.path().join("toyd.toml");
    let mut command = toyd(&format!("{SERVE} --config {}", file.display()), &[]);
    command.env("NOTIFY_SOCKET", dir.path().join("notify"));
    let write = |text: &str| fs::write(&file, text).expect("written");
    write("log.level = 'warn'\n");
    let (running, _) = Running::start(command);
    assert_eq!(next(&manager), "READY=1");
    let hangup = |text: &str| {
        write(text);
        running.signal(Signal::HUP);
        assert!(next(&manager).starts_with("RELOADING=1"));
        assert_eq!(next(&manager), "READY=1");
    };
    hangup("log.level = 'info'\n");
    hangup("log.level = 'info'\nmode = 'open'\n");
    hangup("log.level = 'error'\nmode = 'ajar'\n");
    hangup("log.level = 'info'\nmode = 'open'\n");
    let (code, log) = running.stop();
    assert_eq!(code, Some(0), "{log}");
    let lines = log.lines().map(|line| line.split_once(' ').map_or(line, |(_time, rest)| rest.trim_start()));
    let log: String = lines.map(|line| format!("{line}\n")).collect();
    expect![[r#"
        INFO daemon::process: SIGHUP: configuration read again changed="log.level"
        WARN daemon::process: changed in the configuration, obeyed after a restart keys="mode"
        INFO daemon::process: SIGHUP: configuration read again changed=""
        ERROR daemon::process: `mode`: expected one of open, closed, found `ajar` place=DIR/toyd.toml:2
        ERROR daemon::process: SIGHUP: the configuration has mistakes; everything stays as it was
        WARN daemon::process: changed in the configuration, obeyed after a restart keys="mode"
        INFO daemon::process: SIGHUP: configuration read again changed=""
        INFO daemon::process: draining
    "#]]
    .assert_eq(&log.replace(&dir.path().display().to_string(), "DIR"));
}
