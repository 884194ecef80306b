-- Tenants: apps, their secrets, topics and grants. Times are epoch milliseconds.
--
-- Names carry no dot and no quote (model::ids), but nothing here depends on that: every value is bound.
-- AUTOINCREMENT: a num is never given twice, because shards keep tables by it.

CREATE TABLE generation (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    value INTEGER NOT NULL
);
INSERT INTO generation (id, value) VALUES (1, 1);

CREATE TABLE app (
    num              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE,
    cluster          TEXT    NOT NULL,
    enabled          INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    scram_salt       BLOB    NOT NULL,
    scram_iterations INTEGER NOT NULL,
    created_at_ms    INTEGER NOT NULL
);

-- At most two live secrets per side. Only hashes: the secret itself was shown once and forgotten.
CREATE TABLE secret (
    app_num              INTEGER NOT NULL REFERENCES app (num) ON DELETE CASCADE,
    side                 TEXT    NOT NULL CHECK (side IN ('publish', 'subscribe')),
    slot                 TEXT    NOT NULL CHECK (slot IN ('current', 'previous')),
    sha256               BLOB    NOT NULL,
    scram_256_stored_key BLOB    NOT NULL,
    scram_256_server_key BLOB    NOT NULL,
    scram_512_stored_key BLOB    NOT NULL,
    scram_512_server_key BLOB    NOT NULL,
    created_at_ms        INTEGER NOT NULL,
    PRIMARY KEY (app_num, side, slot)
);

-- One row per version. NULL in the last four: never said, Kafka's default holds.
CREATE TABLE topic (
    num               INTEGER PRIMARY KEY AUTOINCREMENT,
    app_num           INTEGER NOT NULL REFERENCES app (num) ON DELETE RESTRICT,
    name              TEXT    NOT NULL,
    ver               TEXT    NOT NULL,
    cluster           TEXT    NOT NULL,
    enabled           INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    partitioner       TEXT    NOT NULL,
    compression       TEXT    NOT NULL,
    strip_2017_tags   INTEGER NOT NULL CHECK (strip_2017_tags IN (0, 1)),
    message_bytes_max INTEGER NOT NULL,
    partitions        INTEGER,
    replicas          INTEGER,
    retention_ms      INTEGER,
    retention_bytes   INTEGER,
    created_at_ms     INTEGER NOT NULL,
    UNIQUE (app_num, name, ver)
);

-- What an app may do beyond its own topics. An empty ver or topic stands for every one (NULLs would not be unique).
CREATE TABLE subscribe_grant (
    app_num       INTEGER NOT NULL REFERENCES app (num) ON DELETE CASCADE,
    owner_num     INTEGER NOT NULL REFERENCES app (num) ON DELETE CASCADE,
    topic         TEXT    NOT NULL,
    ver           TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (app_num, owner_num, topic, ver)
);

CREATE TABLE raw_grant (
    app_num       INTEGER NOT NULL REFERENCES app (num) ON DELETE CASCADE,
    cluster       TEXT    NOT NULL,
    topic         TEXT    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (app_num, cluster, topic)
);

-- Who may use the manager: one account.
CREATE TABLE admin (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    appid         TEXT    NOT NULL,
    sha256        BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL
);
