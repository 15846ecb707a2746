"""The rules: what XGrammar 0.2.8 does not enforce, or enforces differently, at one place of a schema.

Goes in: one `Node` that the engine enters. Comes out: findings. Each rule is a function of its own, listed in `RULES`; found by reading
how the engine takes schemas apart and confirmed by feeding it invalid instances. Knows nothing of the walk over the schema.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import regex

from backend.structured import lint_patterns as patterns
from backend.structured.lint_overlap import CANNOT_JUDGE, overlapping
from backend.structured.lint_reading import (
    ALL_TYPES,
    ANNOTATIONS,
    DECIDERS,
    TAKEN,
    Node,
    bare,
    extra_schema,
    finite_values,
    has_open_names,
    is_free,
    leaves,
    types,
)
from backend.structured.validate import PATTERN_SECONDS

NOT_ENFORCED, DIFFERENT = "not enforced", "enforced differently"
TOO_STRICT, UNFINISHABLE, REFUSED = "too strict", "may be unfinishable", "refused"

# What each keyword speaks about; keywords that are not here speak about any value.
SUBJECTS = {
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), {"integer", "number"}),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), {"string"}),
    **dict.fromkeys(("items", "prefixItems", "contains", "uniqueItems", "minItems", "maxItems", "unevaluatedItems"), {"array"}),
    **dict.fromkeys(("properties", "required", "patternProperties", "additionalProperties", "propertyNames", "minProperties",
                     "maxProperties", "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedProperties"), {"object"}),
}  # fmt: skip
ANY_VALUE = frozenset({"type", "enum", "const", "not", "if", "anyOf", "oneOf", "allOf", "$dynamicRef", "$recursiveRef"})
# The shortest and the longest text of the formats that the engine has a grammar for.
FORMATS = {
    "email": (3, math.inf), "date": (10, 10), "time": (9, math.inf), "date-time": (20, math.inf), "duration": (3, math.inf),
    "ipv4": (7, 15), "ipv6": (2, 45), "hostname": (1, math.inf), "uuid": (36, 36), "uri": (2, math.inf),
    "uri-reference": (0, math.inf), "uri-template": (0, math.inf), "json-pointer": (0, math.inf), "relative-json-pointer": (1, math.inf),
}  # fmt: skip
INEXACT = {
    "date": "a day that its month does not have (2021-02-30) can come",
    "date-time": "a day that its month does not have (2021-02-30) or a second 60 can come",
    "time": "a second 60 or an offset that validators refuse can come",
    "ipv4": "leading zeros (010.0.0.1) can come",
    "ipv6": "an embedded IPv4 address with leading zeros can come",
    "hostname": "labels longer than 63 letters can come",
    "uri-template": "a prefix of four digits or an operator that validators refuse can come",
    "json-pointer": "a quote can come unescaped, which is not JSON",
    "relative-json-pointer": "a quote can come unescaped, which is not JSON",
}
MULTIPLE_MAX, MULTIPLE_RANGE = 1024, 10_000
DECIMALS = 6


@dataclass(frozen=True)
class LintFinding:
    """`path` is the JSON path of the schema at fault, `keyword` the one in it, `message` a sentence in plain words."""

    path: str
    keyword: str
    effect: str
    message: str


def _find(node: Node, keyword: str, effect: str, message: str) -> LintFinding:
    return LintFinding(node.where, keyword, effect, message)


def dropped(node: Node) -> Iterator[LintFinding]:
    """Keywords that the branch taken does not look at, where they could have bitten."""
    branch, schema = node.branch, node.schema
    if branch in ("const", "enum", "types") or (branch == "$ref" and not node.world.siblings_of_ref_count):
        return
    written = types(node)
    for keyword in schema:
        taken = keyword == branch or keyword in TAKEN.get(branch, ())
        if not taken and node.world.asserts(keyword) and _bites(node, keyword, written):
            beside = f"beside {branch}" if branch in DECIDERS else "without a type" if branch == "any" else f"in a schema of type {branch}"
            yield _find(node, keyword, NOT_ENFORCED, f"{keyword} {beside} is ignored.")


def _bites(node: Node, keyword: str, written: frozenset[str]) -> bool:
    """Whether ignoring `keyword` can let something invalid through, given the types that are written."""
    value = node.schema[keyword]
    subject = SUBJECTS.get(keyword)
    if subject is None and keyword not in ANY_VALUE:
        return False
    if subject is not None and not subject & written:
        return False
    if keyword == "type":
        allowed = {value} if isinstance(value, str) else set(node.names("type")) or ALL_TYPES
        return bool(written - allowed - ({"integer"} if "number" in allowed else set()))
    return not _is_idle(node, keyword, value) and not _is_implied(node, keyword)


def _is_implied(node: Node, keyword: str) -> bool:
    """Whether every object that the options write keeps to `keyword` beside them anyway."""
    if keyword not in ("required", "properties", "additionalProperties") or node.branch not in DECIDERS:
        return False
    objects = [leaf for leaf in leaves(node) or [None] if leaf is None or leaf.branch == "object"]
    return all(leaf is not None and not has_open_names(leaf) and _keeps(leaf, node, keyword) for leaf in objects)


def _keeps(leaf: Node, node: Node, keyword: str) -> bool:
    declared, beside = leaf.get("properties", dict), node.get("properties", dict)
    if keyword == "required":
        return set(node.names("required")) <= set(leaf.names("required")) & declared.keys()
    if keyword == "properties":
        return all(is_free(schema) or bare(schema) == bare(declared[name]) for name, schema in beside.items() if name in declared)
    return declared.keys() <= beside.keys()


def _is_idle(node: Node, keyword: str, value: Any) -> bool:
    """Whether `keyword` demands nothing: free schemas, zero minima, a uniqueItems that can't be broken."""
    if keyword in ("properties", "patternProperties", "dependentSchemas") and isinstance(value, dict):
        return all(map(is_free, value.values()))
    if keyword in ("dependentRequired", "dependencies") and isinstance(value, dict):
        return all(_is_met(node, name, needs) for name, needs in value.items())
    if keyword in ("anyOf", "allOf", "oneOf") and isinstance(value, list):
        return keyword != "oneOf" and all(map(is_free, value))
    if keyword == "not":
        return value is False
    if keyword == "if":
        return is_free(node.schema.get("then", True)) and is_free(node.schema.get("else", True))
    if keyword == "format":
        return not isinstance(value, str) or (value not in node.world.formats() and value not in FORMATS)
    if keyword == "uniqueItems":
        return value is not True or not _can_repeat(node)
    if keyword == "contains":
        return node.schema.get("minContains") == 0 and "maxContains" not in node.schema
    return is_free(value) or (not isinstance(value, bool) and value in (0, []) and keyword.startswith(("min", "required")))


def _is_met(node: Node, name: str, needs: Any) -> bool:
    """Whether the names that `name` calls for are always there, or `name` itself can't be written."""
    if node.branch == "object" and name not in node.get("properties", dict) and not has_open_names(node):
        return True
    return isinstance(needs, list) and {n for n in needs if isinstance(n, str)} <= set(node.names("required")) & set(node.get("properties", dict))


def _can_repeat(node: Node) -> bool:
    """Whether the grammar of an array can write two equal items."""
    if node.branch != "array":
        return True
    high, prefix = node.get("maxItems", int), len(node.get("prefixItems", list))
    extra = node.schema.get("items", node.schema.get("unevaluatedItems", False))
    return (prefix if extra is False else math.inf if high is None else high) > 1


def finite(node: Node) -> Iterator[LintFinding]:
    """A value of `const` or `enum` that breaks what stands beside it."""
    if node.branch not in ("const", "enum"):
        return
    beside = {key: value for key, value in node.schema.items() if key != node.branch}
    try:
        wrong = [value for value in finite_values(node.schema) if not node.world.accepts(beside, value)]
    except CANNOT_JUDGE:
        yield _find(node, node.branch, NOT_ENFORCED, f"What stands beside {node.branch} is ignored and can't be checked beforehand.")
        return
    if wrong:
        yield _find(node, node.branch, NOT_ENFORCED, f"What stands beside {node.branch} is ignored, and {wrong[0]!r} breaks it.")


def reference(node: Node) -> Iterator[LintFinding]:
    if node.branch != "$ref":
        return
    uri = node.schema["$ref"]
    if uri != "#" and not str(uri).startswith("#/"):
        yield _find(node, "$ref", NOT_ENFORCED, f"{uri!r} is not a path inside this schema: any JSON is let through.")
    elif node.world.resolve(uri) is None:
        yield _find(node, "$ref", REFUSED, f"{uri!r} leads nowhere; XGrammar refuses the schema.")


def nested_id(node: Node) -> Iterator[LintFinding]:
    """A schema with an address of its own moves the base of the references below it; the engine does not notice."""
    keyword = next((k for k in ("$id", "id") if node.world.asserts("$ref") and isinstance(node.schema.get(k), str)), None)
    if keyword and node.path and not node.schema[keyword].startswith("#") and "$ref" in repr(node.schema):
        yield _find(node, keyword, DIFFERENT, "References below are looked up in the whole schema, not in the part with this address.")


def all_of(node: Node) -> Iterator[LintFinding]:
    if node.branch == "allOf" and len(node.get("allOf", list)) != 1 and not all(map(is_free, node.get("allOf", list))):
        yield _find(node, "allOf", NOT_ENFORCED, "allOf with two or more parts lets any JSON through.")


def one_of(node: Node) -> Iterator[LintFinding]:
    if node.branch != "oneOf":
        return
    pair = overlapping(node)
    if pair:
        first, second = pair
        message = f"Treated as anyOf, and the same value may fit option {first} and option {second}."
        yield _find(node, "oneOf", DIFFERENT, message)


def empty_any_of(node: Node) -> Iterator[LintFinding]:
    if (node.branch == "anyOf" and not node.get("anyOf", list)) or node.schema.get("type") == []:
        yield _find(node, node.branch, DIFFERENT, "An empty list lets the empty text through.")


def multiple_of(node: Node) -> Iterator[LintFinding]:
    step = node.schema.get("multipleOf")
    if isinstance(step, bool) or not isinstance(step, (int, float)) or step <= 0 or node.branch not in ("integer", "number"):
        return
    if node.branch == "number":
        yield _find(node, "multipleOf", NOT_ENFORCED, "multipleOf of a number is ignored (it is enforced for integers).")
    elif not (1 / step).is_integer() and not _keeps_multiple(node, step):
        why = f"is only enforced up to {MULTIPLE_MAX}, and with bounds only between two that are at most {MULTIPLE_RANGE:,} apart"
        yield _find(node, "multipleOf", NOT_ENFORCED, f"multipleOf of an integer {why}.")


def _keeps_multiple(node: Node, step: float) -> bool:
    if not float(step).is_integer() or step > MULTIPLE_MAX:
        return False
    lows = [v for k in ("minimum", "exclusiveMinimum") if (v := node.get(k, (int, float))) is not None]
    highs = [v for k in ("maximum", "exclusiveMaximum") if (v := node.get(k, (int, float))) is not None]
    if not lows and not highs:
        return True
    return bool(lows and highs) and min(highs) - max(lows) < MULTIPLE_RANGE


def narrow_range(node: Node) -> Iterator[LintFinding]:
    """Between the bounds lies no number of six decimals: the engine then writes nothing at all."""
    if node.branch != "number":
        return
    step = 10**DECIMALS
    lows = [math.ceil(v * step) for k in ("minimum", "exclusiveMinimum") if (v := _bound(node, k)) is not None]
    highs = [math.floor(v * step) for k in ("maximum", "exclusiveMaximum") if (v := _bound(node, k)) is not None]
    if lows and highs and max(lows) + 1 >= min(highs):
        yield _find(node, "minimum", DIFFERENT, f"Hardly a number of {DECIMALS} decimals lies between the bounds; nothing may be written.")


def _bound(node: Node, keyword: str) -> float | None:
    value = node.get(keyword, (int, float))
    return value if value is not None and abs(value) < 1e15 else None


def formats(node: Node) -> Iterator[LintFinding]:
    name = node.schema.get("format")
    if node.branch != "string" or not isinstance(name, str):
        return
    if name not in FORMATS:
        if name in node.world.formats():
            yield _find(node, "format", NOT_ENFORCED, f"The format {name!r} is unknown to XGrammar.")
        return
    if name in INEXACT:
        yield _find(node, "format", DIFFERENT, f"{name}: {INEXACT[name]}.")
    if isinstance(node.schema.get("pattern"), str):
        yield _find(node, "pattern", NOT_ENFORCED, f"pattern beside format {name!r} is ignored.")
    yield from _lengths(node, FORMATS[name], f"format {name!r}")


def _lengths(node: Node, width: tuple[float, float], beside: str) -> Iterator[LintFinding]:
    low, high = node.get("minLength", int) or 0, node.get("maxLength", int)
    if low > width[0]:
        yield _find(node, "minLength", NOT_ENFORCED, f"minLength beside {beside} is ignored.")
    if high is not None and high < width[1]:
        yield _find(node, "maxLength", NOT_ENFORCED, f"maxLength beside {beside} is ignored.")


def pattern(node: Node) -> Iterator[LintFinding]:
    text = node.schema.get("pattern")
    if node.branch != "string" or not isinstance(text, str) or str(node.schema.get("format")) in FORMATS:
        return
    for why in patterns.traps(text):
        yield _find(node, "pattern", DIFFERENT, f"In {text!r}, {why}.")
    if not patterns.is_whole(text):
        yield _find(node, "pattern", TOO_STRICT, f"{text!r} must match the whole string, not a part of it.")
    yield from _lengths(node, patterns.width(text), "pattern")


def required(node: Node) -> Iterator[LintFinding]:
    if node.branch != "object":
        return
    missing = [n for n in node.names("required") if n not in node.get("properties", dict)]
    if missing:
        yield _find(node, "required", NOT_ENFORCED, f"required names {missing[0]!r}, which is not among the properties.")


def name_patterns(node: Node) -> Iterator[LintFinding]:
    """patternProperties: traps in the pattern, names that two rules claim, and open names beside them."""
    named = node.get("patternProperties", dict)
    if node.branch != "object" or not named:
        return
    for text in named:
        for why in patterns.traps(text):
            yield _find(node, "patternProperties", DIFFERENT, f"In {text!r}, {why}.")
    declared = node.get("properties", dict)
    claimed = [(n, t) for n in declared for t in named if _matches(t, n) and bare(declared[n]) != bare(named[t])]
    if claimed:
        name, text = claimed[0]
        yield _find(node, "patternProperties", NOT_ENFORCED, f"{text!r} also speaks of the property {name!r}; one of the two is ignored.")
    if _clash(list(named.items())):
        yield _find(node, "patternProperties", NOT_ENFORCED, "A name may fit two patterns; only one of them is heeded.")
    if declared and extra_schema(node) is not None and not all(map(is_free, [*named.values(), *declared.values()])):
        yield _find(node, "additionalProperties", DIFFERENT, "An extra name may also fit a pattern or a declared property.")


def _matches(text: str, name: str) -> bool:
    try:
        return regex.search(text, name, timeout=PATTERN_SECONDS) is not None
    except (regex.error, TimeoutError):
        return True


def _clash(named: list[tuple[str, Any]]) -> bool:
    """Whether some name may fit two patterns that demand different things."""
    for index, (one, schema) in enumerate(named):
        for other, second in named[index + 1 :]:
            if bare(schema) != bare(second) and not _starts_apart(one, other):
                return True
    return False


def _starts_apart(one: str, other: str) -> bool:
    first, second = patterns.literal_prefix(one), patterns.literal_prefix(other)
    return bool(first) and bool(second) and not (first.startswith(second) or second.startswith(first))


def name_rules(node: Node) -> Iterator[LintFinding]:
    """propertyNames: ignored beside patternProperties, for declared names, and where no extra names are allowed."""
    rule = node.schema.get("propertyNames")
    if node.branch != "object" or not isinstance(rule, dict) or is_free(rule):
        return
    declared = node.get("properties", dict)
    if node.get("patternProperties", dict):
        yield _find(node, "propertyNames", NOT_ENFORCED, "propertyNames beside patternProperties is ignored.")
    elif not declared and extra_schema(node) is None and {"additionalProperties", "unevaluatedProperties"} & node.schema.keys():
        yield _find(node, "additionalProperties", NOT_ENFORCED, "Extra names are written although they are forbidden.")
    elif not types(node.child("propertyNames", key=True)) <= {"string"}:
        yield _find(node, "propertyNames", DIFFERENT, "Names that are not strings can come, which is not JSON.")
    yield from _declared_names(node, rule, declared)


def _declared_names(node: Node, rule: Any, declared: dict[str, Any]) -> Iterator[LintFinding]:
    try:
        fits = {name: node.world.accepts(rule, name) for name in declared}
    except CANNOT_JUDGE:
        fits = dict.fromkeys(declared, False)
    if not all(fits.values()):
        yield _find(node, "propertyNames", NOT_ENFORCED, "propertyNames is not applied to the declared properties.")
    if extra_schema(node) is not None and any(fit and not is_free(declared[name]) for name, fit in fits.items()):
        yield _find(node, "propertyNames", DIFFERENT, "A declared property may come again as an extra one, with any value.")


def name_count(node: Node) -> Iterator[LintFinding]:
    """minProperties counts a name that comes twice as two."""
    least = node.get("minProperties", int) or 0
    sure = set(node.names("required")) & set(node.get("properties", dict)) if node.branch == "object" else set()
    if node.branch == "object" and least > max(1, len(sure)) and has_open_names(node):
        yield _find(node, "minProperties", DIFFERENT, "An extra name may come twice and is then counted twice.")


def old_prefix(node: Node) -> Iterator[LintFinding]:
    if node.branch == "array" and "prefixItems" in node.schema and not node.world.asserts("prefixItems") and "items" in node.schema:
        yield _find(node, "items", DIFFERENT, "prefixItems is heeded although the draft named by $schema does not know it.")


def closed(node: Node) -> Iterator[LintFinding]:
    """Strict mode closes what does not say that it is open."""
    keywords = node.schema.keys() - ANNOTATIONS
    if node.schema.get("type") == "array" and node.branch == "array" and not {"items", "prefixItems", "unevaluatedItems"} & keywords:
        if keywords != {"type"}:
            yield _find(node, "items", TOO_STRICT, "Without items, only the empty array can come.")
    elif node.branch == "object" and "properties" not in keywords and not has_open_names(node):
        yield _find(node, "properties", TOO_STRICT, "Without properties, only the empty object can come.")


RULES: tuple[Callable[[Node], Iterator[LintFinding]], ...] = (
    dropped,
    finite,
    reference,
    nested_id,
    all_of,
    one_of,
    empty_any_of,
    multiple_of,
    narrow_range,
    formats,
    pattern,
    required,
    name_patterns,
    name_rules,
    name_count,
    old_prefix,
    closed,
)
