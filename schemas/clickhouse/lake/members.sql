-- Rows of the lake's membership_changes as rows of members_by_segment and members_by_identity: one per segment entered and,
-- deleted, one per segment left. {from}: a table of the lake's columns (file(), s3(), an S3Queue).
SELECT segment_id, environment_id, platform_environment_id, id, at AS since, inserted_at, is_deleted, source, partition,
       seq, log_id
-- Columns by name: an INSERT would else give file() and s3() those of the table that it fills.
FROM (SELECT environment_id, platform_environment_id, id, at, inserted_at, entered, left, source, partition, seq, log_id
      FROM {from})
ARRAY JOIN
    arrayConcat(entered, left) AS segment_id,
    arrayConcat(arrayMap(x -> 0, entered), arrayMap(x -> 1, left)) AS is_deleted
