// Command clients lets Go's Kafka clients produce three values to a topic and read them back as a member of a group:
//
//	clients sarama|kafka-go|franz-go BOOTSTRAP TOPIC
//
// It prints what was read, a value per line. The topic appears by being asked for, if it is not there. With KAFKA_LOGIN
// (src/login.rs) it produces with one secret and reads with the other: by PLAIN but for franz-go, as the others' SCRAM is in
// modules of its own. Built twice: with the newest of
// everything (go.mod) and with the Sarama that many run (sarama-1.43.mod), which stamps and negotiates differently.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/IBM/sarama"
	kafkago "github.com/segmentio/kafka-go"
	kafkagoplain "github.com/segmentio/kafka-go/sasl/plain"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

const (
	within = 40 * time.Second
	count  = 3
)

func value(n int) string { return fmt.Sprintf("v%d", n) }

func main() {
	if len(os.Args) != 4 {
		fail(errors.New("usage: clients sarama|kafka-go|franz-go BOOTSTRAP TOPIC"))
	}
	clients := map[string]func(ctx context.Context, bootstrap, topic string) ([]string, error){
		"sarama": bySarama, "kafka-go": byKafkaGo, "franz-go": byFranzGo,
	}
	client, known := clients[os.Args[1]]
	if !known {
		fail(fmt.Errorf("no client %q", os.Args[1]))
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	values, err := client(ctx, os.Args[2], os.Args[3])
	if err != nil {
		fail(err)
	}
	for _, value := range values {
		fmt.Println(value)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

type login struct{ User, Publish, Subscribe, Mechanism string }

// logIn is nil without a login.
func logIn() *login {
	text := os.Getenv("KAFKA_LOGIN")
	if text == "" {
		return nil
	}
	var found login
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		fail(err)
	}
	return &found
}

// password is a secret of a login that may be nil.
func (l *login) password(publish bool) string {
	switch {
	case l == nil:
		return ""
	case publish:
		return l.Publish
	default:
		return l.Subscribe
	}
}

func saramaConfig(publish bool) *sarama.Config {
	config := sarama.NewConfig()
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	if login := logIn(); login != nil {
		config.Net.SASL.Enable = true
		config.Net.SASL.User, config.Net.SASL.Password = login.User, login.password(publish)
	}
	return config
}

func bySarama(ctx context.Context, bootstrap, topic string) ([]string, error) {
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, saramaConfig(true))
	if err != nil {
		return nil, err
	}
	for n := range make([]struct{}, count) {
		message := &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value(n))}
		if _, _, err := producer.SendMessage(message); err != nil {
			return nil, err
		}
	}
	if err := producer.Close(); err != nil {
		return nil, err
	}
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, topic+"-sarama", saramaConfig(false))
	if err != nil {
		return nil, err
	}
	member, stop := context.WithCancel(ctx)
	defer stop()
	claims := claims{values: make(chan string, count)}
	ended := make(chan error, 1)
	go func() { ended <- group.Consume(member, []string{topic}, claims) }()
	var values []string
	for len(values) < count {
		select {
		case value := <-claims.values:
			values = append(values, value)
		case err := <-ended:
			return nil, fmt.Errorf("the group ended: %v", err)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	stop()
	<-ended
	return values, group.Close()
}

type claims struct{ values chan string }

func (claims) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (claims) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (c claims) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			session.Commit()
			c.values <- string(message.Value)
		case <-session.Context().Done():
			return nil
		}
	}
}

func byKafkaGo(ctx context.Context, bootstrap, topic string) ([]string, error) {
	writer := &kafkago.Writer{
		Addr: kafkago.TCP(bootstrap), Topic: topic, BatchTimeout: 5 * time.Millisecond,
		RequiredAcks: kafkago.RequireAll, AllowAutoTopicCreation: true,
	}
	dialer := &kafkago.Dialer{Timeout: 10 * time.Second, DualStack: true}
	if login := logIn(); login != nil {
		writer.Transport = &kafkago.Transport{SASL: kafkagoplain.Mechanism{Username: login.User, Password: login.Publish}}
		dialer.SASLMechanism = kafkagoplain.Mechanism{Username: login.User, Password: login.Subscribe}
	}
	for n := range make([]struct{}, count) {
		if err := writer.WriteMessages(ctx, kafkago.Message{Value: []byte(value(n))}); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: []string{bootstrap}, GroupID: topic + "-kafka-go", Topic: topic,
		StartOffset: kafkago.FirstOffset, MaxWait: 100 * time.Millisecond, Dialer: dialer,
	})
	var values []string
	for len(values) < count {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return nil, err
		}
		values = append(values, string(message.Value))
	}
	return values, reader.Close()
}

// franzOptions are where it begins, and as whom.
func franzOptions(bootstrap string, publish bool, more ...kgo.Opt) []kgo.Opt {
	options := append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, more...)
	if login := logIn(); login != nil {
		options = append(options, kgo.SASL(scram.Auth{User: login.User, Pass: login.password(publish)}.AsSha256Mechanism()))
	}
	return options
}

func byFranzGo(ctx context.Context, bootstrap, topic string) ([]string, error) {
	producer, err := kgo.NewClient(
		franzOptions(bootstrap, true, kgo.DefaultProduceTopic(topic), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	for n := range make([]struct{}, count) {
		if err := producer.ProduceSync(ctx, kgo.StringRecord(value(n))).FirstErr(); err != nil {
			return nil, err
		}
	}
	consumer, err := kgo.NewClient(franzOptions(
		bootstrap, false, kgo.ConsumerGroup(topic+"-franz-go"), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)...)
	if err != nil {
		return nil, err
	}
	defer consumer.Close()
	var values []string
	for len(values) < count {
		fetches := consumer.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, errs[0].Err
		}
		fetches.EachRecord(func(record *kgo.Record) { values = append(values, string(record.Value)) })
	}
	return values, consumer.CommitUncommittedOffsets(ctx)
}
