-- What rules and notices need: alerts that share one message, what a notice says, which events were kept quiet, and
-- until when whom.

ALTER TABLE outbox ADD COLUMN merge_key TEXT;       -- alerts of one channel that wait under one key are one message
CREATE INDEX outbox_by_merge_key ON outbox (channel, merge_key) WHERE state = 'waiting' AND merge_key IS NOT NULL;

ALTER TABLE events ADD COLUMN detail TEXT;          -- what a notice says, for people
ALTER TABLE events ADD COLUMN snoozed INTEGER NOT NULL DEFAULT 0;  -- 1: messages about it were kept back

CREATE TABLE snoozes (
    number  INTEGER PRIMARY KEY,
    id      TEXT    NOT NULL UNIQUE,            -- a UUID
    camera  TEXT,                               -- NULL: every camera
    rule    TEXT,                               -- NULL: every rule
    until   INTEGER,                            -- NULL: disarmed, until somebody arms again
    reason  TEXT    NOT NULL,
    created INTEGER NOT NULL
) STRICT;
