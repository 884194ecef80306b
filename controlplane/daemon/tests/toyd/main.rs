//! A daemon as its operator sees it: messages, exit codes, signals, ports. The daemon is [`toyd`], the example of the
//! crate's documentation; this very program is it when it is started with a subcommand.

mod toyd;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("serve" | "config-reference") => toyd::main(),
        _ => libtest_mimic::run(&libtest_mimic::Arguments::from_args(), Vec::new()).exit_code(),
    }
}
