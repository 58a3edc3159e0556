-- Schema 1 of a log kept in SQLite. Append-only; no column says anything the record bytes do not say (settled.md, 10).
-- The kind of the log is PRAGMA application_id, the schema version PRAGMA user_version.

-- name: tables

-- The log. `body` is the leaf, byte for byte as it was hashed; all else is found again inside it.
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    id BLOB,              -- the record's UUID, 16 bytes; NULL for foreign events of an opaque log
    leaf BLOB NOT NULL,   -- RFC 6962 leaf hash, 32 bytes
    body BLOB NOT NULL
);

-- A record id is used once; this index is what enforces it.
CREATE UNIQUE INDEX records_by_id ON records (id) WHERE id IS NOT NULL;

-- The head, written in the transaction of the rows it covers.
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    size INTEGER NOT NULL,
    frontier BLOB NOT NULL,     -- roots of the complete subtrees, largest first, 32 bytes each
    recorded_at TEXT NOT NULL,  -- of the last record
    indexed INTEGER NOT NULL    -- the index covers positions 1 .. indexed; at most 1023 records follow it
);

-- name: index

-- The index says nothing of its own: it is a function of the bodies 1 .. indexed. The records after them are found
-- by their bodies, until they are enough to be worth their pages (ops/decisions/0010-index-of-the-log.md).

-- Types in order of their first record: 1, 2, 3 ...
CREATE TABLE types (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

-- The history of a term, cut into rows of at most 112 entries: a longer row would spill out of its page.
CREATE TABLE postings (
    term NOT NULL,            -- a tag (text), or the number of a type (integer)
    first INTEGER NOT NULL,   -- position of the first entry
    entries BLOB NOT NULL,    -- 8 bytes each, little-endian: position * 2^24 + number of the record's type
    PRIMARY KEY (term, first)
) WITHOUT ROWID;

-- name: triggers

CREATE TRIGGER records_stay BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'append-only: records are never deleted'); END;

CREATE TRIGGER records_hold BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'append-only: records are never changed'); END;

CREATE TRIGGER types_stay BEFORE DELETE ON types
BEGIN SELECT RAISE(ABORT, 'append-only: names are never deleted'); END;

CREATE TRIGGER types_hold BEFORE UPDATE ON types
BEGIN SELECT RAISE(ABORT, 'append-only: names are never changed'); END;

CREATE TRIGGER postings_stay BEFORE DELETE ON postings
BEGIN SELECT RAISE(ABORT, 'append-only: postings are never deleted'); END;

CREATE TRIGGER postings_hold BEFORE UPDATE ON postings
BEGIN SELECT RAISE(ABORT, 'append-only: postings are never changed'); END;

-- name: first head

INSERT INTO head (one, size, frontier, recorded_at, indexed) VALUES (1, 0, x'', '', 0);
