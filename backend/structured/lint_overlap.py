"""Can what the engine writes for one option of a `oneOf` also pass for another one?

Goes in: two options. Comes out: whether they are surely apart. The engine treats `oneOf` as `anyOf`, so an output that two options accept
is invalid; its objects are closed (only declared names), which is what often keeps two options apart. Knows nothing of other rules.
"""

from __future__ import annotations

import regex
from referencing.exceptions import Unresolvable

from backend.structured.lint_reading import ALL_TYPES, Node, finite_values, followed, has_open_names, type_of, types
from backend.structured.validate import BROKEN, PATTERN_SECONDS, PatternError

MAX_DEPTH = 6
CANNOT_JUDGE = (*BROKEN, Unresolvable, PatternError, RecursionError, OverflowError)


def overlapping(node: Node) -> tuple[int, int] | None:
    """The first two options of `node`'s `oneOf` of which one may write what the other accepts as well."""
    count = len(node.get("oneOf", list))
    for i in range(count):
        for j in range(count):
            if i != j and not apart(node.child("oneOf", i), node.child("oneOf", j)):
                return min(i, j), max(i, j)
    return None


def apart(written: Node, accepted: Node, depth: int = 0) -> bool:
    """True if no text that the grammar of `written` can write is valid under `accepted`. False means: not known to be."""
    left, right = _settled(written), _settled(accepted)
    if right is not None and right.schema is False:
        return True
    if left is None or right is None or depth > MAX_DEPTH or not isinstance(right.schema, dict) or not isinstance(left.schema, dict):
        return False
    if not _may_share_type(types(left), accepted_types(right)):
        return True
    options = left.branch if left.branch in ("anyOf", "oneOf") else None
    if options:
        return all(apart(left.child(options, i), right, depth + 1) for i in range(len(left.get(options, list))))
    for keyword in ("anyOf", "oneOf"):
        if right.get(keyword, list):
            return all(apart(left, right.child(keyword, i), depth + 1) for i in range(len(right.schema[keyword])))
    return _finite_apart(left, right) or _objects_apart(left, right, depth) or _arrays_apart(left, right, depth)


def _settled(node: Node) -> Node | None:
    """`node` behind its references and single `allOf`s; `None` if they lead nowhere."""
    for _ in range(20):
        if node.branch == "$ref":
            target = followed(node)
            if target is None:
                return None
            node = target
        elif node.branch == "allOf" and len(node.get("allOf", list)) == 1:
            node = node.child("allOf", 0)
        else:
            return node
    return None


def accepted_types(node: Node) -> frozenset[str]:
    """The types that a validator may accept here."""
    values = finite_values(node.schema)
    if values:
        return frozenset(map(type_of, values))
    kind = node.schema.get("type")
    named = frozenset([kind] if isinstance(kind, str) else node.names("type")) or ALL_TYPES
    return named | {"integer"} if "number" in named else named


def _may_share_type(written: frozenset[str], accepted: frozenset[str]) -> bool:
    numbers = {"integer", "number"}
    return bool(written & accepted) or bool(written & numbers and accepted & numbers)


def _finite_apart(left: Node, right: Node) -> bool:
    """With a list of values on either side, each is tried against the other side."""
    for values, other in ((finite_values(left.schema), right), (finite_values(right.schema), left)):
        if values:
            try:
                return not any(other.world.accepts(other.schema, value) for value in values)
            except CANNOT_JUDGE:
                return False
    return False


def _objects_apart(left: Node, right: Node, depth: int) -> bool:
    """Both are objects: a name that the right one demands is missing or wrong, or one that the left always writes is forbidden or wrong."""
    if left.branch != "object" or accepted_types(right) != {"object"} and "required" not in right.schema:
        return False
    if types(left) != {"object"}:
        return False
    demanded = right.names("required")
    sure = [name for name in left.names("required") if name in left.get("properties", dict)]
    most = right.get("maxProperties", int)
    if most is not None and len(set(sure)) > most:
        return True
    if right.schema.get("additionalProperties") is False and any(not _may_hold(right, name) for name in sure):
        return True
    return any(_property_apart(left, right, name, name in demanded, depth) for name in {*demanded, *sure})


def _property_apart(left: Node, right: Node, name: str, demanded: bool, depth: int) -> bool:
    """Whether what the left writes under `name`, or that it can't write it at all, keeps it from being accepted."""
    declared, rest = left.get("properties", dict), right.schema.get("additionalProperties")
    if name in declared:
        value = left.child("properties", name)
    elif not has_open_names(left):
        return demanded
    elif isinstance(left.schema.get("additionalProperties"), dict) and not left.get("patternProperties", dict):
        value = left.child("additionalProperties")
    else:
        return False
    if name in right.get("properties", dict):
        return apart(value, right.child("properties", name), depth + 1)
    by_pattern = right.get("patternProperties", dict)
    return isinstance(rest, dict) and not by_pattern and apart(value, right.child("additionalProperties"), depth + 1)


def _may_hold(node: Node, name: str) -> bool:
    if name in node.get("properties", dict):
        return True
    try:
        return any(regex.search(pattern, name, timeout=PATTERN_SECONDS) for pattern in node.get("patternProperties", dict))
    except (regex.error, TimeoutError):
        return True


def _arrays_apart(left: Node, right: Node, depth: int) -> bool:
    if left.branch != "array" or accepted_types(right) != {"array"}:
        return False
    low, high = left.get("minItems", int) or 0, left.get("maxItems", int)
    other_low, other_high = right.get("minItems", int) or 0, right.get("maxItems", int)
    if (high is not None and high < other_low) or (other_high is not None and low > other_high):
        return True
    both = isinstance(left.schema.get("items"), dict) and isinstance(right.schema.get("items"), dict)
    return both and low > 0 and "prefixItems" not in right.schema and apart(left.child("items"), right.child("items"), depth + 1)
