-- Rows of the lake's identities as rows of IDENTITIES. {from}: a table of the lake's columns (file(), s3(), an S3Queue).
-- Traits go in as text and are cast by the table, as identities.sql says: set input_format_try_infer_dates = 0 and
-- input_format_try_infer_datetimes = 0 on whatever inserts.
-- Without an environment there is nothing that a reader could ask for: such a row is the roster's alone.
SELECT environment_id, id, identifier, identity_key, traits AS traits_json, traits_tagged, system_traits, inserted_at,
       is_deleted, source, partition, seq, log_id
FROM {from}
WHERE environment_id != ''
