"""What a structured run asks for: its options, its lanes, and what is known before it starts.

Goes in: a `RunRequest`. Comes out: parsed options, the baseline requests, lint findings or an `InvalidRequest`. Runs no model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from backend.errors import EngineError, InvalidRequest
from backend.options import option, parse_options
from backend.resources import Resources
from backend.structured.engine import GrammarEngine, Limits
from backend.structured.grammar import KINDS, WHITESPACE, Grammar
from backend.structured.lint import lint
from backend.structured.validate import check_schema
from backend.types import Finding, Prompt, RunRequest

CONSTRAIN = ("grammar", "none", "prompt")
LANES = {"grammar": "with grammar", "none": "without grammar", "prompt": "schema in the prompt"}
PREVIEW = Limits(compile_s=3.0)
ASK = {
    "json_schema": "Answer only with JSON that is valid under this JSON Schema:",
    "json": "Answer only with valid JSON.",
    "regex": "Answer only with text that matches this regular expression:",
    "ebnf": "Answer only with text of this grammar (EBNF, the rule root):",
    "structural_tag": "Answer in the format that this structural tag describes:",
}


@dataclass(frozen=True)
class Options:
    """How the answer is held to a form."""

    kind: str = option("json_schema", "What the grammar is written in.", choices=KINDS)
    grammar: str = option("", "The JSON Schema, regular expression, EBNF grammar or structural tag.")
    whitespace: str = option("fixed", "Between JSON tokens: one blank at the usual places, or up to two anywhere.", choices=WHITESPACE)
    constrain: str = option("grammar", "Mask with the grammar, leave the model free, or only ask for the form.", choices=CONSTRAIN)

    def to_grammar(self) -> Grammar:
        return Grammar(self.kind, self.grammar, self.whitespace)


def lane(request: RunRequest) -> str:
    return LANES[parse_options(Options, request.options).constrain]


def baselines(request: RunRequest) -> list[RunRequest]:
    """The same prompt and seed without grammar, and, the fair one, without grammar but with the form asked for in the prompt."""
    options = parse_options(Options, request.options)
    if options.constrain != "grammar":
        return []
    free = replace(request.with_options(constrain="none"), answer_prefix=())
    asked = replace(free.with_options(constrain="prompt"), prompt=asking(request.prompt, options))
    return [free, asked]


def asking(prompt: Prompt, options: Options) -> Prompt:
    """The prompt with the form written under its last message."""
    parts = [prompt.text, ASK[options.kind]] + ([options.grammar] if options.kind != "json" else [])
    last = {**prompt.messages[-1], "content": "\n\n".join(parts)}
    return replace(prompt, messages=(*prompt.messages[:-1], last))


def check(request: RunRequest, resources: Resources) -> list[Finding]:
    """Findings of kind `lint` {path, keyword, effect, message}; raises `InvalidRequest` at the place of a mistake in the grammar.

    Regular expressions, EBNF and tags are read by a preview worker of its own, so a live run is never disturbed; one that it can't
    read in time is left to the run, which has the full limits and says what happened.
    """
    options = parse_options(Options, request.options)
    grammar = options.to_grammar()
    if options.kind == "json":
        return []
    if not options.grammar.strip():
        raise InvalidRequest(f"The {options.kind.replace('_', ' ')} is empty.", "options.grammar")
    if options.kind == "json_schema":
        schema = check_schema(options.grammar)
        grammar.canonical()
        return [Finding("lint", {"path": f.path, "keyword": f.keyword, "effect": f.effect, "message": f.message}) for f in lint(schema)]
    engine = resources.get("grammar-preview", lambda: GrammarEngine(None, 0, (), PREVIEW))
    try:
        notes = engine.syntax(grammar).warnings
    except EngineError as error:
        notes = [f"Not checked before the run: {error}"]
    return [Finding("lint", {"path": "", "keyword": options.kind, "effect": "note", "message": note}) for note in notes]


def schema_of(options: Options) -> object:
    """The JSON Schema that the answer is judged by; `True` (anything) for plain JSON."""
    return json.loads(options.grammar) if options.kind == "json_schema" else True
