"""Other people's readers on a lake in a folder, going by its manifests.

read_lake.py duckdb|pyarrow LAKE  ▸ JSON on standard output: per table, files and rows as read, and of
`identities` and `memberships` what the newest row per key says.
"""

import json
import pathlib
import sys

TABLES = ["identities", "memberships", "membership_changes", "segment_counts"]


def listed(lake, table):
    """The paths of the files that the newest manifest of a table lists."""
    newest = max((lake / table / "manifests").glob("*.json"))
    manifest = json.loads(newest.read_text())
    return [str(lake / file["object"]) for file in manifest["files"]]


def by_duckdb(files):
    import duckdb

    def rows(table):
        return duckdb.sql("SELECT count(*) FROM read_parquet($f)", params={"f": files[table]}).fetchall()[0][0]

    living = duckdb.sql(
        """SELECT environment_id, id, identifier, traits FROM read_parquet($f)
           QUALIFY row_number() OVER (PARTITION BY environment_id, id ORDER BY inserted_at DESC) = 1 AND is_deleted = 0""",
        params={"f": files["identities"]},
    ).fetchall()
    members = duckdb.sql(
        """SELECT segment.segment_id, environment_id, id FROM (
             SELECT environment_id, id, unnest(segments) AS segment FROM (
               SELECT * FROM read_parquet($f)
               QUALIFY row_number() OVER (PARTITION BY source, id ORDER BY inserted_at DESC) = 1))""",
        params={"f": files["memberships"]},
    ).fetchall()
    return {table: rows(table) for table in TABLES}, living, members


def by_pyarrow(files):
    import pyarrow.parquet as pq

    read = {table: [row for f in files[table] for row in pq.read_table(f, partitioning=None).to_pylist()] for table in TABLES}

    def newest(table, *key):
        rows = {}
        for row in sorted(read[table], key=lambda row: row["inserted_at"]):
            rows[tuple(row[name] for name in key)] = row
        return rows.values()

    living = [
        (row["environment_id"], row["id"], row["identifier"], row["traits"])
        for row in newest("identities", "environment_id", "id")
        if row["is_deleted"] == 0
    ]
    members = [
        (segment["segment_id"], row["environment_id"], row["id"])
        for row in newest("memberships", "source", "id")
        for segment in row["segments"]
    ]
    return {table: len(rows) for table, rows in read.items()}, living, members


def main():
    reader, lake = {"duckdb": by_duckdb, "pyarrow": by_pyarrow}[sys.argv[1]], pathlib.Path(sys.argv[2])
    files = {table: listed(lake, table) for table in TABLES}
    rows, living, members = reader(files)
    print(json.dumps({"rows": rows, "living": sorted(map(list, living)), "members": sorted(map(list, members))}))


main()
