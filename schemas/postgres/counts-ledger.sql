-- What the counts sink keeps for itself, whatever platform it serves (PROTOCOL.md §5, Counts).
-- Run by the sink when its role may, else once by an administrator: `rollcall setup --print-sql` prints it with grants.
-- Ids are compared byte by byte (COLLATE "C"): they have no language.
-- Names are without schema: they land in the first schema of the search_path.

-- One row: whose ledger this is. Every writer locks it first, so that writes, repairs and resets follow each other.
CREATE TABLE IF NOT EXISTS rollcall_count_log (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id     text NOT NULL,
    partitions integer -- NULL between a reset and the next start
);

-- The ledger: the newest absolute count that each partition has given of each (segment, environment).
CREATE TABLE IF NOT EXISTS rollcall_count (
    log_id         text    NOT NULL,
    segment_id     text COLLATE "C" NOT NULL,
    environment_id text COLLATE "C" NOT NULL,
    partition      integer NOT NULL,
    count          bigint  NOT NULL CHECK (count >= 0),
    fingerprint    text    NOT NULL, -- order-free, 16 hexadecimal digits
    seq            bigint  NOT NULL, -- the commit of the partition that gave it; a lower or equal one changes nothing
    state          text    NOT NULL CHECK (state IN ('live', 'filling', 'unsupported', 'removed')),
    reason         text,             -- why it is unsupported
    PRIMARY KEY (segment_id, environment_id, partition)
) WITH (fillfactor = 70);

-- How far each source has come in each partition. A watermark rewrites a row here and none of the counts.
CREATE TABLE IF NOT EXISTS rollcall_as_of (
    log_id    text    NOT NULL,
    source    text    NOT NULL,
    partition integer NOT NULL,
    position  text    NOT NULL,
    at_us     bigint  NOT NULL, -- the source's clock, microseconds since 1970
    seq       bigint  NOT NULL,
    PRIMARY KEY (source, partition)
) WITH (fillfactor = 70);

-- One row: the time up to which the counts are complete; NULL until every partition of every source has spoken.
-- A source whose clock is ahead doesn't put it in the future.
CREATE OR REPLACE VIEW rollcall_count_as_of AS
SELECT CASE WHEN bool_and(w.partitions = l.partitions)
            THEN least(now(), timestamptz 'epoch' + min(w.at_us) * interval '1 microsecond') END AS as_of
FROM (SELECT source, count(*) AS partitions, min(at_us) AS at_us FROM rollcall_as_of GROUP BY source) AS w
CROSS JOIN rollcall_count_log AS l;
