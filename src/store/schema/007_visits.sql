-- When the person was last seen in the visit that a line of the ledger began; NULL: at its beginning.
ALTER TABLE attendance ADD COLUMN last INTEGER;
CREATE INDEX attendance_by_person ON attendance (person, camera, at);
