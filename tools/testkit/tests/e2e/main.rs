//! End-to-end tests: our binaries, real brokers, other people's clients.
//!
//! Each file is one subject and lists its cases in `CASES`. A case names the components it needs; what cannot be had
//! here is listed as skipped with the reason, and where a skip is a failure (`CI=true`, `GAFKA_SKIP_IS_FAILURE=1`)
//! it fails with that reason.

mod admin;
mod control;
mod fallen;
mod faults;
mod foreign;
mod gateways;
mod handoff;
mod harness;
mod idle;
mod jobs;
mod kit;
mod kproxy;
mod librdkafka;
mod old_kafka;
mod openapi;
mod programs;
mod publish;
mod quickstart;
mod serve;
mod shared;
mod subscribe;
mod tenants;

fn main() -> std::process::ExitCode {
    let subjects = [
        ("kit", kit::CASES),
        ("quickstart", quickstart::CASES),
        ("publish", publish::CASES),
        ("subscribe", subscribe::CASES),
        ("admin", admin::CASES),
        ("programs", programs::CASES),
        ("openapi", openapi::CASES),
        ("serve", serve::CASES),
        ("control", control::CASES),
        ("fallen", fallen::CASES),
        ("idle", idle::CASES),
        ("old_kafka", old_kafka::CASES),
        ("foreign", foreign::CASES),
        ("librdkafka", librdkafka::CASES),
        ("kproxy", kproxy::CASES),
        ("tenants", tenants::CASES),
        ("faults", &faults::CASES),
        ("handoff", handoff::CASES),
        ("jobs", jobs::CASES),
    ];
    let code = harness::run(&subjects);
    tenants::stop();
    shared::stop();
    kproxy::stop();
    faults::stop();
    handoff::stop();
    code
}
