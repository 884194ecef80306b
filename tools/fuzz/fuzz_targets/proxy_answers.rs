//! A broker's bytes through kproxy, behind four bytes that say what was asked.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../proxy/router/tests/common/mod.rs"]
#[allow(dead_code, reason = "the other target uses the other half")]
mod common;

fuzz_target!(|data: &[u8]| common::check_answers(data));
