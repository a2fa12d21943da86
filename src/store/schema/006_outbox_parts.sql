-- Alerts in parts (the message, then its clips) and digests. A UNIQUE constraint cannot be changed: the table is made
-- anew. Numbers, and with them the order of writing, stay.

ALTER TABLE outbox RENAME TO outbox_of_step_5;
DROP INDEX outbox_waiting;
DROP INDEX outbox_waiting_by_channel;
DROP INDEX outbox_settled;
DROP INDEX outbox_by_merge_key;

CREATE TABLE outbox (
    number       INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,       -- names the row, a UUID
    key          TEXT    NOT NULL,              -- idempotency key: the id of the first part, in every part
    event        TEXT    NOT NULL,
    phase        TEXT    NOT NULL,
    channel      TEXT    NOT NULL,
    part         INTEGER NOT NULL DEFAULT 0,    -- 0: the message; from 1 on: a clip that follows it
    camera       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    payload      TEXT    NOT NULL,              -- JSON; never a secret
    snapshot     TEXT,
    clip         TEXT,                          -- path of the clip, of parts from 1 on
    created      INTEGER NOT NULL,
    queued       INTEGER NOT NULL,              -- when it began to wait; later than created where it was retried by hand
    attempts     INTEGER NOT NULL DEFAULT 0,
    sent         INTEGER NOT NULL DEFAULT 0,    -- steps that have arrived: a text, then its picture
    next_attempt INTEGER NOT NULL,
    state        TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    settled      INTEGER,                       -- when it stopped waiting
    last_error   TEXT,
    merge_key    TEXT,                          -- alerts of one channel that wait under one key are one message
    digest       TEXT,                          -- id of the digest that stands for it
    UNIQUE (event, phase, channel, part),
    CHECK ((settled IS NULL) = (state = 'waiting')),
    CHECK ((clip IS NULL) = (part = 0))
) STRICT;

INSERT INTO outbox (number, id, key, event, phase, channel, camera, kind, payload, snapshot, created, queued, attempts,
                    sent, next_attempt, state, settled, last_error, merge_key)
    SELECT number, id, id, event, phase, channel, camera, kind, payload, snapshot, created, created, attempts,
           sent, next_attempt, state, settled, last_error, merge_key
    FROM outbox_of_step_5;
DROP TABLE outbox_of_step_5;

CREATE INDEX outbox_waiting ON outbox (queued, next_attempt) WHERE state = 'waiting';
CREATE INDEX outbox_waiting_by_channel ON outbox (channel, queued, next_attempt) WHERE state = 'waiting';
CREATE INDEX outbox_alerts ON outbox (channel, queued, number)
    WHERE state = 'waiting' AND part = 0 AND digest IS NULL;
CREATE INDEX outbox_clips ON outbox (channel, queued, number)
    WHERE state = 'waiting' AND part > 0 AND digest IS NULL;
CREATE INDEX outbox_by_merge_key ON outbox (channel, merge_key) WHERE state = 'waiting' AND merge_key IS NOT NULL;
CREATE INDEX outbox_by_digest ON outbox (digest) WHERE digest IS NOT NULL;
CREATE INDEX outbox_settled ON outbox (settled, state) WHERE state <> 'waiting';
-- Lists, newest first: the number of the row follows in every index.
CREATE INDEX outbox_by_state ON outbox (state);
CREATE INDEX outbox_by_channel ON outbox (channel, state);
CREATE INDEX outbox_by_camera ON outbox (camera, state);

-- Digests on their way; a row goes when its digest was delivered or given up.
CREATE TABLE digests (
    number       INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,       -- its idempotency key, a UUID
    channel      TEXT    NOT NULL UNIQUE,
    made         INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL,
    last_error   TEXT
) STRICT;
