-- Schema 1 of a log kept in PostgreSQL. Append-only; no column says anything the record bytes do not say (settled.md, 10).
-- Run inside the schema of the log, whose comment says kind and version. The tables are those of SQLite (sqlite_0001.sql).

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
    frontier bytea NOT NULL,                -- roots of the complete subtrees, largest first, 32 bytes each
    recorded_at text COLLATE "C" NOT NULL,  -- of the last record
    indexed bigint NOT NULL                 -- the index covers positions 1 .. indexed; at most 1023 records follow it
) WITH (fillfactor = 10);

INSERT INTO head (one, size, frontier, recorded_at, indexed) VALUES (1, 0, '', '', 0);

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

-- Evidence (store/evidence_postgres.py). A blob is its row and the chunks 0 … n-1 of 1 MiB each (the last one shorter, none
-- for 0 bytes), all of one transaction. Chunks beyond the size are never read, so nobody who may only insert can change
-- a blob that stands.
CREATE TABLE evidence (
    blake3 text COLLATE "C" PRIMARY KEY CHECK (blake3 ~ '^[0-9a-f]{64}$'),
    sha256 text COLLATE "C" NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size bigint NOT NULL CHECK (size >= 0)
);

CREATE TABLE evidence_chunk (
    -- deferred: the row comes last, and without it nothing is committed
    blake3 text COLLATE "C" NOT NULL REFERENCES evidence DEFERRABLE INITIALLY DEFERRED,
    index integer NOT NULL CHECK (index >= 0),
    bytes bytea NOT NULL CHECK (octet_length(bytes) BETWEEN 1 AND 1048576),
    PRIMARY KEY (blake3, index)
);

ALTER TABLE evidence_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL; -- as it is: packs are compressed already

-- Shared memos (store/memos_postgres.py) are no part of the log: nothing rests on them, and writers replace and remove them.
CREATE TABLE memo (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- never used again: who reads a step that is gone finds nothing
    ladder text COLLATE "C" NOT NULL CHECK (ladder IN ('live', 'rebuild')),
    position bigint NOT NULL CHECK (position > 0),
    size bigint NOT NULL CHECK (size >= 0),
    UNIQUE (ladder, position)
);

CREATE TABLE memo_chunk (
    memo bigint NOT NULL REFERENCES memo ON DELETE CASCADE,
    index integer NOT NULL CHECK (index >= 0),
    bytes bytea NOT NULL CHECK (octet_length(bytes) BETWEEN 1 AND 65536),
    PRIMARY KEY (memo, index)
);

ALTER TABLE memo_chunk ALTER COLUMN bytes SET STORAGE EXTERNAL; -- read by parts, and mostly digests

-- What the owner did beyond appending (ops/decisions/0013-roles-and-maintenance.md). A row lets its own transaction
-- change rows that stay; it names the record that declared the act, and a record declares one act. Owner, instant and
-- transaction are what the server says; what was done and why stands in the record.
CREATE TABLE maintenance (
    position bigint PRIMARY KEY REFERENCES records,
    who text NOT NULL,
    at timestamptz NOT NULL,
    txid xid8 NOT NULL UNIQUE
);

-- Functions name their schema themselves and trust no search_path: a table or an operator planted in one changes nothing.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    declared boolean := false;
BEGIN
    IF TG_NARGS = 0 THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.maintenance WHERE txid = pg_current_xact_id_if_assigned())',
                       TG_TABLE_SCHEMA) INTO declared;
    END IF;
    IF NOT declared THEN
        RAISE EXCEPTION 'append-only: % of % is refused', lower(TG_OP), TG_TABLE_NAME;
    END IF;
    RETURN CASE TG_LEVEL WHEN 'ROW' THEN NEW END;
END $$;

CREATE FUNCTION admit_maintenance() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    declares text;
BEGIN
    EXECUTE format('SELECT convert_from(body, ''UTF8'')::json ->> ''type'' FROM %I.records WHERE position = $1',
                   TG_TABLE_SCHEMA) INTO declares USING NEW.position;
    IF declares IS DISTINCT FROM 'store.maintenance_declared/1' THEN
        RAISE EXCEPTION 'record % declares no maintenance', coalesce(NEW.position::text, 'NULL');
    END IF;
    NEW.who := session_user;
    NEW.at := clock_timestamp();
    NEW.txid := pg_current_xact_id();
    RETURN NEW;
END $$;

CREATE TRIGGER records_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON records EXECUTE FUNCTION refuse_change();
CREATE TRIGGER types_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON types EXECUTE FUNCTION refuse_change();
CREATE TRIGGER postings_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON postings EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_chunk_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence_chunk EXECUTE FUNCTION refuse_change();
CREATE TRIGGER maintenance_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON maintenance EXECUTE FUNCTION refuse_change('always');
CREATE TRIGGER maintenance_admit BEFORE INSERT ON maintenance FOR EACH ROW EXECUTE FUNCTION admit_maintenance();
CREATE TRIGGER head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON head EXECUTE FUNCTION refuse_change();

-- The head only moves on. The condition is compiled here, so no search_path bears on it, and a commit calls no function.
CREATE TRIGGER head_moves_on BEFORE UPDATE ON head FOR EACH ROW
    WHEN (NOT (NEW.size > OLD.size AND NEW.recorded_at >= OLD.recorded_at
        AND NEW.indexed >= OLD.indexed AND NEW.indexed <= NEW.size))
    EXECUTE FUNCTION refuse_change();
