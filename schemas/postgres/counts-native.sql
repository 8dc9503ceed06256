-- Preset `native` of the counts sink: Rollcall's own count table. Needs counts-ledger.sql.

-- One row per (segment, environment) that is judged, zero included.
CREATE TABLE IF NOT EXISTS rollcall_segment_count (
    segment_id     text COLLATE "C" NOT NULL,
    environment_id text COLLATE "C" NOT NULL,
    count          bigint      NOT NULL CHECK (count >= 0),
    state          text        NOT NULL CHECK (state IN ('live', 'filling', 'unsupported')),
    reason         text,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (segment_id, environment_id)
) WITH (fillfactor = 70);

-- What readers use. An unsupported segment has no count: it is never shown as empty.
CREATE OR REPLACE VIEW segment_membership AS
SELECT c.segment_id, c.environment_id,
       CASE WHEN c.state <> 'unsupported' THEN c.count END AS count,
       c.state, a.as_of, c.updated_at, c.reason
FROM rollcall_segment_count AS c
CROSS JOIN rollcall_count_as_of AS a;
