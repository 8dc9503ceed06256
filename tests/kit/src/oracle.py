"""The independent oracle: who is in which segment, by the platform's reference engine over the final rows.

stdin:  JSON lines {"table": name, "row": {column: value}}, as Postgres' row_to_json shows them, and {"item": item} for
        each identity at the edge, in DynamoDB's JSON.
stdout: JSON lines {"segment": id, "environment": id, "members": [identity id, ...]} for every live segment in every
        live environment of its project whose identities live in Postgres, {"segment", "environment", "keys": [composite
        key, ...]} where they live at the edge, {"raised": segment id, "reason": text} for every segment on which the
        engine raised, or whose rules it can't be given, and {"unread": composite key, "reason": text} for every item
        that can't be read.

With the argument `items`, stdin holds bare items, a line each, and stdout says how each is read:
{"environment_key", "identifier", "identity_key", "traits"} with the system traits merged in, or {"unread": …}.

Rows and items are mapped to contexts as the platform's core does. It shares no code with Rollcall.
"""

import json
import re
import sys
import warnings
from collections import defaultdict
from decimal import Context, Decimal

from flag_engine.context.mappers import map_any_value_to_context_value
from flag_engine.segments.evaluator import is_context_in_segment

warnings.simplefilter("ignore")
sys.setrecursionlimit(20_000)

COLUMN_BY_TYPE = {
    "int": "integer_value",
    "unicode": "string_value",
    "bool": "boolean_value",
    "float": "float_value",
}


NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Wide enough that nothing is rounded before DynamoDB's limits are asked after.
EXACT = Context(prec=1_000)
# What the platform sets as boto3's DYNAMODB_CONTEXT.
AS_READ = Context(prec=100)


class BrokenRules(Exception):
    pass


class Unreadable(Exception):
    pass


def read_input(lines):
    tables, items = defaultdict(dict), []
    for line in lines:
        record = json.loads(line)
        if "item" in record:
            items.append(record["item"])
        else:
            tables[record["table"]][record["row"]["id"]] = record["row"]
    return tables, items


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


def attribute(item, name, *types):
    """The content of an attribute of one of these types; of none where it is absent and None is among them."""
    if name not in item:
        if None in types:
            return None
        raise Unreadable(f"{name} is missing")
    [(kind, content)] = item[name].items()
    if kind not in types:
        raise Unreadable(f"{name} is of type {kind}")
    return None if kind == "NULL" else content


def number(text):
    """A number as DynamoDB gives it back, read as the platform reads it."""
    if not NUMBER.fullmatch(text):
        raise Unreadable(f"{text} is no number")
    stored = EXACT.normalize(Decimal(text))
    if not stored:
        return 0
    if len(stored.as_tuple().digits) > 38 or not -130 <= stored.adjusted() <= 125:
        raise Unreadable(f"{text} is beyond DynamoDB's limits")
    return map_any_value_to_context_value(AS_READ.create_decimal(format(stored, "f")))


def item_value(item, name):
    content = attribute(item, name, "S", "N", "BOOL", "NULL")
    return number(content) if "N" in item[name] else content


def item_identity(item):
    """An identity at the edge, as the engine is given it; a system trait wins over a trait of the same key."""
    environment_key = attribute(item, "environment_api_key", "S")
    identifier = attribute(item, "identifier", "S")
    attribute(item, "composite_key", "S")
    entries = [attribute({"entry": entry}, "entry", "M") for entry in attribute(item, "identity_traits", "L", None) or []]
    traits = {attribute(entry, "trait_key", "S"): item_value(entry, "trait_value") for entry in entries}
    system_traits = attribute(item, "system_traits", "M", "NULL", None) or {}
    traits.update({key: item_value(system_traits, key) for key in system_traits})
    return environment_key, {
        "identifier": identifier,
        "key": f"{environment_key}_{identifier}",
        "traits": traits,
    }


def unread(item, error):
    key = item.get("composite_key", {}).get("S", "")
    return json.dumps({"unread": key, "reason": repr(error)})


def show_items(lines):
    def shown(value):
        # JSON has no whole numbers beyond 64 bits that every reader keeps.
        is_large = type(value) is int and not -(2**63) <= value < 2**63
        return {"$int": str(value)} if is_large else value

    for line in lines:
        item = json.loads(line)
        try:
            environment_key, identity = item_identity(item)
        except Unreadable as error:
            print(unread(item, error))
            continue
        traits = {key: shown(value) for key, value in identity["traits"].items()}
        print(
            json.dumps(
                {
                    "environment_key": environment_key,
                    "identifier": identity["identifier"],
                    "identity_key": identity["key"],
                    "traits": traits,
                }
            )
        )


def identities_of_items(items):
    """By environment key: composite key and what the engine is given."""
    identities = defaultdict(list)
    for item in items:
        try:
            environment_key, identity = item_identity(item)
        except Unreadable as error:
            print(unread(item, error))
            continue
        identities[environment_key].append((item["composite_key"]["S"], identity))
    return identities


def judge(contexts, segments, raised):
    """The members of each segment, by what `contexts` calls them."""
    members = {segment: [] for segment, _ in segments}
    for name, context in contexts:
        for segment, segment_context in segments:
            if segment in raised:
                continue
            try:
                if is_context_in_segment(context, segment_context):
                    members[segment].append(name)
            except Exception as error:  # whatever it raises is what is to be known
                raised[segment] = repr(error)
    return members


def main():
    tables, items = read_input(sys.stdin)
    at_edge = identities_of_items(items)
    projects = live_projects(tables)
    raised = {}
    segments = segments_by_project(tables, projects, raised)
    traits = defaultdict(dict)
    for row in tables["environments_trait"].values():
        traits[row["identity_id"]][row["trait_key"]] = trait_value(row)
    identities = defaultdict(list)
    for row in tables["environments_identity"].values():
        identities[row["environment_id"]].append(row)

    members = []
    for environment in tables["environments_environment"].values():
        project = projects.get(environment["project_id"])
        if project is None or not is_live(environment):
            continue
        if project["enable_dynamo_db"]:
            called = "keys"
            names = {"key": environment["api_key"], "name": environment["name"] or ""}
            contexts = [
                (key, {"environment": names, "identity": identity})
                for key, identity in at_edge[environment["api_key"]]
            ]
        else:
            called = "members"
            contexts = [
                (identity["id"], identity_context(environment, identity, traits[identity["id"]]))
                for identity in identities[environment["id"]]
            ]
        for segment, found in judge(contexts, segments[project["id"]], raised).items():
            members.append({"segment": segment, "environment": environment["id"], called: sorted(found)})

    for segment, reason in sorted(raised.items()):
        print(json.dumps({"raised": segment, "reason": reason}))
    for line in members:
        if line["segment"] not in raised:
            print(json.dumps(line))


if sys.argv[1:] == ["items"]:
    show_items(sys.stdin)
else:
    main()
