"""The schema linter: which keywords XGrammar 0.2.8 will not enforce, or not as the schema means them, before anything is run.

Goes in: a JSON schema, as it was parsed. Comes out: a list of `LintFinding`. Only places that the engine enters are looked at, so an
unused definition is never complained of. Knows nothing of models, grammars or texts, and does not import the engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from backend.structured.lint_reading import Node, World, children, followed
from backend.structured.lint_rules import DIFFERENT, NOT_ENFORCED, REFUSED, RULES, TOO_STRICT, UNFINISHABLE, LintFinding

__all__ = ["EFFECTS", "LintFinding", "lint", "marks"]

EFFECTS = (NOT_ENFORCED, DIFFERENT, TOO_STRICT, UNFINISHABLE, REFUSED)
# With one of these, a finished output may be invalid; the others only say that less can come than the schema allows, or nothing.
MARKING = (NOT_ENFORCED, DIFFERENT)
MAX_NODES = 20_000


def marks(findings: Iterable[LintFinding]) -> bool:
    """True when an output that the grammar finished may still be invalid."""
    return any(finding.effect in MARKING for finding in findings)


def lint(schema: Any) -> list[LintFinding]:
    """What to know before generating with `schema`, in the order of the places; never raises, whatever `schema` is."""
    if isinstance(schema, bool):
        return [] if schema else [_refused("false accepts no value at all.")]
    if not isinstance(schema, Mapping):
        return [_refused("A JSON schema is an object, true or false.")]
    root = Node(dict(schema), (), World(dict(schema)))
    try:
        found = [finding for node in _entered(root) for rule in RULES for finding in rule(node)]
        if not _can_end(root, frozenset()):
            found.append(LintFinding("$", "$ref", UNFINISHABLE, "The schema demands itself again and again: no output can be finished."))
    except RecursionError:
        found = [_refused("The schema is nested too deeply.")]
    return list(dict.fromkeys(found))


def _refused(message: str) -> LintFinding:
    return LintFinding("$", "schema", REFUSED, message)


def _entered(root: Node) -> Iterable[Node]:
    """Every place that the engine enters, once; at most `MAX_NODES` of them."""
    waiting, seen = [root], set()
    while waiting and len(seen) < MAX_NODES:
        node = waiting.pop()
        mark = (node.path, node.key, str(node.schema.get("type")) if isinstance(node.schema, dict) else "")
        if mark in seen or not isinstance(node.schema, dict):
            continue
        seen.add(mark)
        yield node
        target = followed(node) if node.branch == "$ref" else None
        waiting.extend(reversed([target] if target else list(children(node))))


def _can_end(node: Node, open_paths: frozenset[tuple[str | int, ...]]) -> bool:
    """Whether some finite value fits here: what is demanded must not lead back to a place that is still open."""
    if not isinstance(node.schema, dict):
        return node.schema is not False
    branch = node.branch
    if branch == "$ref":
        target = followed(node)
        if target is None:
            return True
        return target.path not in open_paths and _can_end(target, open_paths | {target.path})
    if branch in ("anyOf", "oneOf", "types"):
        inner = list(children(node))
        return not inner or any(_can_end(child, open_paths) for child in inner)
    return all(_can_end(child, open_paths) for child in _demanded(node, branch))


def _demanded(node: Node, branch: str) -> list[Node]:
    """The sub-schemas of which every value here holds at least one value."""
    if branch == "allOf":
        return list(children(node))
    if branch == "object":
        declared = node.get("properties", dict)
        return [node.child("properties", name) for name in node.names("required") if name in declared]
    if branch == "array" and (node.get("minItems", int) or 0) > 0 and isinstance(node.schema.get("items"), dict):
        return [node.child("items")]
    return []
