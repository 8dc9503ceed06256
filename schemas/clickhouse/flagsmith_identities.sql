-- Preset flagsmith, in the platform's database: its own columns over the exact table. The view contains the FINAL, and
-- ClickHouse accepts a second one on it (FROM IDENTITIES AS i FINAL), which does nothing; so the platform's readers
-- work as they are and are exact. is_deleted is always false: deleted rows are left out.
CREATE VIEW IF NOT EXISTS IDENTITIES AS
SELECT
    environment_id,
    identifier,
    identity_key,
    traits,
    toDateTime(inserted_at) AS inserted_at,
    ingested_at,
    source,
    CAST(false, 'Bool') AS is_deleted
FROM rollcall.IDENTITIES FINAL
