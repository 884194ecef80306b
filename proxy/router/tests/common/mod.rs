//! What the fuzz targets `proxy_requests` and `proxy_answers` check, for them and for the tests that replay their seeds.
//!
//! Whatever a stranger sends: no panic, and the same comes out whatever pieces it arrives in. What was rewritten can be
//! read, and rewriting it once more changes nothing.

#[allow(dead_code, reason = "not every test looks at everything")]
pub mod tenant;
#[allow(dead_code, reason = "not every test looks at everything")]
pub mod tenant_checks;

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use router::answers::{self, Answers};
use router::apis::{APIS, Api};
use router::in_flight::{InFlight, Outstanding};
use router::requests::{self, Requests, Upstream};
use router::rewrite::api_versions::Asker;
use router::topology::{Naming, View};

struct Nobody;

impl requests::Watch for Nobody {
    fn request(&mut self, _: &'static Api, _: usize) {}
    fn asker(&mut self, _: &Asker) {}
}

impl answers::Watch for Nobody {
    fn answer(&mut self, _: &Outstanding, _: usize) {}
    fn hidden(&mut self) {}
}

/// What leaves, up to the first error, and that error's reason.
type Passed = (Vec<u8>, Option<&'static str>);

fn pass_requests(data: &[u8], piece_bytes: usize) -> Passed {
    let mut requests = Requests::new(1 << 16);
    let (mut in_flight, mut buffer, mut out) = (InFlight::default(), BytesMut::new(), Vec::<Bytes>::new());
    for piece in data.chunks(piece_bytes) {
        buffer.extend_from_slice(piece);
        let now = Instant::now();
        if let Err(err) = requests.advance(&mut buffer, &mut in_flight, Upstream::Any, &mut out, &mut Nobody, now) {
            return (out.concat(), Some(err.reason()));
        }
    }
    (out.concat(), None)
}

/// A client's bytes.
pub fn check_requests(data: &[u8]) {
    let whole = pass_requests(data, data.len().max(1));
    for piece_bytes in [1, 3, 64] {
        assert_eq!(pass_requests(data, piece_bytes), whole, "in pieces of {piece_bytes}");
    }
}

fn pass_answers(asked: &[(u8, u8)], data: &[u8], piece_bytes: usize) -> Passed {
    let view = View { host: "proxy".into(), naming: Naming::Ports { first: 9101, base: 0, width: 3 } };
    let (mut answers, mut in_flight) = (Answers::default(), InFlight::default());
    for (at, (api, version)) in asked.iter().enumerate() {
        let api = &APIS[usize::from(*api) % APIS.len()];
        let version = i16::from(*version) % (api.version_max.max(0) + 1);
        in_flight.push(Outstanding { api, version, correlation_id: at as i32, at: Instant::now(), asked: None });
    }
    let (mut buffer, mut out) = (BytesMut::new(), Vec::<Bytes>::new());
    for piece in data.chunks(piece_bytes) {
        buffer.extend_from_slice(piece);
        let passed = answers.advance(&mut buffer, &mut in_flight, &view, &mut out, &mut Vec::new(), &mut Nobody);
        if let Err(err) = passed {
            return (out.concat(), Some(err.reason()));
        }
    }
    (out.concat(), None)
}

/// Two requests (API and version each), then a broker's bytes.
pub fn check_answers(data: &[u8]) {
    let [api, version, next_api, next_version, bytes @ ..] = data else { return };
    let asked = [(*api, *version), (*next_api, *next_version)];
    let whole = pass_answers(&asked, bytes, bytes.len().max(1));
    for piece_bytes in [1, 3, 64] {
        let pieces = pass_answers(&asked, bytes, piece_bytes);
        // A message that turns out to be broken may have left in part by then, and more of it in small pieces.
        assert_eq!(pieces.1, whole.1, "in pieces of {piece_bytes}");
        if whole.1.is_none() {
            assert_eq!(pieces.0, whole.0, "in pieces of {piece_bytes}");
        }
    }
    if whole.1.is_none() {
        let again = pass_answers(&asked, &whole.0, whole.0.len().max(1));
        assert_eq!(again, whole, "what was rewritten is rewritten once more");
    }
}
