-- What the store has to remember about itself: its schema once more, and why nothing may be deleted.
CREATE TABLE notes (
    name TEXT    PRIMARY KEY,
    text TEXT    NOT NULL,
    at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
