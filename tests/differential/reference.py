"""Asks the reference rules engine: one case as JSON on each line in, one answer on each line out.

A case is {"context": …, "segment": …} in the engine's own shape. The answer is T or F, or R and the type of the
exception where the engine raises. A context without identity.key gets it as the engine's own entry point gives it.

With --raw a line is read as Python reads it by default, and the answer is E where it can't be.
"""

import importlib.metadata
import json
import sys
import warnings

from flag_engine.segments.evaluator import get_enriched_context, is_context_in_segment

warnings.simplefilter("ignore")
# The cases of the harness hold ints that are longer than Python reads by default; the engine runs with the default.
DIGITS = sys.get_int_max_str_digits()
RAW = sys.argv[1:] == ["--raw"]


def read(line):
    try:
        return json.loads(line)
    except ValueError:
        if RAW:
            raise
        sys.set_int_max_str_digits(0)
        try:
            return json.loads(line)
        finally:
            sys.set_int_max_str_digits(DIGITS)


def answer(case):
    try:
        return "T" if is_context_in_segment(get_enriched_context(case["context"]), case["segment"]) else "F"
    except Exception as error:
        return "R " + type(error).__name__


def said(line):
    try:
        case = read(line)
    except (ValueError, RecursionError):
        if not RAW:
            raise
        return "E"
    return answer(case)


def main():
    if sys.argv[1:] == ["--version"]:
        print(importlib.metadata.version("flagsmith-flag-engine"))
        return
    answers = []
    # A blank line asks for the answers so far.
    for line in sys.stdin:
        if line != "\n":
            answers.append(said(line))
        else:
            sys.stdout.write("\n".join(answers) + "\n")
            sys.stdout.flush()
            answers.clear()


main()
