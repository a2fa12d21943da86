-- Who was recognised in which event, so that the events of a person are found without reading all others.
-- Kept by triggers: whoever writes an event need not know. No foreign key: it would want an index of its own.
CREATE TABLE event_people (
    name    TEXT    NOT NULL,
    started INTEGER NOT NULL,
    event   INTEGER NOT NULL,                   -- number of the event
    camera  TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    PRIMARY KEY (name, started, event)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_people_by_camera ON event_people (name, camera, started, event);
CREATE INDEX event_people_by_kind ON event_people (name, kind, started, event);
CREATE INDEX event_people_by_camera_and_kind ON event_people (name, camera, kind, started, event);

CREATE TRIGGER event_people_of_new AFTER INSERT ON events WHEN NEW.identities <> '[]' BEGIN
    INSERT OR IGNORE INTO event_people (name, started, event, camera, kind)
    SELECT value, NEW.started, NEW.number, NEW.camera, NEW.kind
    FROM json_each(iif(json_valid(NEW.identities), NEW.identities, '[]')) WHERE type = 'text';
END;

CREATE TRIGGER event_people_of_changed AFTER UPDATE OF identities ON events
WHEN NEW.identities <> OLD.identities BEGIN
    DELETE FROM event_people WHERE started = OLD.started AND event = OLD.number AND name IN (
        SELECT value FROM json_each(iif(json_valid(OLD.identities), OLD.identities, '[]')) WHERE type = 'text');
    INSERT OR IGNORE INTO event_people (name, started, event, camera, kind)
    SELECT value, NEW.started, NEW.number, NEW.camera, NEW.kind
    FROM json_each(iif(json_valid(NEW.identities), NEW.identities, '[]')) WHERE type = 'text';
END;

CREATE TRIGGER event_people_of_removed AFTER DELETE ON events WHEN OLD.identities <> '[]' BEGIN
    DELETE FROM event_people WHERE started = OLD.started AND event = OLD.number AND name IN (
        SELECT value FROM json_each(iif(json_valid(OLD.identities), OLD.identities, '[]')) WHERE type = 'text');
END;

INSERT OR IGNORE INTO event_people (name, started, event, camera, kind)
SELECT value, events.started, events.number, events.camera, events.kind
FROM events, json_each(iif(json_valid(events.identities), events.identities, '[]'))
WHERE events.identities <> '[]' AND type = 'text';
