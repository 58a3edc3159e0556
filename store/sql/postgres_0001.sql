-- Schema 1 of a log kept in PostgreSQL. Append-only; no column says anything the record bytes do not say (settled.md, 10).
-- Run inside the schema of the log, whose comment says kind and version. The tables are those of SQLite (schema.sql).

-- The log. `body` is the leaf, byte for byte as it was hashed; all else is found again inside it.
CREATE TABLE records (
    position bigint PRIMARY KEY,
    id uuid,              -- NULL for foreign events of an opaque log
    leaf bytea NOT NULL,  -- RFC 6962 leaf hash, 32 bytes
    body bytea NOT NULL
);

-- A record id is used once; this index is what enforces it.
CREATE UNIQUE INDEX records_by_id ON records (id) WHERE id IS NOT NULL;

-- The head, written in the transaction of the rows it covers. Its lock is what puts writers in order, and no reader
-- waits for it. Room in its page keeps each update on that page (heap-only tuples).
CREATE TABLE head (
    one integer PRIMARY KEY CHECK (one = 1),
    size bigint NOT NULL,
    frontier bytea NOT NULL,    -- roots of the complete subtrees, largest first, 32 bytes each
    recorded_at text NOT NULL,  -- of the last record
    indexed bigint NOT NULL     -- the index covers positions 1 .. indexed; at most 1023 records follow it
) WITH (fillfactor = 10);

-- Types in order of their first record: 1, 2, 3 ...
CREATE TABLE types (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE
);

-- The history of a term, cut into rows of at most 112 entries (ops/decisions/0010-index-of-the-log.md).
CREATE TABLE postings (
    term bytea NOT NULL,     -- '#' and the number of a type, 't' and a tag, 'h' and the SHA-256 of a long tag
    first bigint NOT NULL,   -- position of the first entry
    entries bytea NOT NULL,  -- 8 bytes each, little-endian: position * 2^24 + number of the record's type
    PRIMARY KEY (term, first)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only: % of % is refused', lower(TG_OP), TG_TABLE_NAME;
END $$;

CREATE TRIGGER records_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON records EXECUTE FUNCTION refuse_change();
CREATE TRIGGER types_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON types EXECUTE FUNCTION refuse_change();
CREATE TRIGGER postings_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON postings EXECUTE FUNCTION refuse_change();
CREATE TRIGGER head_stays BEFORE DELETE OR TRUNCATE ON head EXECUTE FUNCTION refuse_change();

INSERT INTO head (one, size, frontier, recorded_at, indexed) VALUES (1, 0, '', '', 0);
