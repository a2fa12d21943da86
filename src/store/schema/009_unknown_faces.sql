-- Numbers of enrolled faces, negatives, and unknown faces kept for a few days.

-- 1: the person is being removed; a start goes on with that.
ALTER TABLE people ADD COLUMN deleting INTEGER NOT NULL DEFAULT 0;

-- What its likeness with others is computed from, 32-bit floats, the low byte first, and which network it is of.
-- An empty one: that network found nothing to compare in this picture.
ALTER TABLE face_pictures ADD COLUMN embedding BLOB;
ALTER TABLE face_pictures ADD COLUMN space TEXT;

-- Faces that were taken for a person who they are not. The files lie beside the person's pictures.
CREATE TABLE face_negatives (
    number    INTEGER PRIMARY KEY,
    person    INTEGER NOT NULL REFERENCES people (number) ON DELETE CASCADE,
    file      TEXT    NOT NULL UNIQUE,
    created   INTEGER NOT NULL,
    event     TEXT,                             -- in which event it was mistaken; NULL: somebody brought a picture
    embedding BLOB,
    space     TEXT,
    deleting  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX face_negatives_by_person ON face_negatives (person);

-- Faces that matched nobody, grouped by likeness. Numbers are never given again: somebody may hold an old one.
CREATE TABLE unknown_groups (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    space  TEXT    NOT NULL,
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    seen   INTEGER NOT NULL                     -- how often, whether or not a picture was kept
) STRICT;

CREATE TABLE unknown_faces (
    number    INTEGER PRIMARY KEY,
    "group"   INTEGER NOT NULL REFERENCES unknown_groups (number) ON DELETE CASCADE,
    file      TEXT    NOT NULL UNIQUE,          -- name of the file in the folder unknown/
    camera    TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    width     REAL    NOT NULL,                 -- of the face, pixels
    bytes     INTEGER NOT NULL,
    embedding BLOB    NOT NULL,
    deleting  INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX unknown_faces_by_group ON unknown_faces ("group");
CREATE INDEX unknown_faces_by_age ON unknown_faces (at);
