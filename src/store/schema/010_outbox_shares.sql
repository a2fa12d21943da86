-- Which message tells of an event that has none to itself, so that what is written again is told once.
CREATE TABLE outbox_shares (
    event   TEXT    NOT NULL,
    phase   TEXT    NOT NULL,
    channel TEXT    NOT NULL,
    message INTEGER NOT NULL REFERENCES outbox (number) ON DELETE CASCADE,
    PRIMARY KEY (event, phase, channel)
) STRICT, WITHOUT ROWID;
CREATE INDEX outbox_shares_by_message ON outbox_shares (message);

-- A message about several cameras or kinds may have come by a picture that is not of its own event.
UPDATE outbox SET snapshot = NULL
    WHERE state = 'waiting' AND merge_key IS NOT NULL AND json_valid(payload)
        AND json_array_length(payload, '$.lines') > 1;
