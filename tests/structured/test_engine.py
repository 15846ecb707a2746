"""The grammar engine's masks against oracles that know nothing of XGrammar, and its worker's lives and deaths."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from backend.errors import EngineError, InvalidRequest, ModelError
from backend.structured.engine import Grammar, GrammarEngine, GrammarSession, Limits
from backend.structured.wire import SLOTS
from tests.structured.small_tokenizer import small_tokenizer, walk, width

TOKENIZER = small_tokenizer()
VOCAB_SIZE = width(TOKENIZER)
STOP, BOS, PAD = (TOKENIZER.convert_tokens_to_ids(token) for token in ("<|end|>", "<s>", "<pad>"))
TEXTS = [TOKENIZER.decode([i]) for i in range(len(TOKENIZER))]
ROOT = Path(__file__).resolve().parents[2]
PERSON = json.dumps({
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "items": {"enum": ["a", "bb"]}}},
    "required": ["name", "age"],
})  # fmt: skip
SHORT_STRING = '{"type": "string", "minLength": 2, "maxLength": 6}'
HANGING_COMPILE = Grammar("ebnf", f'root ::= "{"a" * 1_000_000}"')
HANGING_STEP = Grammar("ebnf", "root ::= " + "(" * 7 + '"a"' + "{0,1000})" * 7)


@pytest.fixture(scope="module")
def engine() -> Iterator[GrammarEngine]:
    made = GrammarEngine(TOKENIZER, VOCAB_SIZE, [STOP])
    yield made
    made.close()


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def allowed(session: GrammarSession) -> list[int]:
    return torch.nonzero(session.mask().allowed).flatten().tolist()


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "backend.structured.worker" in " ".join(p.cmdline())]


# Masks

LANGUAGE = {"".join(s) + end for n in range(1, 4) for s in itertools.product("ab", repeat=n) for end in (" the", "c")}


@pytest.mark.parametrize("grammar", [Grammar("regex", "[ab]{1,3}( the|c)"), Grammar("ebnf", 'root ::= [ab]{1,3} (" the" | "c")')])
def test_every_mask_is_the_set_of_tokens_that_some_sentence_goes_on_with(engine: GrammarEngine, grammar: Grammar) -> None:
    """The language is finite: the oracle looks through all of its sentences."""
    rng = random.Random(0)
    for _ in range(10):
        with engine.session(grammar) as session:
            written, stopped = "", False
            while not stopped:
                expected = [i for i, text in enumerate(TEXTS) if text and any(s.startswith(written + text) for s in LANGUAGE)]
                expected += [STOP] if written in LANGUAGE else []
                assert allowed(session) == sorted(expected)
                token_id = rng.choice(expected)
                session.push(token_id)
                written, stopped = written + TEXTS[token_id], token_id == STOP
            assert session.mask().terminated


def test_count_is_the_popcount_and_forced_the_only_id(engine: GrammarEngine) -> None:
    rng, forced = random.Random(1), 0
    for _ in range(5):
        with engine.session(Grammar("json_schema", PERSON)) as session:
            for _ in range(40):
                mask, ids = session.mask(), allowed(session)
                assert mask.allowed.dtype == torch.bool and mask.allowed.shape == (VOCAB_SIZE,)
                assert mask.count == len(ids)
                assert mask.forced == (ids[0] if len(ids) == 1 else None)
                forced += mask.forced is not None
                if mask.count == 0:
                    break
                session.push(rng.choice(ids))
    assert forced


@pytest.mark.parametrize("text", ["", '{"name": "', '{"name": "Maria", "age": 3', '{"name": "a", "age": 3, "tags": ["bb"]}'])
def test_an_id_is_allowed_exactly_if_pushing_it_is_accepted(engine: GrammarEngine, text: str) -> None:
    prefix = ids_of(text)
    with engine.session(Grammar("json_schema", PERSON)) as session:
        may = session.reset(prefix).allowed.clone()
        for token_id in range(VOCAB_SIZE):
            session.push(token_id)
            mask = session.mask()
            assert mask.accepted == bool(may[token_id]), token_id
            if mask.accepted:
                session.reset(prefix)
            else:
                assert torch.equal(mask.allowed, may)


def test_reset_is_pushing_one_by_one(engine: GrammarEngine) -> None:
    rng = random.Random(2)
    for grammar in (Grammar("json_schema", PERSON), Grammar("json", whitespace="any"), Grammar("regex", "(ab|b)*c")):
        with engine.session(grammar) as pushed, engine.session(grammar) as replayed:
            ids, mask = walk(pushed, rng, 25)
            replayed.reset(ids_of("{") if grammar.kind != "regex" else ids_of("ab"))
            again = replayed.reset(ids)
            assert torch.equal(again.allowed, mask.allowed)
            assert (again.count, again.forced, again.terminated) == (mask.count, mask.forced, mask.terminated)


def test_reset_names_the_first_id_that_is_refused_and_stands_before_it(engine: GrammarEngine) -> None:
    with engine.session(Grammar("regex", "[ab]*c")) as session:
        expected = session.reset(ids_of("a")).allowed.clone()
        bad = [*ids_of("a"), ids_of("!")[0], *ids_of("b")]
        with pytest.raises(InvalidRequest, match="at position 1") as caught:
            session.reset(bad)
        assert caught.value.where == "answer_prefix"
        assert torch.equal(session.mask().allowed, expected)


@pytest.mark.parametrize("whitespace", ["fixed", "any"])
def test_special_and_padding_ids_are_never_allowed(engine: GrammarEngine, whitespace: str) -> None:
    rng = random.Random(3)
    forbidden = [BOS, PAD, *range(len(TOKENIZER), VOCAB_SIZE)]
    for grammar in (
        Grammar("json_schema", '{"type": "string"}', whitespace),
        Grammar("regex", r"[\s\S]*"),
        Grammar("ebnf", "root ::= [^x]*"),
    ):
        with engine.session(grammar) as session:
            for _ in range(12):
                mask = session.mask()
                assert not mask.allowed[forbidden].any()
                if mask.terminated:
                    break
                session.push(rng.choice(allowed(session)))


def test_a_grammar_that_names_a_special_token_may_use_it(engine: GrammarEngine) -> None:
    with engine.session(Grammar("ebnf", f'root ::= Token({PAD}) "a"')) as session:
        assert allowed(session) == [PAD]
    tag = {"type": "structural_tag", "format": {"type": "token", "token": "<pad>"}}
    with engine.session(Grammar("structural_tag", json.dumps(tag))) as session:
        assert allowed(session) == [PAD]


def test_a_number_in_a_tag_that_means_no_token_permits_no_special(engine: GrammarEngine) -> None:
    content = {"type": "json_schema", "json_schema": {"type": "string", "minLength": BOS, "maxLength": PAD}}
    with engine.session(Grammar("structural_tag", json.dumps({"type": "structural_tag", "format": content}))) as session:
        mask = session.reset(ids_of('"'))
        assert mask.count > 100 and not mask.allowed[[BOS, PAD]].any()


@pytest.mark.parametrize("whitespace", ["fixed", "any"])
@pytest.mark.parametrize("schema", [SHORT_STRING, PERSON, '{"type": "array", "items": ' + SHORT_STRING + ', "minItems": 1}'])
def test_whatever_a_walk_finishes_is_json(engine: GrammarEngine, schema: str, whitespace: str) -> None:
    """XGrammar alone lets raw control bytes into a string with a length bound; random walks find them at once."""
    rng, finished = random.Random(4), 0
    for _ in range(25):
        with engine.session(Grammar("json_schema", schema, whitespace)) as session:
            ids, mask = walk(session, rng, 60)
            if mask.terminated:
                json.loads(TOKENIZER.decode(ids, skip_special_tokens=True))
                finished += 1
    assert finished


def test_no_walk_ends_in_bytes_that_are_no_character(engine: GrammarEngine) -> None:
    """Surrogates, overlong forms and code points beyond the last one: the engine alone would let them into a string."""
    at_byte = {i: engine_bytes(i) for i in range(len(TOKENIZER)) if engine_bytes(i)}
    single = {word[0]: i for i, word in at_byte.items() if len(word) == 1}
    with engine.session(Grammar("json_schema", '{"type":"string"}')) as session:
        for lead, refused, taken in ((0xED, 0xA0, 0x9F), (0xE0, 0x9F, 0xA0), (0xF0, 0x8F, 0x90), (0xF4, 0x90, 0x8F), (0xE1, 0xC0, 0x80)):
            mask = session.reset([single[0x22], single[lead]])
            assert not mask.allowed[single[refused]] and mask.allowed[single[taken]]
            session.push(single[refused])
            assert not session.mask().accepted


def engine_bytes(token_id: int) -> bytes:
    """What a byte-level token writes."""
    table = {c: b for b, c in bytes_to_unicode().items()}
    text = TOKENIZER.convert_ids_to_tokens(token_id)
    return bytes(table[c] for c in text) if all(c in table for c in text) and token_id >= 3 else b""


def bytes_to_unicode() -> dict[int, str]:
    """GPT-2's table: printable bytes stand for themselves, the others for the code points from 256 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + n) for n, b in enumerate(rest)}


def test_fixed_whitespace_is_that_of_json_dumps_and_any_is_at_most_two_blanks(engine: GrammarEngine) -> None:
    value = {"name": "a", "age": 1}
    for whitespace, text, taken in (
        ("fixed", json.dumps(value), True),
        ("fixed", json.dumps(value, separators=(",", ":")), False),
        ("any", json.dumps(value, separators=(",", ":")), True),
        ("any", json.dumps(value, separators=(",  ", ": ")), True),
        ("any", json.dumps(value, separators=(",   ", ": ")), False),
    ):
        with engine.session(Grammar("json_schema", PERSON, whitespace)) as session:
            if taken:
                assert session.reset(ids_of(text)).allowed[STOP]
            else:
                with pytest.raises(InvalidRequest):
                    session.reset(ids_of(text))


def test_plain_json_takes_any_value(engine: GrammarEngine) -> None:
    for value in ({"a": [1, None, {"b": "x"}]}, [], "text", -2.5e-3, True):
        with engine.session(Grammar("json")) as session:
            assert session.reset(ids_of(json.dumps(value))).allowed[STOP], value


@pytest.mark.parametrize("grammar", [Grammar("ebnf", "root ::= root"), Grammar("json_schema", '{"$ref": "#"}')])
def test_a_grammar_that_no_token_can_begin_is_a_dead_end(engine: GrammarEngine, grammar: Grammar) -> None:
    with engine.session(grammar) as session:
        mask = session.mask()
        assert (mask.count, mask.forced, mask.terminated, bool(mask.allowed.any())) == (0, None, False, False)


def test_after_the_stop_token_nothing_is_allowed_or_accepted(engine: GrammarEngine) -> None:
    with engine.session(Grammar("regex", "a")) as session:
        mask = session.reset([*ids_of("a"), STOP])
        assert mask.terminated and mask.count == 0
        session.push(STOP)
        assert not session.mask().accepted


def test_every_stop_id_ends_an_answer() -> None:
    both = GrammarEngine(TOKENIZER, VOCAB_SIZE, [STOP, BOS, VOCAB_SIZE + 5])
    with both.session(Grammar("regex", "a?")) as session:
        assert {STOP, BOS} <= set(allowed(session))
    both.close()


def test_sessions_do_not_disturb_each_other(engine: GrammarEngine) -> None:
    """Pushes of two sessions are sent before either mask is read."""
    left, right = Grammar("regex", "(ab)*c"), Grammar("json")
    with engine.session(left) as one, engine.session(right) as two:
        for text in ("a", "b", "a"):
            one.push(ids_of(text)[0])
            two.push(ids_of("[")[0])
        with engine.session(left) as alone:
            assert torch.equal(one.mask().allowed, alone.reset([ids_of(c)[0] for c in "aba"]).allowed)
        with engine.session(right) as alone:
            assert torch.equal(two.mask().allowed, alone.reset([ids_of("[")[0]] * 3).allowed)


def test_a_pattern_with_a_bound_above_128_compiles_and_holds(engine: GrammarEngine) -> None:
    """With its cache on, XGrammar 0.2.8 fails inside on this one."""
    with engine.session(Grammar("json_schema", '{"type": "string", "pattern": "^[a-z]{1,129}$"}')) as session:
        a, quote = ids_of("a")[0], ids_of('"')[0]
        assert session.reset([quote] + [a] * 128).allowed[a]
        assert not session.reset([quote] + [a] * 129).allowed[a]


# What goes in


def test_warnings_of_a_compile_come_back_also_from_the_cache(engine: GrammarEngine) -> None:
    grammar = Grammar("regex", "a^b")
    first, again = engine.compile(grammar), engine.compile(grammar)
    assert first.warnings == again.warnings and "Character 2" in first.warnings[0]
    assert engine.compile(Grammar("regex", "ab")).warnings == ()


def test_a_schema_is_the_same_however_it_is_indented() -> None:
    text = json.dumps(json.loads(PERSON), indent=4)
    assert Grammar("json_schema", text).canonical() == Grammar("json_schema", PERSON).canonical()


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        (Grammar("json_schema", '{"type":\n "string",}'), "Line 2, column"),
        (Grammar("json_schema", '{"type": "string"} x'), "Line 1, column 20"),
        (Grammar("json_schema", '{"type": "strin"}'), "strin"),
        (Grammar("json_schema", '{"minimum": NaN}'), "NaN"),
        (Grammar("json_schema", ""), "empty"),
        (Grammar("ebnf", 'root ::= "a" |\n  ( "b"'), "Line 2, column"),
        (Grammar("regex", "(a"), "Character"),
        (Grammar("regex", "a{99999999999}"), "at most 1,000,000"),
        (Grammar("ebnf", 'root ::= "a"{1,99999999999}'), "at most 1,000,000"),
        (Grammar("json_schema", '{"type": "string", "pattern": "a{9999999}"}'), "at most 1,000,000"),
        (Grammar("regex", "\ud800"), "surrogate"),
        (Grammar("structural_tag", '{"type": "structural_tag"}'), "format"),
    ],
)
def test_a_wrong_grammar_is_refused_in_plain_words_with_its_place(engine: GrammarEngine, grammar: Grammar, said: str) -> None:
    for check in (engine.compile, engine.syntax, engine.session):
        with pytest.raises(InvalidRequest, match=said) as caught:
            check(grammar)
        assert caught.value.where == "options.grammar"


def test_braces_in_a_literal_or_class_are_no_repeat() -> None:
    for grammar in (Grammar("ebnf", 'root ::= "{9999999}" [{9999999}] # {9999999}'), Grammar("regex", r"\{9999999\}[{9999999}]")):
        assert grammar.canonical() == grammar


def test_unknown_kinds_and_limits_are_named() -> None:
    with pytest.raises(InvalidRequest, match="json_schema.*'yaml'"):
        Grammar("yaml", "")
    with pytest.raises(InvalidRequest, match="fixed, any"):
        Grammar("json", "", "loose")
    with pytest.raises(InvalidRequest, match=r"compile_s.*0\.1.*600.*0"):
        Limits(compile_s=0)
    with pytest.raises(ModelError, match="stop token"):
        GrammarEngine(TOKENIZER, VOCAB_SIZE, [VOCAB_SIZE])


def test_an_id_outside_the_logits_is_an_invalid_request(engine: GrammarEngine) -> None:
    with engine.session(Grammar("json")) as session:
        with pytest.raises(InvalidRequest, match=str(VOCAB_SIZE)):
            session.push(VOCAB_SIZE)
        with pytest.raises(InvalidRequest, match=r"ids\[1\]"):
            session.reset([0, -1])


# Lives of the worker


def test_importing_the_engine_does_not_load_xgrammar() -> None:
    code = "import sys, backend.structured.engine; sys.exit('xgrammar' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_sixteen_sessions_fit_and_closing_one_makes_room(engine: GrammarEngine) -> None:
    sessions = [engine.session(Grammar("json")) for _ in range(SLOTS)]
    with pytest.raises(EngineError, match="16 grammar sessions"):
        engine.session(Grammar("json"))
    sessions[3].close()
    sessions[3] = engine.session(Grammar("regex", "a"))
    assert allowed(sessions[3]) == ids_of("a") and sessions[4].mask().count > 1
    for session in sessions:
        session.close()


def test_a_closed_session_says_so(engine: GrammarEngine) -> None:
    session = engine.session(Grammar("json"))
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.push(1)


@pytest.fixture
def strict() -> Iterator[GrammarEngine]:
    made = GrammarEngine(TOKENIZER, VOCAB_SIZE, [STOP], Limits(compile_s=1.0, step_s=1.0))
    yield made
    made.close()


def hang_in_a_compile(engine: GrammarEngine) -> None:
    engine.compile(HANGING_COMPILE)


def hang_in_a_step(engine: GrammarEngine) -> None:
    with engine.session(HANGING_STEP) as session:
        for _ in range(200):
            session.push(ids_of("a")[0])
            session.mask()


@pytest.mark.parametrize(("hang", "said"), [(hang_in_a_compile, "Compiling.* 1 s"), (hang_in_a_step, "A step.* 1 s")])
def test_after_a_hang_every_session_says_why_and_the_engine_starts_again(strict: GrammarEngine, hang: Callable, said: str) -> None:
    with strict.session(Grammar("json")) as session:
        before = session.mask().allowed.clone()
        with pytest.raises(EngineError, match=said + "; XGrammar was stopped"):
            hang(strict)
        with pytest.raises(EngineError, match=said):
            session.push(1)
    with strict.session(Grammar("json")) as session:
        assert torch.equal(session.mask().allowed, before)


def test_a_closed_session_leaves_no_step_running(strict: GrammarEngine) -> None:
    """The step that a cancelled run leaves behind is ended at its limit; nothing runs on unseen."""
    with strict.session(Grammar("ebnf", 'root ::= ((("a"{0,1000}){0,1000}){0,1000}){0,1000}')) as session:
        while session.mask().ms < 50:
            session.push(ids_of("a")[0])
        session.push(ids_of("a")[0])
    assert not strict._worker._waiting
    assert strict.compile(Grammar("json")).ms >= 0


def test_a_worker_that_dies_by_itself_is_reported_and_replaced(engine: GrammarEngine) -> None:
    with engine.session(Grammar("json")) as session:
        session.mask()
        for child in children():
            child.kill()
        with pytest.raises(EngineError, match="ended by itself.*SIGKILL"):
            session.push(ids_of("[")[0])
            session.mask()
    assert engine.compile(Grammar("json")).ms >= 0


def test_close_ends_a_compile_that_another_thread_waits_for() -> None:
    engine = GrammarEngine(TOKENIZER, VOCAB_SIZE, [STOP], Limits(compile_s=600.0))
    said: list[str] = []

    def hang() -> None:
        try:
            engine.compile(HANGING_COMPILE)
        except EngineError as error:
            said.append(str(error))

    thread = threading.Thread(target=hang)
    thread.start()
    while thread.is_alive():
        engine.close()
        thread.join(0.02)
    assert said == ["The grammar engine was closed."]


def test_syntax_needs_no_vocabulary_and_compile_does() -> None:
    engine = GrammarEngine(None, 0, [])
    assert engine.syntax(Grammar("json_schema", PERSON)).warnings == ()
    assert "Character 2" in engine.syntax(Grammar("regex", "a^b")).warnings[0]
    tag = {"type": "structural_tag", "format": {"type": "token", "token": "<pad>"}}
    engine.syntax(Grammar("structural_tag", json.dumps(tag)))
    with pytest.raises(InvalidRequest, match="Line 1, column"):
        engine.syntax(Grammar("ebnf", "root := x"))
    with pytest.raises(ValueError, match="without a tokenizer"):
        engine.compile(Grammar("json"))
    engine.close()


ORPHAN = """
import os, sys, threading, psutil
from backend.structured.engine import Grammar, GrammarEngine, Limits
engine = GrammarEngine(None, 0, [], Limits(compile_s=600.0))
engine.syntax(Grammar("regex", "a"))
worker = psutil.Process().children()[0]
idle = worker.cpu_times().user
if sys.argv[1] == "busy":
    hang = Grammar("ebnf", "root ::= " + " | ".join(f'(("x" | [a-z]) "{i}"){{1,900}}' for i in range(100_000)))
    threading.Thread(target=engine.syntax, args=(hang,), daemon=True).start()
    while worker.cpu_times().user < idle + 0.1:
        pass
print(worker.pid, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_worker_does_not_outlive_its_parent(state: str) -> None:
    done = subprocess.run([sys.executable, "-c", ORPHAN, state], cwd=ROOT, check=True, capture_output=True, text=True)
    worker = int(done.stdout)
    with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        psutil.Process(worker).wait(timeout=30)
    assert not psutil.pid_exists(worker)
