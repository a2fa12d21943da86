-- What is kept on purpose, what is being deleted, and events of which the disk took not everything.

ALTER TABLE events ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN recording_refused INTEGER NOT NULL DEFAULT 0;

-- A clip is kept while one of its rows is. `deleting`: its file is being removed; a start goes on with that.
ALTER TABLE clips ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clips ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE snapshots ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;

CREATE INDEX clips_by_age ON clips (started, number) WHERE kept = 0 AND deleting = 0;
CREATE INDEX clips_deleting ON clips (path) WHERE deleting = 1;
CREATE INDEX snapshots_by_age ON snapshots (taken, number) WHERE kept = 0 AND deleting = 0;
CREATE INDEX snapshots_deleting ON snapshots (path) WHERE deleting = 1;
