"""How XGrammar reads a JSON schema: which keyword decides, which are taken along, which sub-schemas it enters.

Goes in: a schema and where in it one stands. Comes out: the branch that the engine takes, the keywords that this branch takes account
of, its sub-schemas, and the JSON types that the grammar can write. Holds for XGrammar 0.2.8 with its default `strict_mode=True`: what is
not declared is closed. Knows nothing of what is wrong with a schema: the rules do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from backend.structured.validate import draft_of, json_path, json_validator

ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
# The first of these that a schema has decides alone; the engine never looks at what stands beside it.
DECIDERS = ("$ref", "const", "enum", "anyOf", "oneOf", "allOf")
LENGTHS = frozenset({"minLength", "maxLength"})
BOUNDS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})
TAKEN = {
    "integer": BOUNDS | {"type"},
    "number": BOUNDS | {"type"},
    "string": LENGTHS | {"type", "pattern", "format"},
    "boolean": frozenset({"type"}),
    "null": frozenset({"type"}),
    "array": frozenset({"type", "prefixItems", "items", "unevaluatedItems", "minItems", "maxItems"}),
    "object": frozenset({"type", "properties", "required", "patternProperties", "propertyNames", "additionalProperties",
                         "unevaluatedProperties", "minProperties", "maxProperties"}),
    "types": frozenset(),
    "any": frozenset(),
}  # fmt: skip
ANNOTATIONS = frozenset({"title", "default", "description", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$schema"})


@dataclass(frozen=True)
class World:
    """The whole schema and the draft it is written in."""

    root: Any

    @cached_property
    def _validator(self) -> Any:
        return json_validator(self.root)

    def asserts(self, keyword: str) -> bool:
        """Whether the schema's own draft gives `keyword` a meaning."""
        return keyword in draft_of(self.root).VALIDATORS

    @property
    def siblings_of_ref_count(self) -> bool:
        """Up to draft 7, what stands beside `$ref` means nothing."""
        return self.asserts("$recursiveRef") or self.asserts("$dynamicRef")

    def formats(self) -> frozenset[str]:
        return frozenset(draft_of(self.root).FORMAT_CHECKER.checkers)

    def resolve(self, uri: Any) -> Any:
        """The schema that a local `uri` points to, as the engine looks it up; `None` where it takes the reference for anything at all."""
        if uri == "#":
            return self.root
        if not isinstance(uri, str) or not uri.startswith("#/"):
            return None
        target = self.root
        for part in filter(None, uri[2:].split("/")):
            if isinstance(target, list) and part.isdigit() and int(part) < len(target):
                target = target[int(part)]
            elif isinstance(target, Mapping) and part in target:
                target = target[part]
            else:
                return None
        return target

    def accepts(self, schema: Any, value: Any) -> bool:
        """Whether `value` is valid under `schema`, a part of this world; raises what `jsonschema` raises."""
        return self._validator.evolve(schema=schema).is_valid(value)


@dataclass(frozen=True)
class Node:
    """One schema that the engine enters, and the path of keys that leads there. `key` marks a schema for property names."""

    schema: Any
    path: tuple[str | int, ...]
    world: World
    key: bool = False

    def child(self, *steps: str | int, key: bool = False) -> Node:
        schema = self.schema
        for step in steps:
            schema = schema[step]
        return Node(schema, (*self.path, *steps), self.world, key)

    @property
    def where(self) -> str:
        return json_path(self.path)

    @property
    def branch(self) -> str:
        return branch_of(self.schema, "string" if self.key else None)

    def get(self, keyword: str, kind: type | tuple[type, ...]) -> Any:
        """The value under `keyword` if it has the right type, else an empty one of that type (`None` for numbers)."""
        value = self.schema.get(keyword)
        if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
            return value
        return kind() if kind in (dict, list) else None

    def names(self, keyword: str) -> list[str]:
        """The texts in the list under `keyword`."""
        return [name for name in self.get(keyword, list) if isinstance(name, str)]


def branch_of(schema: Any, default: str | None = None) -> str:
    """One of `DECIDERS`, a type, `types` (a list of them), or `any` (the engine lets every JSON value through)."""
    if not isinstance(schema, Mapping):
        return "any"
    for keyword in DECIDERS:
        if keyword in schema:
            return keyword
    kind = schema.get("type", default)
    if isinstance(kind, list):
        return "types"
    if isinstance(kind, str):
        return kind if kind in ALL_TYPES else "any"
    if {"properties", "additionalProperties", "unevaluatedProperties"} & schema.keys():
        return "object"
    return "array" if {"items", "prefixItems", "unevaluatedItems"} & schema.keys() else "any"


def by_type(node: Node) -> Iterator[Node]:
    """A schema with a list of types, once for each type, as the engine splits it."""
    for kind in node.names("type"):
        yield replace(node, schema={**node.schema, "type": kind})


def children(node: Node) -> Iterator[Node]:
    """The sub-schemas that the engine enters from here (references are not followed)."""
    branch = node.branch
    if branch in ("anyOf", "oneOf", "allOf"):
        options = node.get(branch, list)
        # Two or more under allOf become "any JSON": their insides play no part.
        if branch != "allOf" or len(options) == 1:
            yield from (node.child(branch, i) for i in range(len(options)))
    elif branch == "types":
        yield from by_type(node)
    elif branch == "array":
        yield from (node.child("prefixItems", i) for i in range(len(node.get("prefixItems", list))))
        yield from _first(node, "items", "unevaluatedItems")
    elif branch == "object":
        yield from (node.child("properties", name) for name in node.get("properties", dict))
        yield from (node.child("patternProperties", name) for name in node.get("patternProperties", dict))
        if isinstance(node.schema.get("propertyNames"), Mapping) and not node.get("patternProperties", dict):
            yield node.child("propertyNames", key=True)
        yield from _first(node, "additionalProperties", "unevaluatedProperties")


def _first(node: Node, *keywords: str) -> Iterator[Node]:
    for keyword in keywords:
        if keyword in node.schema:
            if isinstance(node.schema[keyword], Mapping):
                yield node.child(keyword)
            return


def types(node: Node, depth: int = 0) -> frozenset[str]:
    """The JSON types of the values that the grammar can write here; all of them where that can't be told."""
    branch = node.branch
    if branch in ("const", "enum"):
        return frozenset(map(type_of, finite_values(node.schema)))
    if branch in ALL_TYPES:
        return frozenset({branch})
    if depth > 20:
        return ALL_TYPES
    if branch == "$ref":
        target = followed(node)
        return types(target, depth + 1) if target else ALL_TYPES
    inner = list(children(node))
    return frozenset().union(*(types(child, depth + 1) for child in inner)) if inner else ALL_TYPES


def followed(node: Node) -> Node | None:
    """Where the `$ref` of `node` leads, if the engine follows it."""
    uri = node.schema["$ref"]
    target = node.world.resolve(uri)
    if target is None:
        return None
    steps = tuple(int(p) if p.isdigit() else p for p in uri[2:].split("/") if p)
    return Node(target, steps, node.world, node.key)


def finite_values(schema: Mapping[str, Any]) -> list[Any]:
    """The values of a `const` or an `enum`, in the engine's order of looking; empty if there is neither."""
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else []


def type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def is_free(schema: Any) -> bool:
    """Whether `schema` allows everything: `true`, `{}`, or nothing but annotations."""
    return schema is True or (isinstance(schema, Mapping) and schema.keys() <= ANNOTATIONS)


def bare(schema: Any) -> Any:
    """`schema` without its annotations, so that two that mean the same are equal."""
    if isinstance(schema, Mapping):
        return {key: bare(value) for key, value in schema.items() if key not in ANNOTATIONS or isinstance(value, Mapping)}
    return [bare(item) for item in schema] if isinstance(schema, list) else schema


def leaves(node: Node, depth: int = 0) -> list[Node] | None:
    """The places that write the values of `node`, behind references and lists of options; `None` if they can't be told."""
    branch = node.branch
    if depth > 12 or branch == "any" or not isinstance(node.schema, Mapping):
        return None
    if branch == "$ref":
        target = followed(node)
        return leaves(target, depth + 1) if target else None
    if branch not in ("anyOf", "oneOf", "allOf", "types"):
        return [node]
    inner = [leaves(child, depth + 1) for child in children(node)]
    return None if not inner or None in inner else [leaf for part in inner for leaf in part or ()]


def extra_schema(node: Node) -> Any:
    """What an object may hold beside its declared properties: a schema, or `None` for nothing."""
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        if keyword in node.schema:
            value = node.schema[keyword]
            return None if value is False else value
    # {"type": "object"} and nothing else is the one object that strict mode leaves open.
    return {} if node.schema.keys() - ANNOTATIONS == {"type"} else None


def has_open_names(node: Node) -> bool:
    """Whether the grammar of this object can write a name that is not among its `properties`."""
    if node.get("patternProperties", dict):
        return True
    if "propertyNames" in node.schema and not node.get("properties", dict):
        return True
    return extra_schema(node) is not None
