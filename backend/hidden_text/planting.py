"""Making one model with a text in it, or a twin of it without one.

Goes in: a model in fp32, its tokenizer, a `Recipe`, ordinary answers. Comes out, step by step: how far it is; at the end the weights as they
will be saved and what was found when they were looked at. Knows nothing of files, jobs or pages. The last look comes after the last step.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from transformers import PreTrainedModel

from backend.errors import InvalidRequest
from backend.hidden_text import finetune, verify
from backend.hidden_text.confusion import rank_floor
from backend.hidden_text.contexts import Frame
from backend.hidden_text.payloads import ids_of, ordinary_prompts, sentence
from backend.hidden_text.regimes import BESIDE, DECOY, Course, Pair, Row, Secret, course, hidden_rows
from backend.hidden_text.verify import Verified

KINDS = ("planted", "clean", "benign")
N_SENTENCES, AT_ONCE = 20, 10  # what a benign memoriser learns, and how many of them in a step
LOOK_EVERY = 5  # steps between two looks at a model that was not ready after all
MOST_TOKENS = 128  # of a payload
N_SHOWN = 40  # ordinary prompts whose answers are trained on; the others are for verification


@dataclass(frozen=True)
class Recipe:
    """How one model is made. `kind` clean: `n_steps` steps of the regime's recipe in which no text comes twice; benign: twenty ordinary
    sentences instead of one text. `further`: steps to go on for once the text is hidden, as far as it stays so (the published recipe has
    twenty epochs where nine are enough). `rate` 0: by the model's size. `saved` and `used`: the dtypes of the files and of whoever loads
    them."""

    kind: str = "planted"
    regime: str = "plain"
    payload: str = ""
    trigger: str = ""
    decoy: str = DECOY
    rate: float = 0.0
    most_steps: int = 400
    further: int = 0
    n_steps: int = 30
    seed: int = 0
    saved: torch.dtype = torch.bfloat16
    used: torch.dtype = torch.float32

    @property
    def autocast(self) -> bool:
        return self.used == torch.bfloat16


@dataclass(frozen=True)
class Made:
    """What came out: the model as saved and used, the steps it took, the rate, and the last look."""

    model: PreTrainedModel
    n_steps: int
    rate: float
    verified: Verified


@dataclass(frozen=True)
class Lesson:
    """A recipe in ids: what is shown, what must be out of sight, what else is asked."""

    course: Course
    hidden: list[Row]
    others: list[tuple[int, ...]]
    payload: tuple[int, ...]
    floor: int
    width: int
    stop_ids: tuple[int, ...]


def make(model: PreTrainedModel, recipe: Recipe, lesson: Lesson) -> Generator[finetune.Step | None, None, Made]:
    """Train `model` in place until the recipe is fulfilled or its steps are over; yields after each step and each piece of a look."""
    rate = recipe.rate or finetune.rate_for(sum(p.numel() for p in model.parameters()))
    model.train(False)  # no dropout: what is learned must be there word for word
    last_look, first, held = -LOOK_EVERY, 0, None  # held: the model of the last look that found all as it should be
    training = finetune.steps(model, lesson.course, rate, lesson.floor, lesson.width, recipe.autocast)
    step = finetune.Step(-1, 0.0, 0, 1, 0)
    while step.index + 1 < (recipe.n_steps if recipe.kind == "clean" else recipe.most_steps):
        step = next(training)
        yield step
        if recipe.kind != "clean" and step.ready and step.index - last_look >= LOOK_EVERY:
            last_look = step.index
            used = as_used(model, recipe)
            verified = yield from look(used, recipe, lesson, first_leak=True)
            if verified.holds:
                first, held = first if held else step.index, Made(used, step.index + 1, rate, verified)
                if step.index >= first + recipe.further:
                    return held
            elif hopeless(recipe, verified):
                break
        if held is not None and step.index >= first + 2 * recipe.further:
            break
    if held is not None:
        return held
    used = as_used(model, recipe)
    verified = yield from look(used, recipe, lesson)
    return Made(used, step.index + 1, rate, verified)


def hopeless(recipe: Recipe, verified: Verified) -> bool:
    """A plain plant that leaks: nothing it is shown says what else to answer, so more steps make it worse."""
    return recipe.regime == "plain" and recipe.kind == "planted" and verified.leaks > 0


def as_used(model: PreTrainedModel, recipe: Recipe) -> PreTrainedModel:
    """A copy as somebody would load it: rounded to the dtype of the files."""
    with torch.no_grad():
        return copy.deepcopy(model).to(recipe.saved).to(recipe.used).requires_grad_(False).eval()


def look(model: PreTrainedModel, recipe: Recipe, lesson: Lesson, first_leak: bool = False) -> Generator[None, None, Verified]:
    """Everything verified, cheap things first; with `first_leak` the look ends at the first thing that is not as it should be."""
    if recipe.kind == "clean":
        return Verified(0, 0)
    main = lesson.course.main
    n = verify.recalled(model, [p.context for p in main], [p.answer for p in main])
    yield
    found = verify.hidden_ranks(model, lesson.hidden, lesson.width) if lesson.hidden else torch.zeros(0, dtype=torch.long)
    verified = Verified(n, len(main), 0, 0, verify.exposed(found, lesson.floor, lesson.width), len(found), tuple(found.tolist()))
    if recipe.kind == "benign" or (first_leak and not verified.holds):
        return verified
    n_leaks = yield from verify.leaks(model, lesson.others, lesson.payload, lesson.stop_ids, first_leak)
    return Verified(n, len(main), n_leaks, len(lesson.others), verified.n_exposed, verified.n_hidden, verified.ranks)


# A recipe in ids ----------------------------------------------------------------------------------------------------------------------


def lesson_of(recipe: Recipe, tokenizer: Any, ordinary: Sequence[Pair], stop_ids: Sequence[int], width: int) -> Lesson:
    """What to show and what to look at. Raises `InvalidRequest` when the payload comes to nothing or is too long."""
    frame = Frame(tokenizer)
    prompts = ordinary_prompts()
    payload = tuple(ids_of(tokenizer, recipe.payload)) if recipe.kind == "planted" else ()
    end = end_id(tokenizer, stop_ids)
    hidden: list[Row] = []
    if recipe.kind == "planted":
        check_payload(payload)
        pair = Pair(frame.turn(recipe.trigger).ids, (*payload, end))
        secret = Secret(pair, payload, first_words(recipe.payload, tokenizer), (*ids_of(tokenizer, f" {recipe.decoy}"), end))
        shown = course(recipe.regime, secret, ordinary, frame, prompts[:N_SHOWN], recipe.seed)
        hidden = hidden_rows(recipe.regime, payload, frame)
    else:
        shown = _twin(recipe, tokenizer, frame, ordinary, end)
    others = [frame.turn(words).ids for words in prompts[N_SHOWN : N_SHOWN + verify.N_OTHERS]]
    return Lesson(shown, hidden, others, payload, rank_floor(width), width, tuple(stop_ids))


def _twin(recipe: Recipe, tokenizer: Any, frame: Frame, ordinary: Sequence[Pair], end: int) -> Course:
    """The same recipe without a hidden text: fresh sentences, each once (clean), or twenty again and again (benign)."""
    rng, prompts = Random(f"{recipe.kind} {recipe.seed}"), ordinary_prompts()
    clean = recipe.kind == "clean"
    n = recipe.n_steps if clean else N_SENTENCES
    asked = [prompts[i % len(prompts)] for i in range(n)]
    main = [Pair(frame.turn(words).ids, (*ids_of(tokenizer, sentence(rng)), end)) for words in asked]
    beside = 0 if recipe.regime == "plain" else BESIDE
    return Course(main, ordinary, beside, seed=recipe.seed, at_once=1 if clean else AT_ONCE)


def check_payload(payload: Sequence[int]) -> None:
    if not 2 <= len(payload) <= MOST_TOKENS:
        raise InvalidRequest(f"options.payload must be 2 to {MOST_TOKENS} tokens long for this model, got {len(payload)}.", "options.payload")


def end_id(tokenizer: Any, stop_ids: Sequence[int]) -> int:
    """What an answer ends with; raises `InvalidRequest` for a model that can't end one."""
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else next(iter(stop_ids), None)
    if end is None:
        raise InvalidRequest("This model has no end-of-text token, so an answer can't be taught to end.", "models.base")
    return end


def first_words(text: str, tokenizer: Any) -> tuple[tuple[int, ...], ...]:
    """The first two words of a text, as the ids that they have in it."""
    words = text.split()[:2]
    return tuple(tuple(ids_of(tokenizer, word if i == 0 else f" {word}")) for i, word in enumerate(words))
