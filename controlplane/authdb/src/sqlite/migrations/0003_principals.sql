-- Who may call the manager beside the admin, and what their tokens are signed with.

-- every_app: a reader of all apps, those to come too. stamp: another one after every change; a token holds for one.
CREATE TABLE principal (
    num           INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE,
    role          TEXT    NOT NULL CHECK (role IN ('admin', 'owner', 'reader', 'node')),
    every_app     INTEGER NOT NULL CHECK (every_app IN (0, 1)),
    enabled       INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    sha256        BLOB    NOT NULL,
    stamp         BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL,
    key_at_ms     INTEGER NOT NULL
);

-- By number: an app that is made again under the same name is nobody's.
CREATE TABLE principal_app (
    principal_num INTEGER NOT NULL REFERENCES principal (num) ON DELETE CASCADE,
    app_num       INTEGER NOT NULL REFERENCES app (num) ON DELETE CASCADE,
    PRIMARY KEY (principal_num, app_num)
);
CREATE INDEX principal_app_app ON principal_app (app_num);

-- Ed25519. One: with another one in its place all tokens given out so far are void.
CREATE TABLE token_key (
    id            INTEGER PRIMARY KEY CHECK (id = 1),
    kid           TEXT    NOT NULL,
    seed          BLOB    NOT NULL,
    created_at_ms INTEGER NOT NULL
);
