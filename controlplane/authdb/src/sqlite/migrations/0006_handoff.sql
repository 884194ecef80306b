-- May gateways keep publishes in their own journal while Kafka is away? For a topic both have to say so.
ALTER TABLE app   ADD COLUMN handoff INTEGER NOT NULL DEFAULT 1 CHECK (handoff IN (0, 1));
ALTER TABLE topic ADD COLUMN handoff INTEGER NOT NULL DEFAULT 1 CHECK (handoff IN (0, 1));
