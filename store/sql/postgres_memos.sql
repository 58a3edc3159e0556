-- Shared memos of the log in the same schema (store/memos_postgres.py). Run with that schema as the search_path.
-- They are no part of the log: nothing rests on them, and whoever writes them may replace and remove them.
-- Rights: the writer SELECT, INSERT, UPDATE, DELETE on both tables; the auditor SELECT.

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
