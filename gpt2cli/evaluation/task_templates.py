"""Templates of task files: Jinja2 as lm-evaluation-harness sets it up, in a sandbox that meters what a template does.

What is left out is what no prompt needs and a hostile file would use: macros, blocks, includes, methods and filters
that pad or format to any width, attributes with underscores, and everything that changes a record.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jinja2
import jinja2.filters
import jinja2.nodes as nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gpt2cli.errors import BadInput
from gpt2cli.evaluation.bounded_patterns import replace_pattern
from gpt2cli.evaluation.task_meter import MAX_WEIGHT, Meter, TooMuch

MAX_TEMPLATE = 64 << 10
"""Most characters of a template."""
_STATEMENTS = (nodes.Template, nodes.Output, nodes.For, nodes.If, nodes.Assign, nodes.Expr, nodes.Helper)
_FILTERS = ("abs", "capitalize", "count", "default", "d", "first", "float", "int", "items", "join", "last", "length",
            "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "select", "selectattr",
            "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper", "wordcount")
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(("capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit",
                    "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition",
                    "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip",
                    "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper")),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
}


class Templates:
    """Compiled templates of one task."""

    def __init__(self) -> None:
        self._meter = Meter()
        self._environment = _Environment(self._meter)
        self._compiled: dict[str, jinja2.Template] = {}

    def render(self, template: str, fields: Mapping[str, Any], where: str) -> str:
        """Return `template` filled from a record's fields; `where` names the record in messages.

        Raises BadInput for a template that is wrong, names a field that is not there, or outgrows its bounds.
        """
        self._meter.start()
        try:
            text = self._fill(template, fields)
        except BadInput as error:
            raise BadInput(f"{where}: the template {_shown(template)} {error}") from None
        except jinja2.UndefinedError as error:
            raise BadInput(f"{where}: the template {_shown(template)} asks for what is not there: {error}") from None
        except jinja2.TemplateError as error:
            raise BadInput(f"{where}: the template {_shown(template)} is wrong: {error}") from None
        except (RecursionError, MemoryError, SyntaxError):
            raise BadInput(f"{where}: the template {_shown(template)} is nested too deeply") from None
        except NameError:  # compiled, an infinity is a name that nobody gave
            raise BadInput(f"{where}: the template {_shown(template)} holds a number beyond all bounds") from None
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise BadInput(f"{where}: the template {_shown(template)} fails: {type(error).__name__}, {error}") from None
        return text

    def _fill(self, template: str, fields: Mapping[str, Any]) -> str:
        compiled = self._compiled.get(template)
        if compiled is None:
            if len(template) > MAX_TEMPLATE:
                raise TooMuch(f"is longer than {MAX_TEMPLATE:,} characters")
            compiled = self._compiled[template] = self._environment.from_string(template)
        parts, length = [], 0
        for part in compiled.generate(**fields):
            parts.append(part)
            length += len(part)
            if length > MAX_WEIGHT:
                raise TooMuch(f"makes more than {MAX_WEIGHT:,} characters")
        return "".join(parts)


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox; every operation that makes a value weighs it."""

    intercepted_binops = frozenset(("+", "*", "%", "**"))

    def __init__(self, meter: Meter) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, optimized=False,
                         finalize=self._printable, cache_size=0)
        self._meter = meter
        known = {name: jinja2.filters.FILTERS[name] for name in _FILTERS}
        known["join"], known["replace"], known["regex_replace"] = _join, self._replace, self._regex_replace
        self.filters = {name: self._metered(function) for name, function in known.items()}
        self.filters["(turns)"] = meter.turns
        self.filters["(weighed)"] = self._weighed
        self.filters["(concat)"] = self._concat
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace")}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _check_statements(tree)
        return _meter_nodes(tree)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute left + right, left * right, left % right or left ** right, if the result stays small."""
        if operator == "%" and isinstance(left, (str, bytes)):
            raise jinja2.TemplateRuntimeError("% on text is not supported; join the parts with ~")
        if operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(value, (str, bytes, list, tuple)) and isinstance(times, int):
                    self._meter.spend((self._meter.weigh(value) + 1) * max(0, times))
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            self._meter.spend(left.bit_length() * max(0, right))
        self._meter.weigh(left, right)
        return self._weighed(super().call_binop(context, operator, left, right))

    def call(self, context: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        """Call a method of text, a list or a mapping that is on the list, or range, dict or namespace."""
        owner = getattr(function, "__self__", None)
        self._meter.weigh(owner, arguments, named)
        name = getattr(function, "__name__", "")
        of_loop = isinstance(owner, LoopContext) and name in ("cycle", "changed")
        if not of_loop and function not in self.globals.values() and name not in _METHODS.get(type(owner), ()):
            raise SecurityError(f"{name or type(function).__name__}() is not available")
        if isinstance(owner, str) and name == "replace":
            return self._weighed(self._replace(owner, *arguments, **named))
        if isinstance(owner, str) and name == "join":
            return self._weighed(_join(arguments[0] if arguments else (), owner))
        return self._weighed(super().call(context, function, *arguments, **named))

    def _weighed(self, value: Any) -> Any:
        self._meter.weigh(value)
        return value

    def _printable(self, value: Any) -> Any:
        if not isinstance(value, (str, int, float, list, tuple, Mapping, type(None), jinja2.Undefined)):
            raise jinja2.TemplateRuntimeError(f"it prints a {type(value).__name__}; |list or a call may be missing")
        return self._weighed(value)

    def _metered(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def metered(*arguments: Any, **named: Any) -> Any:
            self._meter.weigh(*(a for a in arguments if not isinstance(a, _Environment)), *named.values())
            return self._weighed(function(*arguments, **named))

        return metered

    def _concat(self, parts: list[Any]) -> str:
        self._meter.weigh(parts)
        return "".join(str(part) for part in parts)

    def _replace(self, text: str, old: str, new: str, count: int = -1) -> str:
        text, old, new = str(text), str(old), str(new)
        found = text.count(old)
        self._meter.spend(len(text) + (found if count is None or count < 0 else min(found, count)) * len(new))
        return text.replace(old, new, -1 if count is None else count)

    def _regex_replace(self, text: str, pattern: str, new: str, count: int = 0) -> str:
        return replace_pattern(str(text), str(pattern), str(new), count, self._meter.spend)


def _join(values: Any, separator: str = "", attribute: str | int | None = None) -> str:
    if attribute is not None:
        raise jinja2.TemplateRuntimeError("join(attribute=...) is not supported; write map(attribute=...) before it")
    return str(separator).join(str(value) for value in values)


def _check_statements(tree: nodes.Template) -> None:
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _STATEMENTS):
            raise jinja2.TemplateSyntaxError(f"{type(node).__name__.lower()} is not supported", node.lineno)
        if isinstance(node, nodes.For) and node.recursive:
            raise jinja2.TemplateSyntaxError("a recursive loop is not supported", node.lineno)


def _meter_nodes(tree: nodes.Template) -> nodes.Template:
    """Let every loop count its turns, and weigh every text and list that is put together."""
    pending: list[nodes.Node] = [tree]
    while pending:
        parent = pending.pop()
        for name, value in list(parent.iter_fields()):
            if isinstance(value, list):
                pending.extend(item for item in value if isinstance(item, nodes.Node))
                setattr(parent, name, [_metered_node(parent, name, item) for item in value])
            elif isinstance(value, nodes.Node):
                pending.append(value)
                setattr(parent, name, _metered_node(parent, name, value))
    return tree


def _metered_node(parent: nodes.Node, name: str, node: Any) -> Any:
    if isinstance(parent, nodes.For) and name == "iter":
        node = _through("(turns)", node)
    elif isinstance(node, nodes.Concat):
        node = _through("(concat)", nodes.List(node.nodes, lineno=node.lineno))
    elif isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        node = _through("(weighed)", node)
    return node


def _through(name: str, node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _shown(template: str) -> str:
    return repr(template if len(template) <= 60 else template[:57] + "...")
