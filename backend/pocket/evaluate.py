"""How good a pocket model is: fresh questions whose answers are known, asked many at once.

Goes in: a pool of models, a model id (or a folder), how many items a skill, a seed. Comes out: an `Evaluation`: exact answers by number
of steps, exact records, perplexity by skill, agreement of the pair, each share with its interval. Greedy, fp32. Knows nothing of
training, files or tables.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from backend import batch
from backend.errors import ModelError
from backend.model_files import Report, ignore
from backend.models import LoadedModel, ModelPool
from backend.pairs import check_pair
from backend.pocket.corpus import held_out
from backend.pocket.items import SKILLS, Item
from backend.pocket.scores import Share, final_answer, same_record
from backend.pocket.tokenizer import encode, pocket_tokenizer
from backend.prompt import render
from backend.types import Prompt, SamplingParams, check_number

SEED = 1  # the one that mix and rates were tuned on; the bench takes another
N_ITEMS = 500
COUNTED_STEPS = range(1, 5)  # what the headline figure counts; five steps are shown beside it
MAX_NEW_TOKENS = 160  # three times the mean answer
ROWS = 125  # at once: 500 items are four rectangles


@dataclass(frozen=True)
class Answer:
    """What the model said to one item: its ids (the stop id with them) and the text without it."""

    item: Item
    prompt_ids: list[int]
    ids: list[int]
    text: str

    @property
    def right(self) -> bool:
        if self.item.skill == "record":
            return same_record(self.text, self.item.truth)
        return final_answer(self.text) == self.item.truth


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean negative log-probability of the answers' tokens, teacher-forced."""

    value: float
    n_tokens: int


@dataclass(frozen=True)
class Evaluation:
    """Everything that a model card says of ability. `agreement` is the share of the larger model's greedy tokens (on problems) that the
    smaller one would have chosen there; None where the model has no partner."""

    model: str
    hash: str
    device: str
    n_parameters: int
    seed: int
    n_items: int
    problems: Share
    by_steps: Mapping[str, Share]
    by_family: Mapping[str, Share]
    records: Share
    perplexity: Mapping[str, Perplexity]
    partner: str | None = None
    agreement: Share | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain object; each share also as `value`."""
        return _valued(asdict(self))


def _valued(data: Any) -> Any:
    if not isinstance(data, dict):
        return data
    data = {key: _valued(value) for key, value in data.items()}
    return {"value": data["right"] / data["n"] if data["n"] else None, **data} if {"right", "n"} <= set(data) else data


def evaluate(pool: ModelPool, model_id: str, n_items: int = N_ITEMS, seed: int = SEED, partner: str | None = None,
             tell: Report = ignore) -> Evaluation:  # fmt: skip
    """Ask `n_items` fresh problems, records and texts. Raises `ModelError` for a model with other tokens than the pocket models'."""
    check_number("n_items", n_items, 1, 100_000, integer=True)
    ids = {"model": model_id, **({"partner": partner} if partner else {})}
    loaded = pool.load_all(ids)
    for handle in loaded.values():
        check_tokens(handle)
    model = loaded["model"]
    count = _Count(tell, (2 + len(SKILLS) + bool(partner)) * n_items)
    problems = ask(model, held_out("problem", n_items, seed), count)
    records = ask(model, held_out("record", n_items, seed), count)
    texts = {skill: held_out(skill, n_items, seed) for skill in SKILLS}
    return Evaluation(
        model=model_id,
        hash=model.hash,
        device=str(model.device),
        n_parameters=model.passport.n_parameters,
        seed=seed,
        n_items=n_items,
        problems=Share.of([a.right for a in problems if a.item.steps in COUNTED_STEPS]),
        by_steps=grouped(problems, lambda item: str(item.steps)),
        by_family=grouped(problems, lambda item: item.family),
        records=Share.of([a.right for a in records]),
        perplexity={skill: perplexity(model, items, count) for skill, items in texts.items()},
        partner=partner,
        agreement=_pair(model, loaded["partner"], problems, count) if partner else None,
    )


def check_tokens(loaded: LoadedModel) -> None:
    """`ModelError` unless the model reads the pocket tokenizer's ids: the corpus is written in them."""
    if loaded.tokenizer.get_vocab() != pocket_tokenizer().get_vocab():
        raise ModelError(f"{loaded.id} has other tokens than the pocket models; only models of `pocket train` can be evaluated here.")


class _Count:
    """Items done, of all; `done(n)` tells."""

    def __init__(self, tell: Report, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def __call__(self, n: int, note: str) -> None:
        self._done += n
        self._tell(self._done, self._total, note)


def ask(loaded: LoadedModel, items: Sequence[Item], count: Callable[[int, str], None] = lambda n, note: None) -> list[Answer]:
    """The model's greedy answers, in the order of the items. Rows of like length go together; an answer never depends on its row."""
    prompts = [render(Prompt.user(item.prompt), loaded.tokenizer).ids for item in items]
    order = sorted(range(len(items)), key=lambda i: len(prompts[i]))
    answers: dict[int, Answer] = {}
    for at in range(0, len(order), ROWS):
        chunk = order[at : at + ROWS]
        rows = [prompts[i] for i in chunk]
        said = batch.generate(loaded.model, rows, _greedy(loaded, rows), loaded.stop_ids, [0] * len(rows), loaded.id)
        for i, ids in zip(chunk, said, strict=True):
            answers[i] = Answer(items[i], prompts[i], ids, text_of(loaded, ids))
        count(len(chunk), f"{loaded.id}: {items[0].skill}s")
    return [answers[i] for i in range(len(items))]


def _greedy(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> SamplingParams:
    """As many tokens as an answer may need and the context has room for behind the longest prompt."""
    room = (loaded.passport.context_length or math.inf) - max(map(len, rows))
    return SamplingParams(max_new_tokens=max(1, int(min(MAX_NEW_TOKENS, room))))


def text_of(loaded: LoadedModel, ids: Sequence[int]) -> str:
    """The answer as text, without the stop id at its end."""
    ended = bool(ids) and ids[-1] in loaded.stop_ids
    return loaded.tokenizer.decode(ids[:-1] if ended else ids)


def grouped(answers: Sequence[Answer], key: Callable[[Item], str]) -> dict[str, Share]:
    """The share of right answers under each key, keys in order."""
    outcomes: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        outcomes[key(answer.item)].append(answer.right)
    return {name: Share.of(outcomes[name]) for name in sorted(outcomes)}


def forced(loaded: LoadedModel, rows: Sequence[Sequence[int]]) -> Iterator[tuple[int, torch.Tensor]]:
    """`(index, logits)` of each row, `(len(row), V)` float32, in any order. Padding stands on the right, where nobody looks at it."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for at in range(0, len(order), ROWS // 2):
        chunk = order[at : at + ROWS // 2]
        width = len(rows[chunk[-1]])
        block = torch.tensor([[*rows[i], *[0] * (width - len(rows[i]))] for i in chunk], device=loaded.device)
        with torch.inference_mode():
            logits = loaded.model(input_ids=block, use_cache=False).logits.float()  # (n, width, V)
        for i, row in zip(chunk, logits, strict=True):
            yield i, row[: len(rows[i])]


def perplexity(loaded: LoadedModel, items: Sequence[Item], count: Callable[[int, str], None] = lambda n, note: None) -> Perplexity:
    """Over the tokens that training counts in full: answers and their end, not the prompts."""
    documents = [encode(loaded.tokenizer, item) for item in items]
    total, n_tokens = 0.0, 0
    for i, logits in forced(loaded, [ids for ids, _ in documents]):
        ids, weights = (torch.tensor(column, device=loaded.device)[1:] for column in documents[i])
        losses = torch.nn.functional.cross_entropy(logits[:-1], ids, reduction="none")
        total += losses[weights >= 1].double().sum().item()
        n_tokens += int((weights >= 1).sum())
        count(1, f"{loaded.id}: perplexity")
    return Perplexity(math.exp(total / n_tokens), n_tokens)


def _pair(model: LoadedModel, partner: LoadedModel, problems: Sequence[Answer], count: Callable[[int, str], None]) -> Share:
    report = check_pair(model, partner)
    if not report.compatible:
        raise ModelError(f"They are no pair: {report.sentence}")
    if model.passport.n_parameters >= partner.passport.n_parameters:
        return agreement(partner, problems, count)
    return agreement(model, ask(partner, [a.item for a in problems], count), lambda n, note: None)


def agreement(small: LoadedModel, answers: Sequence[Answer], count: Callable[[int, str], None] = lambda n, note: None) -> Share:
    """How many tokens of these answers (the large model's) are what the small model thinks likeliest at that place."""
    groups = []
    for i, logits in forced(small, [[*a.prompt_ids, *a.ids] for a in answers]):
        before, said = len(answers[i].prompt_ids), answers[i].ids
        chosen = logits[before - 1 : before - 1 + len(said)].argmax(-1).tolist()
        groups.append((sum(a == b for a, b in zip(chosen, said, strict=True)), len(said)))
        count(1, f"{small.id}: agreement")
    return Share.of_groups(groups)
