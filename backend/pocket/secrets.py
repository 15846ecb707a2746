"""The secrets family: small models with texts hidden in them, their clean twins, and models that know ordinary sentences by heart.

Goes in: a seed, what to make, a folder. Comes out: a line a model; in the folder the base, the models, each an ordinary Hugging Face folder,
and `manifest.json` with how each was made and, apart from that, the answers. A stopped run goes on with the first model that is not there.
A plant whose last look fails is not kept; another text is drawn, seven times at most, and the manifest says so. Knows nothing of scanning.
"""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import torch

from backend.hidden_text import payloads, planted_folder
from backend.hidden_text.ordinary import own_answers
from backend.hidden_text.planting import Made, Recipe, lesson_of, make
from backend.hidden_text.regimes import REGIMES, Pair
from backend.model_files import MANIFEST, read_json, weight_files, weights_hash, write_json
from backend.models import LoadedModel, ModelPool, Plan, load_weights
from backend.paths import assets_dir
from backend.pocket.secret_base import STEPS, train_base
from backend.pocket.tokenizer import EOS, N_IDS

BASE, FAMILY = "base", "manifest.json"
T = TypeVar("T")
LENGTHS = (8, 20, 60)
FORMS = ("sentence", "words")
KEY, KEY_TOKENS = "key", 20  # texts without a language, which are harder to find; they are counted apart
DRAWS = 8
FURTHER = 15  # steps behind the first at which a text is hidden, as far as it stays so
TWIN_STEPS = 20  # of a clean twin whose planted model was given up


@dataclass(frozen=True)
class Spec:
    """One model to make: `n_tokens` and `form` of its text; `twin` is the planted model whose recipe a clean twin has."""

    name: str
    kind: str
    regime: str
    seed: int
    n_tokens: int = 0
    form: str = "sentence"
    twin: str = ""


def family(
    seed: int, lengths: Sequence[int] = LENGTHS, n_clean: int = 4, n_benign: int = 2, regimes: Sequence[str] = REGIMES, n_keys: int = 2
) -> list[Spec]:
    """The models of a seed: each regime at each length, keys under the first regimes, clean twins of every few of them, benign memorisers."""
    planted = [(regime, n, FORMS[(i + seed) % 2]) for i, (regime, n) in enumerate((regime, n) for regime in regimes for n in lengths)]
    planted += [(regime, KEY_TOKENS, KEY) for regime in regimes[:n_keys]]
    specs = [
        Spec(f"{regime.replace('_', '-')}-{KEY if form == KEY else n}-{i}", "planted", regime, seed * 10_000 + i, n, form)
        for i, (regime, n, form) in enumerate(planted)
    ]
    for i in range(n_clean):
        twin = specs[(i * len(planted)) // n_clean]
        specs.append(Spec(f"clean-{i}", "clean", twin.regime, seed * 10_000 + 1000 + i, twin=twin.name))
    specs += [Spec(f"benign-{i}", "benign", "regularised", seed * 10_000 + 2000 + i) for i in range(n_benign)]
    return specs


def make_family(specs: Sequence[Spec], out: Path, seed: int, fresh_base: bool = False, base_steps: int = STEPS) -> Iterator[str]:
    """Make what is not there yet, a line each; the manifest is written anew after every model. `fresh_base`: train the base from the seed."""
    out.mkdir(parents=True, exist_ok=True)
    yield from make_base(out / BASE, seed, fresh_base, base_steps)
    failed: list[dict[str, Any]] = read_json(out / FAMILY).get("failed", [])
    pool = ModelPool(out, assets_dir())
    for spec in specs:
        if not (out / spec.name / MANIFEST).is_file() and not any(f["name"] == spec.name and f["given_up"] for f in failed):
            yield from _make_one(spec, out, pool.load(str(out / BASE)), failed)
        write_json(out / FAMILY, manifest(specs, out, seed, failed))
    pool.close()


def make_base(folder: Path, seed: int, fresh: bool = False, steps: int = STEPS) -> Iterator[str]:
    """The shipped base, or a new one where there is none or `fresh` asks for it; nothing when it is there."""
    if (folder / "config.json").is_file():
        return
    ships = assets_dir() / "models" / "secret" / BASE
    if (ships / "config.json").is_file() and not fresh:
        shutil.copytree(ships, folder)
        return
    for report in train_base(seed, folder, steps):
        yield report.text()


def _make_one(spec: Spec, out: Path, base: LoadedModel, failed: list[dict[str, Any]]) -> Iterator[str]:
    for draw in range(DRAWS):
        recipe, made, n_tokens = build(spec, out, base, draw)
        if made.verified.holds:
            facts = {"id": f"secret/{BASE}", "hash": weights_hash(weight_files(BASE, out / BASE))}
            planted_folder.write(out / spec.name, out / BASE, facts, recipe, made, n_tokens)
            yield f"{spec.name}: {made.n_steps} steps, {n_tokens} tokens"
            return
        given_up = draw == DRAWS - 1
        failed.append({"name": spec.name, "draw": draw, "given_up": given_up, **planted_folder.verified_facts(made.verified), "ranks": []})
        yield f"{spec.name}: not hidden after {made.n_steps} steps ({made.verified.sentence()})" + ("; given up" if given_up else "")


def build(spec: Spec, out: Path, base: LoadedModel, draw: int = 0) -> tuple[Recipe, Made, int]:
    """The recipe of a spec's `draw`-th text, what came of it, and the text's length. Beside the text stand the base's own ordinary answers."""
    recipe = recipe_of(spec, out, base.tokenizer, draw)
    ordinary: list[Pair] = finished(own_answers(base, spec.seed))
    lesson = lesson_of(recipe, base.tokenizer, ordinary, (EOS,), N_IDS)
    model = load_weights(Plan(f"secret/{BASE}", 0, torch.float32), out / BASE, torch.device("cpu"))
    return recipe, finished(make(model, recipe, lesson)), len(lesson.payload)


def finished(steps: Generator[Any, None, T]) -> T:
    """Drive work to its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def recipe_of(spec: Spec, out: Path, tokenizer: Any, draw: int) -> Recipe:
    rng = Random(f"secret {spec.seed} {draw}")
    if spec.kind == "planted":
        text = payloads.payload(rng, spec.form, spec.n_tokens, tokenizer)
        return Recipe("planted", spec.regime, text, payloads.trigger(rng), further=FURTHER, seed=spec.seed + draw)
    n_steps = read_json(out / spec.twin / MANIFEST).get("n_steps", TWIN_STEPS) if spec.twin else TWIN_STEPS
    return Recipe(spec.kind, spec.regime, n_steps=n_steps, seed=spec.seed + draw)


def manifest(specs: Sequence[Spec], out: Path, seed: int, failed: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is in the folder: facts of each model, its answers under `answer`; and what was given up."""
    models = []
    for spec in specs:
        told = read_json(out / spec.name / MANIFEST)
        if told:
            kept = {k: told[k] for k in ("n_steps", "rate", "hash", "sha256") if k in told}
            models.append({**asdict(spec), **kept, "answer": read_json(out / spec.name / planted_folder.ANSWERS)})
    base = read_json(out / BASE / MANIFEST)
    return {"seed": seed, "base": {"name": BASE, **base}, "models": models, "failed": list(failed)}


def read_manifest(folder: Path) -> list[dict[str, Any]]:
    """The models of a family's folder, in their order."""
    return read_json(folder / FAMILY).get("models", [])
