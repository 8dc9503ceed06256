-- Who is in a segment, exact without FINAL: SELECT … WHERE segment_id = … AND environment_id = …
-- The identifier is joined, since a rename changes no membership.
CREATE OR REPLACE VIEW segment_members AS
SELECT
    m.segment_id AS segment_id,
    m.environment_id AS environment_id,
    m.id AS id,
    i.identifier AS identifier,
    i.identity_key AS identity_key,
    m.since AS since,
    m.inserted_at AS version
FROM members_by_segment AS m FINAL
LEFT ANY JOIN IDENTITIES AS i FINAL ON i.environment_id = m.environment_id AND i.id = m.id
