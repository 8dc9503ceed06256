-- The merged images, as schemas/arrow/identities.v1.json says. Read it with FINAL: the highest inserted_at per
-- (environment_id, id) is the identity, and deleted ones are left out.
--
-- traits_json is not stored: traits are sent in it and cast by the table, because that cast obeys the insert's settings
-- (input_format_try_infer_dates = 0: text that looks like a date stays text). Sent as traits in Arrow or Parquet, they
-- would be cast by the reader of the format, which ignores them.
--
-- max_dynamic_paths: keys beyond the first 256 of a part share one structure, since a column file per key makes merges
-- with thousands of keys slow and large. seq_range lets the sink find what it just wrote.
-- Deleted rows stay: taken away before every older record has left the log, a replay would bring the identity back.
CREATE TABLE IF NOT EXISTS IDENTITIES
(
    environment_id String,
    id String,
    identifier String,
    identity_key String,
    traits_json String EPHEMERAL '{}',
    traits JSON(max_dynamic_paths = 256) DEFAULT CAST(traits_json, 'JSON(max_dynamic_paths = 256)'),
    traits_tagged String,
    system_traits String,
    inserted_at DateTime64(6, 'UTC'),
    ingested_at DateTime DEFAULT now(),
    is_deleted UInt8,
    source LowCardinality(String),
    partition UInt16,
    seq UInt64,
    log_id LowCardinality(String),
    INDEX seq_range seq TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(inserted_at, is_deleted)
ORDER BY (environment_id, id)
