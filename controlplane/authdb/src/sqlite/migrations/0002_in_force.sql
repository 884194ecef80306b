-- Histories, states of topics, and what deleted apps leave behind.

-- A generation is a history and a number; a new history begins when the database was restored or a replica took over.
ALTER TABLE generation ADD COLUMN history BLOB NOT NULL DEFAULT x'0000000000000000';
UPDATE generation SET history = randomblob(8);

-- creating: Kafka may not have it yet. deleting: Kafka may still have it, and it is to go with its messages.
ALTER TABLE topic ADD COLUMN state TEXT NOT NULL DEFAULT 'active'
    CHECK (state IN ('creating', 'active', 'disabled', 'deleting'));
UPDATE topic SET state = 'disabled' WHERE enabled = 0;
ALTER TABLE topic DROP COLUMN enabled;
-- creating: Kafka had said that the name was free, so what is there when it is resumed is ours.
ALTER TABLE topic ADD COLUMN was_free INTEGER NOT NULL DEFAULT 0 CHECK (was_free IN (0, 1));

-- Kafka topics that are nobody's any more: their registration was removed, their messages were not.
CREATE TABLE left_topic (
    cluster    TEXT    NOT NULL,
    physical   TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    left_at_ms INTEGER NOT NULL,
    PRIMARY KEY (cluster, physical)
);
CREATE INDEX left_topic_owner ON left_topic (owner);

-- Ids of apps that were deleted. An app of that name would own what they left in Kafka: topics and groups.
CREATE TABLE retired_app (
    id            TEXT    NOT NULL PRIMARY KEY,
    retired_at_ms INTEGER NOT NULL
);

-- Which apps each generation changed: what a reader who has an earlier one needs to read again. * stands for all of
-- them. Readers from before the first row, or of another history, read everything.
CREATE TABLE change_log (
    number INTEGER NOT NULL PRIMARY KEY,
    apps   TEXT    NOT NULL
);

-- Who reads an owner's topics: asked when one of them goes.
CREATE INDEX subscribe_grant_owner ON subscribe_grant (owner_num, topic);

-- What was changed, by whom, in the change's own transaction; and what was refused. Never a secret nor a hash.
CREATE TABLE audit (
    num        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at_ms      INTEGER NOT NULL,
    actor      TEXT    NOT NULL,
    request_id TEXT    NOT NULL,
    operation  TEXT    NOT NULL,
    outcome    TEXT    NOT NULL CHECK (outcome IN ('done', 'denied')),
    -- The app it is about; empty: none.
    app        TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    -- JSON; empty: nothing was there, or is any more.
    before     TEXT    NOT NULL,
    after      TEXT    NOT NULL,
    -- JSON array of what went along, by name.
    cascades   TEXT    NOT NULL,
    -- HISTORY-NUMBER of the change; empty: a denial, or nothing that clients see.
    generation TEXT    NOT NULL
);
CREATE INDEX audit_app ON audit (app, num);
CREATE INDEX audit_actor ON audit (actor, num);
