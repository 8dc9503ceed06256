-- What the sink knows of itself: the log that feeds it, the version of these schemas.
CREATE TABLE IF NOT EXISTS sink
(
    key String,
    value String,
    version UInt64
)
ENGINE = ReplacingMergeTree(version)
ORDER BY key
