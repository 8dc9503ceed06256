"""The independent oracle: who is in which segment, by the platform's reference engine over the final rows.

stdin:  JSON lines {"table": name, "row": {column: value}}, as Postgres' row_to_json shows them.
stdout: JSON lines {"segment": id, "environment": id, "members": [identity id, ...]} for every live segment in every
        live environment of its project whose identities live in Postgres, and {"raised": segment id, "reason": text}
        for every segment on which the engine raised, or whose rules it can't be given.

The rows are mapped to contexts as the platform's core does. It shares no code with Rollcall.
"""

import json
import sys
import warnings
from collections import defaultdict

from flag_engine.segments.evaluator import is_context_in_segment

warnings.simplefilter("ignore")
sys.setrecursionlimit(20_000)

COLUMN_BY_TYPE = {
    "int": "integer_value",
    "unicode": "string_value",
    "bool": "boolean_value",
    "float": "float_value",
}


class BrokenRules(Exception):
    pass


def read_tables(lines):
    tables = defaultdict(dict)
    for line in lines:
        record = json.loads(line)
        tables[record["table"]][record["row"]["id"]] = record["row"]
    return tables


def trait_value(row):
    column = COLUMN_BY_TYPE.get(row["value_type"])
    value = row[column] if column else None
    # row_to_json writes a float of 10.0 as 10, and an infinity as text.
    return float(value) if column == "float_value" and value is not None else value


def is_live(row):
    return row is not None and row["deleted_at"] is None


def rules_from_json(rules):
    if not isinstance(rules, list):
        raise BrokenRules("rules_data is no list")
    return [
        {
            "type": rule["type"],
            "conditions": [
                {
                    "property": condition.get("property") or "",
                    "operator": condition["operator"],
                    "value": value if isinstance(value := condition.get("value"), list) else text(value),
                }
                for condition in rule.get("conditions") or []
            ],
            "rules": rules_from_json(rule.get("rules") or []),
        }
        for rule in rules
    ]


def text(value):
    return "" if value is None else str(value)


class RuleRows:
    """The rule and condition tables, by parent, in order of id, without what is deleted."""

    def __init__(self, tables):
        self.by_segment, self.by_rule, self.conditions = defaultdict(list), defaultdict(list), defaultdict(list)
        for row in sorted(tables["segments_segmentrule"].values(), key=lambda row: row["id"]):
            if is_live(row):
                self.by_segment[row["segment_id"]].append(row)
                self.by_rule[row["rule_id"]].append(row)
        for row in sorted(tables["segments_condition"].values(), key=lambda row: row["id"]):
            if is_live(row):
                self.conditions[row["rule_id"]].append(row)

    def rules(self, rows):
        return [
            {
                "type": row["type"],
                "conditions": [
                    {
                        "property": condition["property"] or "",
                        "operator": condition["operator"],
                        "value": condition["value"] or "",
                    }
                    for condition in self.conditions[row["id"]]
                ],
                "rules": self.rules(self.by_rule[row["id"]]),
            }
            for row in rows
        ]


def live_projects(tables):
    return {
        project["id"]: project
        for project in tables["projects_project"].values()
        if is_live(project) and is_live(tables["organisations_organisation"].get(project["organisation_id"]))
    }


def segments_by_project(tables, projects, raised):
    rows = RuleRows(tables)
    segments = defaultdict(list)
    for segment in sorted(tables["segments_segment"].values(), key=lambda segment: segment["id"]):
        if segment["version_of_id"] != segment["id"] or not is_live(segment) or segment["project_id"] not in projects:
            continue
        try:
            if segment["rules_data"] is not None:
                rules = rules_from_json(segment["rules_data"])
            else:
                rules = rows.rules(rows.by_segment[segment["id"]])
        except (BrokenRules, KeyError, TypeError, AttributeError) as error:
            raised[segment["id"]] = repr(error)
            continue
        context = {"key": str(segment["id"]), "name": segment["name"], "rules": rules}
        segments[segment["project_id"]].append((segment["id"], context))
    return segments


def identity_context(environment, identity, traits):
    composite = f"{environment['api_key']}_{identity['identifier']}"
    return {
        "environment": {"key": environment["api_key"], "name": environment["name"] or ""},
        "identity": {
            "identifier": identity["identifier"],
            "key": composite if environment["use_mv_v2_evaluation"] else str(identity["id"]),
            "traits": {**traits, **(identity["system_traits"] or {})},
        },
    }


def main():
    tables = read_tables(sys.stdin)
    projects = live_projects(tables)
    raised = {}
    segments = segments_by_project(tables, projects, raised)
    traits = defaultdict(dict)
    for row in tables["environments_trait"].values():
        traits[row["identity_id"]][row["trait_key"]] = trait_value(row)
    identities = defaultdict(list)
    for row in tables["environments_identity"].values():
        identities[row["environment_id"]].append(row)

    members = {}
    for environment in tables["environments_environment"].values():
        project = projects.get(environment["project_id"])
        if project is None or not is_live(environment) or project["enable_dynamo_db"]:
            continue
        for segment, _ in segments[project["id"]]:
            members[segment, environment["id"]] = []
        for identity in identities[environment["id"]]:
            context = identity_context(environment, identity, traits[identity["id"]])
            for segment, segment_context in segments[project["id"]]:
                if segment in raised:
                    continue
                try:
                    if is_context_in_segment(context, segment_context):
                        members[segment, environment["id"]].append(identity["id"])
                except Exception as error:  # whatever it raises is what is to be known
                    raised[segment] = repr(error)

    for segment, reason in sorted(raised.items()):
        print(json.dumps({"raised": segment, "reason": reason}))
    for (segment, environment), ids in sorted(members.items()):
        if segment not in raised:
            print(json.dumps({"segment": segment, "environment": environment, "members": sorted(ids)}))


main()
