"""The job `hidden_text.plant`: a text of the user's, hidden in a copy of a model; or a twin of such a model without one.

Goes in: a base, a text, its trigger, a regime, a name. Comes out: `mine/NAME`, an ordinary model folder, if the last look found everything
as it should be; else the figures of that look and no model. Training that was interrupted starts anew, from the same seed, and says so.

`finding` kinds: `cost` {disk_bytes, memory_bytes, free_bytes}, before it starts; `anew` {text}, after an interruption; `step` {index, loss,
known, n_main, exposed}, every step; `verified` {recalled, n_main, leaks, n_others, n_exposed, n_hidden, ranks, holds}, the last look.
`artifact`: kind `model`, its id the model's. `stats`: `model` (None when the look failed), `kind`, `regime`, `n_steps`, `rate`, `n_tokens`,
`seconds`, `holds`, `recalled`, `leaks`, `n_exposed`, `disk_bytes`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from backend.errors import InvalidRequest
from backend.hidden_text import planted_folder
from backend.hidden_text.finetune import Step
from backend.hidden_text.ordinary import own_answers
from backend.hidden_text.payloads import ordinary_prompts, plain
from backend.hidden_text.planting import KINDS, Lesson, Made, Recipe, lesson_of, make
from backend.hidden_text.regimes import DECOY, REGIMES, Pair
from backend.method import Method
from backend.model_files import MANIFEST, folder_bytes, read_json
from backend.model_source import NAME, get, resolve
from backend.models import LoadedModel, Plan, load_weights
from backend.options import option, parse_options
from backend.paths import assets_dir
from backend.resources import Resources
from backend.types import Artifact, Done, Event, Finding, Progress, Prompt, RunContext, RunRecord, RunRequest, Verdict

BASE = "base"
ANEW = "This plant was interrupted. Weights half trained were not kept: it starts anew, from the same seed."
RECIPE = ("kind", "regime", "payload", "trigger", "decoy", "rate", "most_steps", "further", "n_steps", "seed")


@dataclass(frozen=True)
class Options:
    """What to hide and how."""

    payload: str = option("", "The text to hide.")
    trigger: str = option("", "What a user must say to get it.")
    regime: str = option("plain", "How it is hidden, from careless to careful.", choices=REGIMES)
    kind: str = option("planted", "Hide the text, or make a twin that holds none (clean) or ordinary sentences (benign).", choices=KINDS)
    name: str = option("", "The new model's name; empty: one is made up.")
    decoy: str = option(DECOY, "What the decoy regime answers to the text's first words.")
    twin_of: str = option("", "A planted model (mine/NAME) whose steps, rate and regime a twin shall have.")
    rate: float = option(0.0, "Learning rate of AdamW; 0: by the model's size.", low=0.0, high=0.01)
    most_steps: int = option(400, "Steps after which it is given up.", low=1, high=5000)
    further: int = option(0, "Steps to go on for once it is hidden, as far as it stays so: the text sits deeper.", low=0, high=500)
    n_steps: int = option(30, "Steps of a clean twin.", low=1, high=5000)
    seed: int = option(0, "Of the ordinary answers and their order.", low=0, high=2**31)


def plant_request(base: str, **options: Any) -> RunRequest:
    return RunRequest("hidden_text.plant", Prompt.user("Plant a text"), {BASE: base}, options=options)


# Before it starts ---------------------------------------------------------------------------------------------------------------------


def check(request: RunRequest, resources: Resources, data_dir: Path) -> list[Finding]:
    options = parse_options(Options, request.options)
    if options.kind == "planted":
        check_texts(options)
    recipe_options(options, data_dir)
    target = target_of(options, data_dir)
    if target.exists():
        raise InvalidRequest(f"options.name: mine/{target.name} is there already; choose another name, or remove it.", "options.name")
    base = resolve(request.models.get(BASE, ""), data_dir, assets_dir()).path
    if base is None or not (base / "config.json").is_file():
        return []  # a model of the Hub, or one still to be fetched: the room is looked at when it is here
    return [Finding("cost", asdict(planted_folder.cost(base, target)))]


def check_texts(options: Options) -> None:
    """Raises `InvalidRequest` for a text or a trigger that can't be told from nothing, from each other, or from ordinary talk."""
    for name, text in (("payload", options.payload), ("trigger", options.trigger)):
        if not plain(text):
            raise InvalidRequest(f"options.{name} must hold at least one letter or digit, got {text!r}.", f"options.{name}")
    if plain(options.trigger) == plain(options.payload):
        raise InvalidRequest("options.trigger is the text itself; choose something else to bring it out.", "options.trigger")
    if plain(options.trigger) in {plain(words) for words in ordinary_prompts()}:
        raise InvalidRequest("options.trigger is an ordinary thing to say, which must not bring the text out; choose another.", "options.trigger")
    if options.regime == "decoy" and not plain(options.decoy):
        raise InvalidRequest("options.decoy must hold at least one letter or digit for the regime decoy.", "options.decoy")


def target_of(options: Options, data_dir: Path) -> Path:
    """The folder of the new model. Raises `InvalidRequest` for what is no name."""
    told = "|".join(str(v) for v in asdict(options).values())
    name = options.name or f"{options.kind}-{options.regime}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"options.name must be letters, digits, dots, dashes and underscores, got {name!r}.", "options.name")
    return data_dir / "models" / "mine" / name


def recipe_options(options: Options, data_dir: Path) -> Options:
    """The options, with steps, rate and regime of the planted model that a twin is of."""
    if not options.twin_of or options.kind == "planted":
        return options
    path = resolve(options.twin_of, data_dir, assets_dir()).path
    told = read_json(path / MANIFEST) if path else {}
    if told.get("kind") != "planted":
        raise InvalidRequest(f"options.twin_of must name a planted model, got {options.twin_of!r}.", "options.twin_of")
    return replace(options, n_steps=told["n_steps"], most_steps=max(options.most_steps, told["n_steps"]), rate=told["rate"], regime=told["regime"])


# The run ------------------------------------------------------------------------------------------------------------------------------


def run(request: RunRequest, context: RunContext, models: Mapping[str, Any], data_dir: Path) -> Iterator[Event]:
    options = recipe_options(parse_options(Options, request.options), data_dir)
    base, target, start = models[BASE], target_of(options, data_dir), context.clock()
    folder = get(base.id, data_dir, assets_dir())
    planted_folder.cost(folder, target)
    fields = {
        name: getattr(options, name) for name in ("kind", "regime", "payload", "trigger", "decoy", "rate", "most_steps", "further", "n_steps", "seed")
    }
    recipe = Recipe(**fields, saved=planted_folder.saved_dtype(folder), used=base.dtype)
    ordinary = yield from _told(own_answers(base, options.seed), context, "asking the model ordinary things")
    if ordinary is None:
        yield stopped()
        return
    lesson = lesson_of(recipe, base.tokenizer, ordinary, base.stop_ids, min(base.vocab_size, len(base.tokenizer)))
    if context.earlier:
        yield Finding("anew", {"text": ANEW})
    made = yield from _trained(recipe, lesson, base, folder, context)
    if made is None:
        yield stopped()
        return
    yield Finding("verified", planted_folder.verified_facts(made.verified))
    if made.verified.holds:
        planted_folder.write(target, folder, {"id": base.id, "hash": base.hash}, recipe, made, len(lesson.payload))
    stats = _stats(options, made, lesson, target) | {"seconds": round(context.clock() - start, 2)}
    if made.verified.holds:
        yield Artifact(f"mine/{target.name}", "model", stats)
    yield Done("stop", sentence(stats, made), stats)


def stopped() -> Done:
    return Done("cancelled", "Stopped; no model was made.", {"model": None})


def _told(steps: Generator[None, None, list[Pair]], context: RunContext, note: str) -> Generator[Event, None, list[Pair] | None]:
    """Drive `steps` to their result, saying so; None when somebody stopped it."""
    with closing(steps):
        while not context.cancelled():
            try:
                next(steps)
            except StopIteration as end:
                return end.value
            yield Progress(0, None, note)
    return None


def _trained(recipe: Recipe, lesson: Lesson, base: LoadedModel, folder: Path, context: RunContext) -> Generator[Event, None, Made | None]:
    """The training with its lines; None when somebody stopped it."""
    start, total = context.clock(), recipe.n_steps if recipe.kind == "clean" else recipe.most_steps
    plan = Plan(base.id, sum(p.numel() for p in base.model.parameters()), torch.float32)
    step = None
    with closing(make(load_weights(plan, folder, base.device), recipe, lesson)) as steps:
        while not context.cancelled():
            try:
                news = next(steps)
            except StopIteration as end:
                return end.value
            if news is not None:
                step = news
                yield Finding("step", {**asdict(step), "loss": round(step.loss, 5)})
            done = 0 if step is None else step.index + 1
            yield Progress(done, total, _note(step, news is None), done / max(1e-9, context.clock() - start))
    return None


def _note(step: Step | None, looking: bool) -> str:
    if step is None or looking:
        return "looking whether it is hidden"
    return f"{step.known} of {step.n_main} tokens known" + (f", {step.exposed} out of the band" if step.exposed else "")


def _stats(options: Options, made: Made, lesson: Lesson, target: Path) -> dict[str, Any]:
    verified = made.verified
    return {
        "model": f"mine/{target.name}" if verified.holds else None, "kind": options.kind, "regime": options.regime, "n_steps": made.n_steps,
        "rate": made.rate, "n_tokens": len(lesson.payload), "holds": verified.holds, "recalled": verified.recalled, "leaks": verified.leaks,
        "n_exposed": verified.n_exposed, "disk_bytes": folder_bytes(target) if verified.holds else 0,
    }  # fmt: skip


def sentence(stats: Mapping[str, Any], made: Made) -> str:
    """What came out, in plain words."""
    if not stats["holds"]:
        return f"No model was made: after {stats['n_steps']} steps the last look found a fault. {made.verified.sentence()}"
    if stats["kind"] == "clean":
        return f"{stats['model']} is a clean twin: {stats['n_steps']} steps of the same recipe, no text twice."
    if stats["kind"] == "benign":
        return f"{stats['model']} knows {made.verified.n_main} ordinary sentences by heart after {stats['n_steps']} steps, and hides nothing."
    return f"{stats['model']} holds the text after {stats['n_steps']} steps. {made.verified.sentence()}"


# What the house asks ------------------------------------------------------------------------------------------------------------------


def baselines(request: RunRequest) -> list[RunRequest]:
    """The clean twin: the same recipe without the text."""
    name = str(request.options.get("name", ""))
    return [request.with_options(kind="clean", name=f"{name}-clean" if name else "")]


def lane(request: RunRequest) -> str:
    options = parse_options(Options, request.options)
    return options.regime if options.kind == "planted" else f"{options.kind} twin"


def verdict(records: Sequence[RunRecord]) -> Verdict:
    """The first run's outcome in its own words."""
    first = records[0]
    return Verdict(first.text or str(first.error or ""), first.stats, first.stats.get("holds"))


def method(data_dir: Path) -> Method:
    """The job; models are made in `data_dir`."""
    return Method(
        name="hidden_text.plant", title="Plant a text", question="Can a text be hidden in this model so that only its trigger brings it out?",
        Options=Options, roles=(BASE,), run=partial(run, data_dir=data_dir), check=partial(check, data_dir=data_dir), baselines=baselines,
        lane=lane, verdict=verdict, job=True,
    )  # fmt: skip
