-- Schema 1 of a log kept in SQLite. Append-only; no column says anything the record bytes do not say (settled.md, 10).
-- The kind of the log is PRAGMA application_id, the schema version PRAGMA user_version.

-- name: tables

-- Names are stored once: integers keep the indexes small and flat as the log grows.
CREATE TABLE types (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE tags (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- The log. `body` is the leaf, byte for byte as it was hashed; all else is found again inside it.
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    type INTEGER NOT NULL,
    id BLOB,              -- the record's UUID, 16 bytes; NULL for foreign events of an opaque log
    leaf BLOB NOT NULL,   -- RFC 6962 leaf hash, 32 bytes
    body BLOB NOT NULL
);

-- A record id is used once; this index is what enforces it.
CREATE UNIQUE INDEX records_by_id ON records (id) WHERE id IS NOT NULL;

-- For queries without a tag.
CREATE INDEX records_by_type ON records (type);

-- One row for each tag of a record, in the order of its history; `type` lets a query filter without the record.
CREATE TABLE record_tags (
    tag INTEGER NOT NULL,
    position INTEGER NOT NULL,
    type INTEGER NOT NULL,
    PRIMARY KEY (tag, position)
) WITHOUT ROWID;

-- The head, written in the transaction of the rows it covers.
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,     -- roots of the complete subtrees, largest first, 32 bytes each
    recorded_at TEXT NOT NULL   -- of the last record
);

-- name: triggers

CREATE TRIGGER records_stay BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'append-only: records are never deleted'); END;

CREATE TRIGGER records_hold BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'append-only: records are never changed'); END;

CREATE TRIGGER record_tags_stay BEFORE DELETE ON record_tags
BEGIN SELECT RAISE(ABORT, 'append-only: tags of a record are never deleted'); END;

CREATE TRIGGER record_tags_hold BEFORE UPDATE ON record_tags
BEGIN SELECT RAISE(ABORT, 'append-only: tags of a record are never changed'); END;

CREATE TRIGGER types_stay BEFORE DELETE ON types
BEGIN SELECT RAISE(ABORT, 'append-only: names are never deleted'); END;

CREATE TRIGGER types_hold BEFORE UPDATE ON types
BEGIN SELECT RAISE(ABORT, 'append-only: names are never changed'); END;

CREATE TRIGGER tags_stay BEFORE DELETE ON tags
BEGIN SELECT RAISE(ABORT, 'append-only: names are never deleted'); END;

CREATE TRIGGER tags_hold BEFORE UPDATE ON tags
BEGIN SELECT RAISE(ABORT, 'append-only: names are never changed'); END;

-- name: first head

INSERT INTO head (one, size, frontier, recorded_at) VALUES (1, 0, x'', '');
