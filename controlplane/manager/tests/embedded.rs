//! The manager with a real client to a real (embedded) broker: the whole way from REST to Kafka and back.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use harness::Manager;
use kafka_admin::{KafkaAdmin, TopicAdmin};
use kafka_client::ClientConfig;
use model::ids::ClusterName;
use serde_json::json;

#[tokio::test]
async fn topics_made_by_rest_are_in_kafka_and_those_deleted_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { data_dir: dir.path().to_owned(), ..EmbeddedConfig::default() };
    let broker = EmbeddedKafka::start(config).unwrap();
    let config = ClientConfig { bootstrap: vec![broker.bootstrap()], ..ClientConfig::default() };
    let kafka: Arc<dyn TopicAdmin> = Arc::new(KafkaAdmin::connect(config, None).unwrap());
    let clusters = BTreeMap::from([(ClusterName::new("main").unwrap(), Arc::clone(&kafka))]);
    let manager = Manager::start_with(|state| state.clusters = clusters).await;
    let client = manager.client();

    client.request("POST", "/v1/apps", &[], Some(&json!({"appid": "shop"}))).await.unwrap();
    let query = [("partitions", "2"), ("retention.hours", "24"), ("message_bytes_max", "2000000")];
    let made = client.request("POST", "/v1/topics/shop/orders/v1", &query, None).await.unwrap();
    assert_eq!((&made["replicas"], &made["partitions"], made.get("note")), (&json!(1), &json!(2), None));
    assert_eq!(kafka.describe_topic("shop.orders.v1").await.unwrap().partitions.len(), 2);

    let grow = [("partitions", "3"), ("retention.bytes", "-1")];
    client.request("PUT", "/v1/topics/shop/orders/v1", &grow, None).await.unwrap();
    let partitions = client.request("GET", "/v1/partitions/shop/orders/v1", &[], None).await.unwrap();
    let empty = json!({"oldest": 0, "latest": 0});
    assert_eq!(partitions, json!({"num": 3, "offsets": {"0": empty, "1": empty, "2": empty}}));

    let err = client.request("POST", "/v1/topics/shop/other/v1", &[("replicas", "3")], None).await.unwrap_err();
    assert_eq!(err.to_string(), "3 replicas are not possible with 1 brokers (invalid_replicas)");

    // Registration removed, data kept, adopted again; then really deleted.
    client.request("DELETE", "/v1/topics/shop/orders/v1", &[], None).await.unwrap();
    let adopted = client.request("POST", "/v1/topics/shop/orders/v1", &[("adopt", "1")], None).await.unwrap();
    assert_eq!(adopted["partitions"], json!(3));
    client.request("DELETE", "/v1/topics/shop/orders/v1", &[("delete_data", "1")], None).await.unwrap();
    assert!(kafka.describe_topic("shop.orders.v1").await.is_err());
}

#[tokio::test]
async fn a_name_that_kafka_takes_for_another_ones_is_a_conflict_on_that_cluster_and_names_it() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let brokers = dirs.each_ref().map(|dir| {
        EmbeddedKafka::start(EmbeddedConfig { data_dir: dir.path().to_owned(), ..EmbeddedConfig::default() }).unwrap()
    });
    let kafkas = brokers.each_ref().map(|broker| -> Arc<dyn TopicAdmin> {
        let config = ClientConfig { bootstrap: vec![broker.bootstrap()], ..ClientConfig::default() };
        Arc::new(KafkaAdmin::connect(config, None).unwrap())
    });
    let names = ["main", "east"].map(|name| ClusterName::new(name).unwrap());
    let clusters = names.into_iter().zip(kafkas.iter().cloned()).collect();
    let manager = Manager::start_with(|state| state.clusters = clusters).await;
    let client = manager.client();
    for appid in ["x_y", "x"] {
        client.request("POST", "/v1/apps", &[], Some(&json!({"appid": appid, "cluster": "main"}))).await.unwrap();
    }
    client.request("POST", "/v1/topics/x_y/z/v1", &[], None).await.unwrap();
    let unregistered =
        kafka_admin::NewTopic { name: "x_y.q.v1".to_owned(), partitions: 1, replicas: 1, configs: Vec::new() };
    kafkas[0].create_topic(&unregistered).await.unwrap();
    for (topic, other) in [("y_z", "x_y.z.v1"), ("y_q", "x_y.q.v1")] {
        let path = format!("/v1/topics/x/{topic}/v1");
        let refused = client.request("POST", &path, &[], None).await.unwrap_err().to_string();
        assert!(refused.contains(other) && refused.ends_with("(name_collides)"), "{refused}");
        client.request("POST", &path, &[("cluster", "east")], None).await.unwrap();
    }
}
