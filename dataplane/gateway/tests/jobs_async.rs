//! Delayed jobs that are answered before they are on the disk.

mod harness;

use std::time::{Duration, Instant};

use gateway::{GatewayConfig, JobsConfig};
use harness::{Scene, as_demo, scene_with_jobs};
use serde_json::Value;
use testkit::http::{Request, Response};

const WITHIN: Duration = Duration::from_secs(10);

fn jobs(jobs: JobsConfig) -> Scene {
    scene_with_jobs(GatewayConfig { shard_count: 2, jobs, ..GatewayConfig::default() }, |_| {})
}

fn add(scene: &Scene, query: &str) -> Response {
    let request = as_demo(Request::post(&format!("/v1/jobs/orders/v1?{query}")).body("x"));
    scene.publisher().call(&request).expect("an answer")
}

fn body(answer: &Response) -> Value {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json().expect("JSON")
}

fn state(scene: &Scene, id: &Value) -> String {
    let path = format!("/v1/jobs/orders/v1?id={}", id.as_str().expect("an id"));
    let seen = scene.publisher().call(&as_demo(Request::get(&path))).expect("an answer");
    let said = seen.json().ok().and_then(|said: Value| said["state"].as_str().map(str::to_owned));
    said.unwrap_or_else(|| seen.status.to_string())
}

#[test]
fn an_async_add_says_so_and_its_job_is_like_all_others_a_moment_later() {
    let scene = jobs(JobsConfig::default());
    // The store has its id, without which nothing has a name, from its first record on.
    assert_eq!(body(&add(&scene, "delay=1h&durability=async"))["durability"], "local", "the first one waits");
    let answers: Vec<Value> = (0..50).map(|_| body(&add(&scene, "delay=1h&durability=async"))).collect();
    assert!(answers.iter().all(|answer| answer["durability"] == "async"), "{answers:?}");
    for answer in &answers {
        let until = Instant::now() + WITHIN;
        while state(&scene, &answer["id"]) != "pending" {
            assert!(Instant::now() < until, "{answer} never was there");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let soon = body(&add(&scene, "delay=50ms&durability=async"));
    let until = Instant::now() + WITHIN;
    while state(&scene, &soon["id"]) != "fired" {
        assert!(Instant::now() < until, "{soon} never fired: {}", state(&scene, &soon["id"]));
        std::thread::sleep(Duration::from_millis(5));
    }
    let twice = ["delay=1h&durability=async", "delay=2h"].map(|query| {
        let request = Request::post(&format!("/v1/jobs/orders/v1?{query}")).header("Idempotency-Key", "one").body("x");
        let until = Instant::now() + WITHIN;
        loop {
            let answer = scene.publisher().call(&as_demo(request.clone())).expect("an answer");
            // The first one is on its way to the disk.
            if answer.status != 409 {
                return body(&answer);
            }
            assert!(Instant::now() < until, "busy for ever");
        }
    });
    assert_eq!((&twice[0]["id"], &twice[0]["due"]), (&twice[1]["id"], &twice[1]["due"]));
}

#[test]
fn where_the_disk_is_full_an_async_add_is_refused_or_gone_and_never_fires() {
    let scene = jobs(JobsConfig { free_bytes_min: Some(u64::MAX / 2), ..JobsConfig::default() });
    let answer = add(&scene, "delay=1h&durability=async");
    assert_eq!((answer.status, answer.code().as_deref()), (503, Some("disk_full")), "{}", answer.text());
    scene.wait_idle(0);
}

#[test]
fn a_durability_that_does_not_exist_is_501_and_what_is_none_400() {
    let scene = jobs(JobsConfig::default());
    for (durability, status, code) in [("both", 501, "durability_unknown"), ("sync", 400, "bad_parameter")] {
        let answer = add(&scene, &format!("delay=1h&durability={durability}"));
        assert_eq!((answer.status, answer.code().as_deref()), (status, Some(code)));
    }
}
