//! Who may publish: credentials checked and topic found in a snapshot of 1,000 apps with 10 topics each, as a gateway
//! does for every request.
//!
//! Sketch: one keyed hash of about 80 bytes 30 ns, three lookups in maps 20 ns each while they are in the cache. With all
//! apps in turn every lookup misses it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use model::limits::{QUOTA_MAX, SCRAM_ITERATIONS_DEFAULT};
use model::quota::{Limits, Measure, Quotas, ShardMeter, Subject};
use model::scram::ScramParams;
use model::{
    AppDoc, AppId, ClusterName, CredentialCache, Credentials, PlainSecret, SecretHash, SecretPair, Side, Snapshot,
    SnapshotDoc, StoredSecret, TopicDoc, TopicName, TopicOptions, TopicVersion, authenticate_cached, authorize_publish,
};

const APPS: usize = 1_000;
const TOPICS_EACH: usize = 10;

/// What a request brings.
struct Request {
    app: String,
    key: String,
    topic: String,
}

fn world() -> (Snapshot, Vec<Request>) {
    let cluster = ClusterName::new("main").expect("a name");
    let scram = ScramParams { salt: vec![1; 16], iterations: SCRAM_ITERATIONS_DEFAULT };
    // SCRAM is not asked for here, and takes milliseconds to derive: the same for all.
    let stored = StoredSecret::derive(&PlainSecret::from_text("secret").expect("a secret"), &scram);
    let mut doc = SnapshotDoc { generation: 7, ..SnapshotDoc::default() };
    let mut requests = Vec::new();
    for app in 0..APPS {
        let id = AppId::new(&format!("app{app}")).expect("a name");
        let key = format!("{app:08x}0123456789abcdef0123456789abcdef");
        let secret = StoredSecret { sha256: SecretHash::of(key.as_bytes()), ..stored.clone() };
        doc.apps.push(AppDoc {
            limits: model::quota::Limits::default(),
            addresses: model::Addresses::default(),
            handoff: true,
            index: app as u32,
            id: id.clone(),
            cluster: cluster.clone(),
            enabled: true,
            scram: scram.clone(),
            publish: SecretPair { current: secret.clone(), previous: None },
            subscribe: SecretPair { current: secret, previous: None },
        });
        for topic in 0..TOPICS_EACH {
            let name = format!("orders-{topic}");
            doc.topics.push(TopicDoc {
                limits: model::quota::Limits::default(),
                index: (app * TOPICS_EACH + topic) as u32,
                owner: id.clone(),
                name: TopicName::new(&name).expect("a name"),
                ver: TopicVersion::new("v1").expect("a version"),
                cluster: cluster.clone(),
                enabled: true,
                options: TopicOptions::default(),
                partitions: Some(4),
                replicas: Some(1),
                retention_ms: None,
                retention_bytes: None,
            });
            requests.push(Request { app: format!("app{app}"), key: key.clone(), topic: name });
        }
    }
    // Neighbours in memory are not neighbours in time: 7919 is prime and passes by every one of them.
    let mut order: Vec<Option<Request>> = requests.into_iter().map(Some).collect();
    let count = order.len();
    let shuffled = (0..count).filter_map(|turn| order[turn * 7_919 % count].take()).collect();
    (Snapshot::build(doc).expect("a sound snapshot"), shuffled)
}

fn allowed(snapshot: &Snapshot, cache: &mut CredentialCache, request: &Request) -> u32 {
    let credentials = Credentials { app: &request.app, key: request.key.as_bytes() };
    let app = authenticate_cached(snapshot, cache, &credentials, Side::Publish, 7).expect("right credentials");
    authorize_publish(snapshot, app, &request.topic, "v1").expect("its own topic").topic().index
}

fn authorize(criterion: &mut Criterion) {
    let (snapshot, requests) = world();
    assert_eq!(requests.len(), APPS * TOPICS_EACH);
    let mut cache = CredentialCache::new([7; 16]);
    let mut group = criterion.benchmark_group("authorize");
    group.bench_function("one app, cached", |bencher| {
        bencher.iter(|| allowed(&snapshot, &mut cache, black_box(&requests[0])));
    });
    group.bench_function("1,000 apps x 10 topics in turn", |bencher| {
        let mut turn = 0;
        bencher.iter(|| {
            turn = (turn + 1) % requests.len();
            allowed(&snapshot, &mut cache, black_box(&requests[turn]))
        });
    });
    group.bench_function("one app, first time", |bencher| {
        bencher.iter(|| {
            let credentials = Credentials { app: &requests[0].app, key: requests[0].key.as_bytes() };
            let app =
                model::authenticate(&snapshot, black_box(&credentials), Side::Publish).expect("right credentials");
            authorize_publish(&snapshot, app, &requests[0].topic, "v1").expect("its own topic").topic().index
        });
    });
    group.finish();
}

/// What a limit adds to a publish: of its app and of its topic, messages and bytes each.
fn quota(criterion: &mut Criterion) {
    let mut limits = Limits::default();
    Measure::RATES.into_iter().for_each(|measure| limits.set(measure, Some(QUOTA_MAX)));
    let quotas = Quotas::default();
    let app = AppId::new("app1").expect("a name");
    let (topic, ver) = (TopicName::new("orders").expect("a name"), TopicVersion::new("v1").expect("a version"));
    let subjects = [Subject::App { index: 1, app: app.clone() }, Subject::Topic { index: 1, owner: app, topic, ver }];
    let meters = subjects.map(|subject| quotas.meter(subject, &limits, 0));
    let started = Instant::now();
    criterion.bench_function("quota/check and charge of app and topic", |bencher| {
        let meters = meters.each_ref().map(|meter| ShardMeter::new(Arc::clone(meter), 8));
        bencher.iter(|| {
            let now_ns = started.elapsed().as_nanos() as u64;
            for meter in &meters {
                meter.check(Side::Publish, 1, 1_024, black_box(now_ns)).expect("never spent");
            }
            meters.iter().for_each(|meter| meter.charge(Side::Publish, 1, black_box(1_024), now_ns));
        });
    });
}

criterion_group!(benches, authorize, quota);
criterion_main!(benches);
