"""XPath expressions whose tests of an attribute by a regular expression are remembered.

Extractors find a page's parts by patterns over class and id. lxml's re:test() makes a node set and an object for each
attribute, calls back into Python for elements that have none, and searches again for a value that it has just seen on
the element before. Here an element without the attribute costs no call, and a value one search: the nodes that are
found are the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lxml.etree import XPath

_EXSLT = "http://exslt.org/regular-expressions"
_OURS = "urn:gpt2cli:attribute-tests"
_TEST = re.compile(r"re:test\((@[\w-]+(?:\|@[\w-]+)*), *'([^']*)'(?:, *'(i)')?\)")
_MAX_REMEMBERED = 2048
"""Values of an attribute that one pattern's answers are kept for; then they are forgotten."""
_MAX_VALUE = 512
"""Characters of a value that is worth remembering; a page may give its elements classes of any length."""


def with_remembered_tests(expression: XPath) -> XPath:
    """Return an expression that finds the same nodes; the given one itself where there is nothing to gain.

    expression: one whose prefix "re" is EXSLT's regular expressions.
    """
    found: dict[tuple[str, str], Callable[[object, str], bool]] = {}
    names: dict[tuple[str, str], str] = {}

    def ours(match: re.Match[str]) -> str:
        attribute, pattern, ignore_case = match.group(1), match.group(2), match.group(3)
        key = (pattern, ignore_case or "")
        if key not in names:
            compiled = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
            if compiled.search(""):  # then an element without the attribute passes the test
                return match.group()
            names[key] = f"t{len(names)}"
            found[_OURS, names[key]] = _remembered(compiled)
        present = attribute.replace("|", " or ")
        return f"(({present}) and a:{names[key]}(string({attribute})))"

    path = _TEST.sub(ours, expression.path)
    if not found or "re:" in path:
        return expression
    return XPath(path, namespaces={"a": _OURS}, extensions=found, regexp=False)


def _remembered(pattern: re.Pattern[str]) -> Callable[[object, str], bool]:
    answers: dict[str, bool] = {}

    def test(_context: object, value: str) -> bool:
        answer = answers.get(value)
        if answer is None:
            answer = pattern.search(value) is not None
            if len(value) <= _MAX_VALUE:
                if len(answers) >= _MAX_REMEMBERED:
                    answers.clear()
                answers[value] = answer
        return answer

    return test
