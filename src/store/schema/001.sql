-- Times are microseconds since the Unix epoch, UTC. Paths are relative to the data folder.

CREATE TABLE events (
    number      INTEGER PRIMARY KEY,            -- short handle for the tables below
    id          TEXT    NOT NULL UNIQUE,        -- UUID version 7
    camera      TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    phase       TEXT    NOT NULL CHECK (phase IN ('started', 'updated', 'ended')),
    started     INTEGER NOT NULL,
    started_seq INTEGER NOT NULL,
    ended       INTEGER,
    score       REAL    NOT NULL,
    identities  TEXT    NOT NULL,               -- JSON array of names
    interrupted INTEGER NOT NULL DEFAULT 0,     -- 1: the node died before it ended
    CHECK ((ended IS NOT NULL) = (phase = 'ended'))
) STRICT;
CREATE INDEX events_by_time ON events (started, id);
CREATE INDEX events_by_camera ON events (camera, started, id);
CREATE INDEX events_by_kind ON events (kind, started, id);
CREATE INDEX events_by_camera_and_kind ON events (camera, kind, started, id);
CREATE INDEX events_open ON events (number) WHERE ended IS NULL;

-- Boxes over time: one row per frame, detections as a JSON array of
-- [label, score, x, y, width, height] or [label, score, x, y, width, height, identity].
CREATE TABLE sightings (
    event      INTEGER NOT NULL REFERENCES events (number) ON DELETE CASCADE,
    seq        INTEGER NOT NULL,
    wall       INTEGER NOT NULL,
    detections TEXT    NOT NULL,
    PRIMARY KEY (event, seq)
) STRICT, WITHOUT ROWID;

-- Clips and snapshots name their event by its id and do not depend on its row:
-- evidence outlives a database that had to be restored from an older copy.
CREATE TABLE clips (
    number   INTEGER PRIMARY KEY,
    event    TEXT,                              -- NULL for the videos of mode 2
    camera   TEXT    NOT NULL,
    path     TEXT    NOT NULL,
    started  INTEGER NOT NULL,
    duration INTEGER NOT NULL,                  -- microseconds of monotonic time
    frames   INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    sha256   TEXT,
    state    TEXT    NOT NULL CHECK (state IN ('ok', 'repaired', 'set_aside'))
) STRICT;
CREATE INDEX clips_by_event ON clips (event) WHERE event IS NOT NULL;
-- Events that overlap at one camera share a clip: one row for each of them.
CREATE UNIQUE INDEX clips_by_path ON clips (path, ifnull(event, ''));

CREATE TABLE snapshots (
    number INTEGER PRIMARY KEY,
    event  TEXT    NOT NULL,
    path   TEXT    NOT NULL UNIQUE,
    taken  INTEGER NOT NULL,
    bytes  INTEGER NOT NULL
) STRICT;
CREATE INDEX snapshots_by_event ON snapshots (event);

CREATE TABLE outbox (
    number       INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,       -- idempotency key, a UUID
    event        TEXT    NOT NULL,
    phase        TEXT    NOT NULL,
    channel      TEXT    NOT NULL,
    camera       TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    payload      TEXT    NOT NULL,              -- JSON; never a secret
    snapshot     TEXT,
    created      INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    sent         INTEGER NOT NULL DEFAULT 0,    -- steps that have arrived: a text, then its picture
    next_attempt INTEGER NOT NULL,
    state        TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'dead')),
    settled      INTEGER,                       -- when it stopped waiting
    last_error   TEXT,
    UNIQUE (event, phase, channel),
    CHECK ((settled IS NULL) = (state = 'waiting'))
) STRICT;
CREATE INDEX outbox_waiting ON outbox (created, next_attempt) WHERE state = 'waiting';
CREATE INDEX outbox_waiting_by_channel ON outbox (channel, created, next_attempt) WHERE state = 'waiting';
CREATE INDEX outbox_settled ON outbox (settled, state) WHERE state <> 'waiting';

CREATE TABLE people (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,         -- UUID, also the name of the folder under faces/
    name       TEXT    NOT NULL UNIQUE,
    consent_by TEXT    NOT NULL,
    consent_at INTEGER NOT NULL,
    created    INTEGER NOT NULL
) STRICT;

CREATE TABLE face_pictures (
    number  INTEGER PRIMARY KEY,
    person  INTEGER NOT NULL REFERENCES people (number) ON DELETE CASCADE,
    file    TEXT    NOT NULL UNIQUE,            -- name of the file in the person's folder
    created INTEGER NOT NULL
) STRICT;
CREATE INDEX face_pictures_by_person ON face_pictures (person);

CREATE TABLE attendance (
    number INTEGER PRIMARY KEY,
    person INTEGER NOT NULL REFERENCES people (number) ON DELETE CASCADE,
    camera TEXT    NOT NULL,
    at     INTEGER NOT NULL,
    event  TEXT    NOT NULL,
    UNIQUE (person, event)
) STRICT;
CREATE INDEX attendance_by_time ON attendance (at, number);

CREATE TABLE counters (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('gallery_generation', 0);
