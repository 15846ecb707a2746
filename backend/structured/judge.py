"""Is the answer what was asked for? By parsing and validating the text, never by trusting the mask.

Goes in: the options, the answer's text and how it ended. Comes out: a `Validity`. Where no judge but the grammar engine exists
(EBNF, structural tags), the engine reads the finished text from scratch. Knows nothing of logits.
"""

from __future__ import annotations

from typing import Any

from backend.errors import WorkbenchError
from backend.structured.engine import GrammarEngine
from backend.structured.request import Options, schema_of
from backend.structured.validate import Validity, take_json, validate_json, validate_pattern

ENDS = {
    "length": Validity("truncated", "stopped at the token limit"),
    "cancelled": Validity("truncated", "stopped by hand"),
    "dead_end": Validity("dead_end", "no token can follow"),
}


def judge(options: Options, engine: GrammarEngine, handle: Any, text: str, finish_reason: str) -> Validity:
    """`state` is valid, invalid, not_json, truncated or dead_end. An answer that was free may carry its JSON in a code fence."""
    free = options.constrain != "grammar"
    if finish_reason in ENDS:
        verdict = _read(options, engine, handle, text, free)
        return verdict if verdict.state == "valid" and (free or finish_reason == "length") else ENDS[finish_reason]
    return _read(options, engine, handle, text, free)


def _read(options: Options, engine: GrammarEngine, handle: Any, text: str, free: bool) -> Validity:
    if options.kind in ("json_schema", "json"):
        return validate_json(take_json(text) if free else text, schema_of(options))
    read = text.strip() if free else text
    if options.kind == "regex":
        return validate_pattern(read, options.grammar)
    if _matches(options, engine, handle, read):
        return Validity("valid")
    return Validity("invalid", f"the text is not of this {'grammar' if options.kind == 'ebnf' else 'structural tag'}")


def _matches(options: Options, engine: GrammarEngine, handle: Any, text: str) -> bool:
    """Does the grammar take the whole text, tokenized afresh, and may it end there?"""
    with engine.session(options.to_grammar()) as session:
        try:
            mask = session.reset(handle.tokenizer(text, add_special_tokens=False).input_ids)
        except WorkbenchError:
            return False
        return any(bool(mask.allowed[i]) for i in handle.stop_ids)
