"""A form as a link, and a link as a form: `?preset=NAME&prompt=…&model=…&seed=…&options.NAME=…`.

Goes in: a form's values by name, a query (anybody can write one). Comes out: a query, the form's values, words. What a link says is checked like
any other input and nothing runs by it: the page says which button to press. Knows widgets' values, not widgets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from backend.errors import InvalidRequest
from backend.options import default_of, parse_options
from panels import controls

if TYPE_CHECKING:
    from panels.run_logic import RunLogic

MOST_CHARS = 4_000  # of a query; servers and proxies on the way refuse longer addresses
OPTION = "options."
NUMBERS: Mapping[str, type] = {"temperature": float, "top_p": float, "top_k": int, "max_new_tokens": int, "seed": int}
TRUTHS = {"true": True, "false": False}
FILLED = "A link filled this form; nothing has run. Press {run}."
EMBEDDED = "This link holds inputs, not a run. Open it in Loupe to run them."
RECORDED = "A link filled this form; what stands below is a recording. Press {run} to run it here."


def names(logic: RunLogic) -> tuple[str, ...]:
    """The form's values by the names that a link has for them, in the form's order; what the form carries along has none."""
    return (*controls.SHARED, *logic.roles, *(f"{OPTION}{name}" for name in logic.option_names))


def asks(logic: RunLogic, query: Mapping[str, str]) -> bool:
    """Whether the query says a value of the form, known or not."""
    known = names(logic)
    return any(name in known or name.startswith(OPTION) for name in query)


def filled(logic: RunLogic, values: Sequence[Any], query: Mapping[str, str]) -> list[Any]:
    """The form's values with what the query says in their place; raises `InvalidRequest` for what no form could say."""
    known = names(logic)
    for name in query:
        if name.startswith(OPTION) and name not in known:
            options = ", ".join(logic.option_names)
            raise InvalidRequest(f"{logic.method_name} has no option {name.removeprefix(OPTION)!r}; it has {options}.", name)
    types = {**NUMBERS, **{f"{OPTION}{spec.name}": type(default_of(spec)) for spec in fields(logic.method.Options)}}
    said = list(values)
    for place, name in enumerate(known):
        if name in query:
            said[place] = typed(name, query[name], types.get(name, str))
    parse_options(logic.method.Options, logic.request(said).options)
    return said


def typed(name: str, text: str, kind: type) -> Any:
    """A text of a query as the form has it; lists stand in a form as text."""
    if kind is bool:
        if text.lower() not in TRUTHS:
            raise InvalidRequest(f"{name} must be true or false, got {text!r}.", name)
        return TRUTHS[text.lower()]
    if kind not in (int, float):
        return text
    try:
        return kind(text)
    except ValueError as error:
        wanted = "a whole number" if kind is int else "a number"
        raise InvalidRequest(f"{name} must be {wanted}, got {text!r}.", name) from error


def query_of(logic: RunLogic, values: Sequence[Any]) -> str:
    """The shortest query that brings these values back: a preset and what differs from it. Raises `InvalidRequest` where none can."""
    known = names(logic)
    logic.request(values)
    if any(values[len(known) :]):
        raise InvalidRequest("A link holds no given answer tokens and no earlier messages. Run it and share the run instead.", "answer_prefix")
    bases = [({"preset": preset.name}, logic.values(preset.request)) for preset in logic.presets] or [({}, logic.values(logic.start()))]
    query = min((urlencode({**named, **differing(known, values, base)}) for named, base in bases), key=len)
    if len(query) > MOST_CHARS:
        raise InvalidRequest(
            f"These inputs make a link of {len(query):,} characters; a link may have at most {MOST_CHARS:,}. "
            "Shorten the prompt or the options, or run it and share the run instead.", "prompt",
        )  # fmt: skip
    return query


def differing(known: Sequence[str], values: Sequence[Any], base: Sequence[Any]) -> dict[str, str]:
    """The values that are others than the base's, as texts."""
    pairs = zip(known, values, base, strict=False)
    return {name: written(value) for name, value, other in pairs if written(value) != written(other)}


def written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def words(logic: RunLogic, query: Mapping[str, str], text: str | None, run: str) -> str:
    """What the page says to whoever came by a link; `run` is the button's label."""
    if not asks(logic, query) and not query.get("preset"):
        return ""
    if query.get("embed"):  # there is no form to be seen
        return EMBEDDED if asks(logic, query) else ""
    return (FILLED if asks(logic, query) or not text else RECORDED).format(run=run)
