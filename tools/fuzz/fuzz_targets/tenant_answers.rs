//! A broker's bytes on their way to a tenant.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../proxy/router/tests/common/mod.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod common;

fuzz_target!(|data: &[u8]| common::tenant_checks::check_tenant_answers(data));
