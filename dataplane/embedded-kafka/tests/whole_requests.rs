//! Whole requests, from the frame through to the encoded answer: whatever a request of the protocol says, in every
//! version of every API, it is answered with something a client can read, and the broker lives.
//!
//! The requests are written from the tables of `kafka_wire::shapes`, with texts and numbers at the bounds of everything.
//! A failure names its seed; to see it again alone, write it into `ONLY`.

mod common;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use common::TestBroker;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold;
use kafka_wire::header::encode_request_header;
use kafka_wire::shape::{Field, Kind, Shape};
use kafka_wire::shapes;

/// Requests per API and version.
const SEEDS: u64 = 32;
const ONLY: Option<(ApiKey, i16, u64)> = None;

struct Writer {
    state: u64,
    version: i16,
    flexible: bool,
    out: BytesMut,
}

impl Writer {
    fn request(shape: &Shape, version: i16, seed: u64) -> Bytes {
        let state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut writer = Writer { state, version, flexible: version >= shape.flexible_from, out: BytesMut::new() };
        for _ in 0..8 {
            writer.random(2);
        }
        writer.structure(shape.fields);
        writer.out.freeze()
    }

    fn random(&mut self, below: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state % below as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random(choices.len())]
    }

    fn structure(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let present = |field: &&Field| field.since <= version && version <= field.until && field.tag.is_none();
        for field in fields.iter().filter(present) {
            self.field(field, field.kind, field.nullable);
        }
        if self.flexible {
            self.out.put_u8(0);
        }
    }

    fn field(&mut self, field: &'static Field, kind: Kind, nullable: bool) {
        match kind {
            Kind::Bool => {
                let value = self.of(&[0, 1]);
                self.out.put_u8(value);
            }
            Kind::Int8 => {
                let value = self.of(&[0, 1, 2, 3, 4, -1, i8::MIN, i8::MAX]);
                self.out.put_i8(value);
            }
            Kind::Int16 | Kind::Uint16 => {
                let value = self.of(&[-1, 0, 1, 2, 3, i16::MIN, i16::MAX]);
                self.out.put_i16(value);
            }
            Kind::Int32 | Kind::Uint32 => {
                let value = match field.name {
                    // Answers come when a rebalance is over: soon, in a test.
                    "session_timeout_ms" => self.of(&[50, 50, 50, 0, -1, i32::MAX]),
                    "rebalance_timeout_ms" => self.of(&[50, 0]),
                    _ => self.of(&[-1, 0, 0, 1, 1, 2, 3, 1_000, i32::MIN, i32::MAX]),
                };
                self.out.put_i32(value);
            }
            Kind::Int64 | Kind::Float64 => {
                let value = self.of(&[-5, -4, -3, -2, -1, 0, 1, 1_000, i64::MIN, i64::MAX]);
                self.out.put_i64(value);
            }
            Kind::Uuid => {
                let value = self.of(&[0, 1, u128::MAX]);
                self.out.put_u128(value);
            }
            Kind::String => {
                let text = self.text(nullable);
                match (&text, self.flexible) {
                    (None, false) => self.out.put_i16(-1),
                    (Some(text), false) => self.out.put_i16(text.len() as i16),
                    (text, true) => self.uvarint(text.as_ref().map_or(0, |text| text.len() as u32 + 1)),
                }
                self.out.put_slice(text.unwrap_or_default().as_bytes());
            }
            Kind::Bytes => {
                let size = self.of(&[0, 0, 6, 40]);
                self.count(Some(size));
                self.out.put_bytes(0, size as usize);
            }
            Kind::Array(element) => {
                let count = if nullable && self.random(4) == 0 { None } else { Some(self.random(4) as u32) };
                self.count(count);
                for _ in 0..count.unwrap_or(0) {
                    self.field(field, *element, false);
                }
            }
            Kind::Struct(fields) => self.structure(fields),
            Kind::NullableStruct(fields) => match self.random(2) {
                0 => self.out.put_i8(-1),
                _ => {
                    self.out.put_i8(1);
                    self.structure(fields);
                }
            },
        }
    }

    fn text(&mut self, nullable: bool) -> Option<String> {
        if nullable && self.random(5) == 0 {
            return None;
        }
        let words = ["", "t", "t", "g", "a.b", "a_b", "..", "1", "consumer", "range", "retention.ms", "cleanup.policy"];
        let text = match self.random(6) {
            0 => "x".repeat(self.of(&[248, 249, 250, 1_023, 1_024, 1_025, 4_097, 32_766, 32_767])),
            1 => "\u{20ac}".repeat(self.of(&[1, 83, 84, 341, 342, 10_922])),
            _ => self.of(&words).to_owned(),
        };
        Some(text)
    }

    fn count(&mut self, count: Option<u32>) {
        match (count, self.flexible) {
            (count, true) => self.uvarint(count.map_or(0, |count| count + 1)),
            (None, false) => self.out.put_i32(-1),
            (Some(count), false) => self.out.put_i32(count as i32),
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}

/// Sends every request; gives how many were answered.
fn answered(broker: &TestBroker) -> usize {
    let mut answered = 0;
    let mut client = broker.client();
    client.create("t", 2);
    client.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    for api in cold::apis() {
        let (shape, _) = shapes::of(api).unwrap();
        for version in cold::supported(api) {
            for seed in (0..SEEDS).filter(|seed| ONLY.is_none_or(|only| only == (api, version, *seed))) {
                let body = Writer::request(shape, version, seed);
                let id = client.next_id();
                let mut frame = BytesMut::new();
                frame.put_i32(0);
                encode_request_header(&mut frame, api, version, id, &"c".repeat([4, 249, 32_767][seed as usize % 3]));
                frame.put_slice(&body);
                let length = (frame.len() as u32 - 4).to_be_bytes();
                frame[..4].copy_from_slice(&length);
                let what = || format!("({api}, {version}, {seed})");
                client.send(&frame);
                if cold::decode_request(api, version, body).is_err() {
                    // Null where this version has none.
                    assert!(client.is_closed(), "{}", what());
                    client = broker.client();
                    continue;
                }
                let mut answer = client.receive().unwrap_or_else(|err| panic!("{}: {err}", what()));
                let answered_id = kafka_wire::header::decode_response_header(&mut answer, api, version);
                assert_eq!(answered_id, Ok(id), "{}", what());
                let read = cold::decode_response(api, version, answer);
                assert!(read.is_ok(), "{}: {read:?}", what());
                answered += 1;
            }
        }
    }
    answered
}

#[test]
fn every_request_of_every_version_is_answered_and_the_broker_lives() {
    let broker = TestBroker::start();
    let answered = answered(&broker);
    assert!(ONLY.is_some() || answered > 3_000, "{answered} requests were answered");
}

#[test]
fn the_null_broker_answers_as_much() {
    let broker = TestBroker::with(|config| config.null = true);
    let answered = answered(&broker);
    assert!(ONLY.is_some() || answered > 3_000, "{answered} requests were answered");
}
