-- Which segments an identity is in: the same rows as members_by_segment, behind the view identity_segments.
-- The columns are schemas/arrow/memberships.v1.json.
CREATE TABLE IF NOT EXISTS members_by_identity
(
    segment_id String,
    environment_id String,
    platform_environment_id String,
    id String,
    since DateTime64(6, 'UTC'),
    inserted_at DateTime64(6, 'UTC'),
    is_deleted UInt8,
    source LowCardinality(String),
    partition UInt16,
    seq UInt64,
    log_id LowCardinality(String),
    INDEX seq_range seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(inserted_at, is_deleted)
ORDER BY (id, environment_id, segment_id)
