import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;

import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The reference client behind one command line; records are JSON lines with bytes in hex (src/record.rs). */
public final class Client {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long DEADLINE_MS = 45_000;
    /** A transformer has everything when nothing came for so long after SIGTERM. */
    private static final long QUIET_MS = 3_000;

    private static volatile boolean stopping;

    public static void main(String[] words) throws Exception {
        String bootstrap = words[1];
        String topic = words[2];
        switch (words[0]) {
            case "read" -> read(bootstrap, topic);
            case "produce" -> produce(bootstrap, topic);
            case "consume" -> consume(bootstrap, topic, words[3], Integer.parseInt(words[4]));
            case "move-leader" ->
                moveLeader(bootstrap, topic, Integer.parseInt(words[3]), Integer.parseInt(words[4]));
            case "transform" -> transform(bootstrap, topic, words[3], words[4]);
            default -> throw new IllegalArgumentException(words[0]);
        }
    }

    /** What every client is told, how it logs in (src/login.rs), and what the file in client.settings says. */
    private static Properties settings(String bootstrap, String secret) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        String login = System.getenv("KAFKA_LOGIN");
        if (login != null) {
            logIn(settings, JSON.readTree(login), secret);
        }
        String more = System.getProperty("client.settings");
        if (more != null) {
            try (var input = new FileInputStream(more)) {
                settings.load(input);
            }
        }
        return settings;
    }

    private static void logIn(Properties settings, JsonNode login, String secret) {
        String mechanism = login.get("mechanism").asText();
        String module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
        settings.put("security.protocol", "SASL_PLAINTEXT");
        settings.put("sasl.mechanism", mechanism);
        settings.put("sasl.jaas.config", String.format(
            "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";", module,
            login.get("user").asText(), login.get(secret).asText()));
    }

    private static Properties consumerSettings(String bootstrap, String group) throws Exception {
        Properties settings = settings(bootstrap, "subscribe");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        settings.put("fetch.max.wait.ms", "100");
        if (group != null) {
            settings.put("group.id", group);
        }
        return settings;
    }

    private static void read(String bootstrap, String topic) throws Exception {
        try (var consumer = new KafkaConsumer<byte[], byte[]>(consumerSettings(bootstrap, null))) {
            List<TopicPartition> all = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(info -> all.add(new TopicPartition(topic, info.partition())));
            consumer.assign(all);
            consumer.seekToBeginning(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            long deadline = System.currentTimeMillis() + DEADLINE_MS;
            while (all.stream().anyMatch(at -> consumer.position(at) < ends.get(at))) {
                consumer.poll(Duration.ofMillis(200)).forEach(Client::show);
                if (System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException("not at the end in time: " + ends);
                }
            }
        }
    }

    private static void consume(String bootstrap, String topic, String group, int count) throws Exception {
        try (var consumer = new KafkaConsumer<byte[], byte[]>(consumerSettings(bootstrap, group))) {
            consumer.subscribe(List.of(topic));
            int left = count;
            long deadline = System.currentTimeMillis() + DEADLINE_MS;
            while (left > 0) {
                for (var record : consumer.poll(Duration.ofMillis(200))) {
                    show(record);
                    left--;
                }
                if (System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException(left + " of " + count + " records did not come");
                }
            }
            consumer.commitSync();
        }
    }

    /**
     * Copies a topic into another, each record once and into the same partition, in transactions, until SIGTERM and then
     * until nothing comes any more. Whatever goes wrong, it begins anew from what the group has committed.
     */
    private static void transform(String bootstrap, String topic, String to, String name) throws Exception {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopping = true;
            try {
                main.join(DEADLINE_MS);
            } catch (InterruptedException err) {
                Thread.currentThread().interrupt();
            }
        }));
        Properties writes = settings(bootstrap, "publish");
        writes.put("key.serializer", ByteArraySerializer.class.getName());
        writes.put("value.serializer", ByteArraySerializer.class.getName());
        writes.put("transactional.id", name);
        writes.put("transaction.timeout.ms", "20000");
        writes.put("max.block.ms", "20000");
        Properties reads = consumerSettings(bootstrap, name);
        reads.put("isolation.level", "read_committed");
        reads.put("session.timeout.ms", "10000");
        long last = System.currentTimeMillis();
        while (!stopping || System.currentTimeMillis() - last < QUIET_MS) {
            KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(writes);
            try (var consumer = new KafkaConsumer<byte[], byte[]>(reads)) {
                // Ends what its former self left open.
                producer.initTransactions();
                consumer.subscribe(List.of(topic));
                while (!stopping || System.currentTimeMillis() - last < QUIET_MS) {
                    ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                    if (!records.isEmpty()) {
                        last = System.currentTimeMillis();
                        copy(records, producer, to, consumer.groupMetadata());
                    }
                }
            } catch (KafkaException err) {
                last = System.currentTimeMillis();
                System.out.println(JSON.createObjectNode().put("error", err.getClass().getSimpleName())
                    .put("fatal", false).put("text", String.valueOf(err.getMessage())));
            } finally {
                producer.close(Duration.ofSeconds(5));
            }
        }
    }

    private static void copy(ConsumerRecords<byte[], byte[]> records, KafkaProducer<byte[], byte[]> producer, String to,
                             ConsumerGroupMetadata group) {
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        producer.beginTransaction();
        for (var record : records) {
            producer.send(new ProducerRecord<>(to, record.partition(), record.key(), record.value()));
            next.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
        }
        producer.sendOffsetsToTransaction(next, group);
        producer.commitTransaction();
        for (var record : records) {
            System.out.println(JSON.createObjectNode().put("partition", record.partition())
                .put("offset", record.offset()).put("value", new String(record.value(), StandardCharsets.UTF_8)));
        }
    }

    private static void produce(String bootstrap, String topic) throws Exception {
        Properties settings = settings(bootstrap, "publish");
        settings.put("key.serializer", ByteArraySerializer.class.getName());
        settings.put("value.serializer", ByteArraySerializer.class.getName());
        settings.put("acks", "all");
        List<JsonNode> given = new ArrayList<>();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<byte[], byte[]>(settings);
             var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = input.readLine(); line != null; line = input.readLine()) {
                JsonNode record = JSON.readTree(line);
                List<Header> headers = new ArrayList<>();
                record.get("headers").forEach(pair ->
                    headers.add(new RecordHeader(pair.get(0).asText(), bytes(pair.get(1)))));
                int partition = record.get("partition").asInt();
                long timestamp = record.get("timestamp").asLong();
                given.add(record);
                sent.add(producer.send(new ProducerRecord<>(topic, partition < 0 ? null : partition,
                    timestamp == 0 ? null : timestamp, bytes(record.get("key")), bytes(record.get("value")), headers)));
            }
            producer.flush();
            for (int index = 0; index < given.size(); index++) {
                RecordMetadata at = sent.get(index).get(DEADLINE_MS, TimeUnit.MILLISECONDS);
                ObjectNode record = (ObjectNode) given.get(index);
                record.put("partition", at.partition()).put("offset", at.offset()).put("timestamp", at.timestamp());
                System.out.println(record);
            }
        }
    }

    private static void moveLeader(String bootstrap, String topic, int partition, int node) throws Exception {
        Properties settings = settings(bootstrap, "subscribe");
        // Instead of one call that waits a minute for a controller that is gone, several that find the next one.
        settings.put("request.timeout.ms", "5000");
        settings.put("default.api.timeout.ms", "10000");
        TopicPartition at = new TopicPartition(topic, partition);
        long deadline = System.currentTimeMillis() + DEADLINE_MS;
        try (Admin admin = Admin.create(settings)) {
            while (true) {
                try {
                    if (leads(admin, at, node)) {
                        return;
                    }
                } catch (ExecutionException err) {
                    System.err.println(err.getCause());
                }
                if (System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException(at + " is not led by " + node + " in time");
                }
                Thread.sleep(50);
            }
        }
    }

    /** Whether the node leads; if not, puts it first among the replicas and asks for an election. */
    private static boolean leads(Admin admin, TopicPartition at, int node) throws Exception {
        TopicPartitionInfo now = admin.describeTopics(List.of(at.topic())).allTopicNames().get().get(at.topic())
            .partitions().get(at.partition());
        if (now.leader() != null && now.leader().id() == node) {
            return true;
        }
        List<Integer> replicas = new ArrayList<>(List.of(node));
        now.replicas().forEach(replica -> {
            if (replica.id() != node) {
                replicas.add(replica.id());
            }
        });
        if (now.replicas().get(0).id() != node) {
            admin.alterPartitionReassignments(Map.of(at, Optional.of(new NewPartitionReassignment(replicas))))
                .all().get();
        }
        // The new order and the election are applied by the controller one after the other.
        Optional<Throwable> refused = admin.electLeaders(ElectionType.PREFERRED, Set.of(at)).partitions().get().get(at);
        if (refused != null && refused.isPresent() && !(refused.get() instanceof ElectionNotNeededException)) {
            System.err.println(refused.get());
        }
        return false;
    }

    private static byte[] bytes(JsonNode hex) {
        return hex.isNull() ? null : HexFormat.of().parseHex(hex.asText());
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? null : HexFormat.of().formatHex(bytes);
    }

    private static void show(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode node = JSON.createObjectNode();
        node.put("partition", record.partition()).put("offset", record.offset()).put("timestamp", record.timestamp());
        node.put("key", hex(record.key())).put("value", hex(record.value()));
        ArrayNode headers = node.putArray("headers");
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(hex(header.value()));
        }
        System.out.println(node);
    }
}
