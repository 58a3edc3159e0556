-- Evidence of the log in the same schema (store/evidence_postgres.py). Run with that schema as the search_path.
-- A blob is its row and the chunks 0 … n-1 of 1 MiB each (the last one shorter, none for 0 bytes), all of one transaction.
-- Chunks beyond the size are never read, so nobody who may only insert can change a blob that stands.

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

CREATE FUNCTION evidence_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only: % of % is refused', lower(TG_OP), TG_TABLE_NAME;
END
$$;

CREATE TRIGGER evidence_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION evidence_stays();
CREATE TRIGGER evidence_chunk_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence_chunk
    FOR EACH STATEMENT EXECUTE FUNCTION evidence_stays();
