"""Prints what the reference's Python knows of every character, as one JSON object.

word, digit, space: the characters that re's \\w, \\d and \\s accept. cased: [character, lower case] where re folds.
reprs: [text, repr(text)], all printable and unprintable characters in runs. names: the characters that may stand in
the middle of a group's name.
"""

import _sre
import json
import re

CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
RUN = 4096


def matching(pattern):
    compiled = re.compile(pattern)
    return "".join(c for c in CHARACTERS if compiled.match(c))


def runs():
    for start in range(0, len(CHARACTERS), RUN):
        text = "".join(CHARACTERS[start : start + RUN])
        yield [text, repr(text)]


print(
    json.dumps(
        {
            "word": matching(r"\w"),
            "digit": matching(r"\d"),
            "space": matching(r"\s"),
            "cased": [[c, chr(_sre.unicode_tolower(ord(c)))] for c in CHARACTERS if _sre.unicode_iscased(ord(c))],
            "reprs": list(runs()),
            "names": "".join(c for c in CHARACTERS if ("a" + c).isidentifier()),
        }
    )
)
