//! `limits.message_bytes` above what the Kafka client batches by default: such a message reaches Kafka, whose word counts.

mod harness;

use gateway::GatewayConfig;
use gateway::limits::MESSAGE_BYTES_CEILING;
use harness::{APP, Scene, as_demo, scene_with};
use testkit::http::{Request, Response};

/// Two topics: one that takes what the gateway takes, and one as brokers make them, of 1 MiB.
fn scene(message_bytes_max: usize) -> Scene {
    let config = GatewayConfig { shard_count: 1, message_bytes_max, ..GatewayConfig::default() };
    let mut scene = scene_with(config, |_| {});
    let large = (message_bytes_max + 100_000).to_string();
    for (name, configs) in [("large", &[("max.message.bytes", large.as_str())][..]), ("plain", &[])] {
        scene.add_topic(APP, name, configs, |topic| topic.options.message_bytes_max = message_bytes_max as u32);
    }
    scene
}

fn outcome(answer: &Response) -> String {
    let code = answer.code().map_or(String::new(), |code| format!(" {code}"));
    format!("{}{code}", answer.status)
}

/// Went wrong: refused at 1 MiB by the client's batch limit, which nothing had told.
#[test]
fn a_message_of_the_configured_size_passes_and_the_topics_own_limit_is_413() {
    for message_bytes_max in [1_100_000, 3_000_000, MESSAGE_BYTES_CEILING] {
        let scene = scene(message_bytes_max);
        for (topic, bytes, expected) in [
            ("large", message_bytes_max, "201"),
            ("large", message_bytes_max + 1, "413 message_too_large"),
            ("plain", message_bytes_max, "413 message_too_large"),
            ("plain", 1_000_000, "201"),
        ] {
            let target = format!("/v1/msgs/{topic}/v1?key={}", "k".repeat(256));
            let request = as_demo(Request::post(&target).header("X-Header-Note", "n".repeat(8_000)));
            let answer = scene.publisher().call(&request.body(vec![b'x'; bytes])).expect("an answer");
            assert_eq!(outcome(&answer), expected, "{topic}, {bytes} of {message_bytes_max}: {}", answer.text());
        }
        let record = format!("{{\"value\":\"{}\"}}\n", "x".repeat(message_bytes_max));
        let batch = Request::post("/v1/msgs/large/v1/batch").header("Content-Type", "application/x-ndjson");
        let answer = scene.publisher().call(&as_demo(batch.body(record.repeat(2)))).expect("an answer");
        assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")), "{}", answer.text());
    }
}
