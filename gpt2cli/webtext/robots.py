"""robots.txt by RFC 9309, once per origin and day: 4xx means everything is allowed, 5xx or silence that nothing is.

Only the groups that speak to us or to everyone are kept; a hostile file of 20,000 agents and as many rules would cost
protego their product. What was read is saved in the crawl's state, so that memory holds only what is in use.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

from protego import Protego

MAX_ROBOTS = 500 * 1024
"""Bytes of a robots.txt that are read at least (RFC 9309, 2.5); ours reads no more."""
AGENT = "gpt2cli"
MAX_AGE_S = 86_400
"""Seconds that a robots.txt is good for (RFC 9309, 2.4)."""
_MEMORY = 48 << 20
_COST_PER_CHARACTER = 40  # a parsed rule of ten characters takes some 400 bytes
# RFC 9309 knows CR, LF and both; protego would part lines at everything that str.splitlines() takes for an end.
_NO_LINE_ENDS = MappingProxyType({ord("\r"): "\n", **{
    ord(end): quote(end) for end in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"}})
_AGENT_LINE = re.compile(r"[ \t]*user[- ]?agent[ \t]*[:\s][ \t]*(.*)", re.IGNORECASE)
# What ends a list of agents: any directive that is not of the whole site, with its colon or, if it is a rule, without.
_RULE_LINE = re.compile(r"(?!site-?maps?\b|host\b)([^:]*:|(dis)?allow\s|crawl[- ]delay\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rules:
    """What an origin's robots.txt asks of us; `refusal` is an outcome instead, when there is none to be had."""

    parsed: Protego | None = None
    refusal: str | None = None
    delay_s: float | None = None

    def refuses(self, url: str) -> str | None:
        """Return None when `url` may be fetched, else the outcome."""
        if self.parsed is None:
            return self.refusal
        return None if self.parsed.can_fetch(url, AGENT) else "robots_denied"


ALLOW_ALL = Rules()


def parse_rules(text: str) -> Rules:
    """Return the rules of a robots.txt."""
    if not text:
        return ALLOW_ALL
    parsed = Protego.parse(text)
    return Rules(parsed, None, parsed.crawl_delay(AGENT))


def relevant_lines(body: bytes | bytearray) -> str:
    """Return the lines of a robots.txt that protego needs to judge for us; empty: all is allowed.

    Comments, sitemaps, and groups that speak to other agents are left out.
    """
    kept: list[str] = []
    ours: dict[str, None] = {}
    among_agents = False
    whole = body[:MAX_ROBOTS].decode("utf-8", "replace").removeprefix("\ufeff")
    for line in whole.translate(_NO_LINE_ENDS).split("\n"):
        text = line.partition("#")[0].strip()
        agent = _AGENT_LINE.match(text)
        if agent is not None:
            if not among_agents:
                ours, among_agents = {}, True
            name = agent[1].strip().lower()
            if name and name.replace("*", "") in AGENT:
                ours[name] = None
        elif _RULE_LINE.match(text):
            if among_agents:
                kept.extend(f"User-agent: {name}" for name in ours)
                among_agents = False
            if ours:
                kept.append(text)
    if among_agents:  # a group without rules allows all
        kept.extend(f"User-agent: {name}" for name in ours)
    return "\n".join(kept)


class RulesCache:
    """Parsed rules by origin, the least recently used dropped when they take more than some 48 MB."""

    def __init__(self, memory: int = _MEMORY) -> None:
        self._memory = memory
        self._cost = 0
        self._rules: OrderedDict[str, tuple[Rules, int, float]] = OrderedDict()

    def get(self, origin: str, now: float) -> Rules | None:
        """Return what is known of an origin; None when it was dropped, is too old (seconds) or never known."""
        found = self._rules.get(origin)
        if found is None or found[2] < now:
            return None
        self._rules.move_to_end(origin)
        return found[0]

    def put(self, origin: str, rules: Rules, size: int, until: float) -> None:
        """Keep rules of `size` characters of text until then (seconds)."""
        _, old, _ = self._rules.pop(origin, (None, 0, 0.0))
        cost = 500 + size * _COST_PER_CHARACTER
        self._rules[origin] = (rules, cost, until)
        self._cost += cost - old
        while self._cost > self._memory and len(self._rules) > 1:
            self._cost -= self._rules.popitem(last=False)[1][1]
