-- What the next run has to know of an event that a death of the node leaves open.
ALTER TABLE events ADD COLUMN subject TEXT;         -- what exactly a notice is about
ALTER TABLE events ADD COLUMN promises TEXT;        -- JSON: who is to be told of its end; NULL once it is over

-- So far the alerts said whether the end is told as well.
UPDATE events SET promises = (
        SELECT json_group_array(json_object(
            'channel', channel, 'rule', '',
            'severity', ifnull(json_extract(payload, '$.severity'), 'warning')))
        FROM outbox
        WHERE event = events.id AND phase = 'started' AND part = 0
            AND json_valid(payload) AND json_extract(payload, '$.ends'))
    WHERE ended IS NULL;
