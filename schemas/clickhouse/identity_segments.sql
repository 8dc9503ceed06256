-- Which segments an identity is in, exact without FINAL: SELECT … WHERE id = … [AND environment_id = …]
CREATE OR REPLACE VIEW identity_segments AS
SELECT
    m.id AS id,
    m.environment_id AS environment_id,
    m.segment_id AS segment_id,
    i.identifier AS identifier,
    i.identity_key AS identity_key,
    m.since AS since,
    m.inserted_at AS version
FROM members_by_identity AS m FINAL
LEFT ANY JOIN IDENTITIES AS i FINAL ON i.environment_id = m.environment_id AND i.id = m.id
