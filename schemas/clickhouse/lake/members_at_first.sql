-- Rows of the lake's memberships as rows of members_by_segment and members_by_identity: who is in what, for a lake whose
-- membership_changes begin later than the log. Only the newest set of an identity holds.
-- {from}: a table of the lake's columns (file(), s3()).
SELECT segment.segment_id AS segment_id, environment_id, platform_environment_id, id, segment.since AS since, inserted_at,
       0 AS is_deleted, source, partition, seq, log_id
-- Columns by name: an INSERT would else give file() and s3() those of the table that it fills.
FROM (SELECT environment_id, platform_environment_id, id, inserted_at, segments, source, partition, seq, log_id
      FROM {from} ORDER BY inserted_at DESC LIMIT 1 BY source, id)
ARRAY JOIN segments AS segment
