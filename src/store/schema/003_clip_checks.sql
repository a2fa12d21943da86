-- What is known of a clip's making and what became of its file.
ALTER TABLE clips ADD COLUMN skipped INTEGER NOT NULL DEFAULT 0;    -- pictures that could not be decoded
ALTER TABLE clips ADD COLUMN missing INTEGER;                       -- when the file was found to be gone
