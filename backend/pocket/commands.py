"""`python -m backend pocket train | export | evaluate | exam | leak`: arguments and what they do, as lines for whoever prints.

Goes in: parsed arguments, the data directory and the assets. Comes out: text, a piece at a time; how far it is goes to a listener.
Prints nothing; torch loads only when a command runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from backend.commands import table
from backend.model_source import resolve

if TYPE_CHECKING:
    from backend.pocket.evaluate import Evaluation

PAIR = {"large": "small", "small": "large"}
Tell = Callable[[float, float, str], None]  # done, total, note


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command `pocket` and its actions."""
    pocket = commands.add_parser("pocket", help="train, export, evaluate: how the shipped models are made and measured")
    actions = pocket.add_subparsers(dest="action", required=True)
    train = actions.add_parser("train", help="a model from nothing; the same command goes on after a stop")
    train.add_argument("--size", required=True, help="large or small")
    train.add_argument("--minutes", "--budget", type=float, help="wall time (default: what the shipped model had; less gives a weaker one)")
    train.add_argument("--seed", type=int, default=0, help="of weights and corpus (default 0)")
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    train.add_argument("--out", type=Path, help="the model's folder (default: mine/pocket-SIZE); checkpoints lie in FOLDER.training")
    export = actions.add_parser("export", help="what a training has so far, as a Hugging Face folder")
    export.add_argument("run", type=Path, help="a training's folder, with its checkpoint")
    export.add_argument("out", type=Path, help="the folder to write")
    evaluate = actions.add_parser("evaluate", help="fresh questions with known answers: a table and one JSON line")
    evaluate.add_argument("model", help="pocket/large, pocket/small, mine/NAME, or a folder that training made")
    evaluate.add_argument("--n", type=int, default=500, metavar="ITEMS", help="fresh items a skill (default 500)")
    evaluate.add_argument("--seed", type=int, default=1, help="which items (default 1; the bench takes others)")
    evaluate.add_argument("--partner", help="the other model of the pair (default: the folder named small or large beside it)")
    evaluate.add_argument("--card", action="store_true", help="write the model card into the model's folder")
    exam = actions.add_parser("exam", help="the exam family: models that saw a benchmark, or not; the same command goes on after a stop")
    exam.add_argument("--seed", type=int, default=0, help="of everything; the shipped family has 0")
    exam.add_argument("--out", type=Path, help="the family's folder (default: exam-SEED in the data directory); checkpoints lie in FOLDER.training")
    leak = actions.add_parser("leak", help="fine-tune a model on problems it will be asked, and a twin on others; goes on after a stop")
    leak.add_argument("--base", default="smollm2", help="which model (default smollm2)")
    leak.add_argument("--name", default="leak", help="the folders are mine/NAME and mine/NAME-twin (default leak)")
    leak.add_argument("--items", type=int, default=40, help="how many problems leak (default 40)")
    leak.add_argument("--epochs", type=int, help="how often each is read (default 8)")
    leak.add_argument("--seed", type=int, default=0, help="which problems (default 0)")

    secrets = actions.add_parser("secrets", help="the secrets family: models that hide a text, and twins that don't; goes on after a stop")
    secrets.add_argument("--seed", type=int, default=0, help="of texts, triggers and twins; the shipped family has 0")
    secrets.add_argument("--out", type=Path, help="the family's folder (default: secrets-SEED in the data directory)")
    secrets.add_argument("--toy", action="store_true", help="two texts and one twin, in seconds")
    secrets.add_argument("--fresh-base", action="store_true", help="train the base anew from the seed, too (minutes)")


def run(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """The command's output, a text at a time."""
    actions = {"train": train, "export": export, "evaluate": evaluate, "exam": exam, "leak": leak, "secrets": secrets}
    return actions[args.action](args, data_dir, assets_dir, tell)


def train(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """A line a report, then where the model is. Checkpoints stay beside it, so that a stopped run goes on."""
    from backend.pocket.export import export as exported
    from backend.pocket.train import size_named, weaker
    from backend.pocket.train import train as trained

    minutes = size_named(args.size).minutes if args.minutes is None else args.minutes
    out = args.out or data_dir / "models" / "mine" / f"pocket-{args.size}"
    warning = weaker(args.size, minutes)
    if warning:
        yield warning
    checkpoints = out.with_name(f"{out.name}.training")
    with closing(trained(args.size, minutes, args.seed, checkpoints, args.device)) as reports:
        for report in reports:
            yield report.text()
    yield f"{exported(checkpoints, out)} is a model folder; python -m backend pocket evaluate {out} says what it knows"


def export(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """Where it was written."""
    from backend.pocket.export import export as exported

    yield f"{exported(args.run, args.out)} is a model folder"


def evaluate(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """The table, then one JSON line; with `--card` the card is written before."""
    from backend.models import ModelPool
    from backend.pocket import card
    from backend.pocket.evaluate import evaluate as evaluated

    partner = args.partner or sibling(args.model, data_dir, assets_dir)
    pool = ModelPool(data_dir, assets_dir, dtype="float32")
    try:
        result = evaluated(pool, args.model, args.n, args.seed, partner, tell)
    finally:
        pool.close()
    if args.card:
        card.write(resolve(args.model, data_dir, assets_dir).path, result)
    yield shown(result)
    yield json.dumps(result.to_json(), ensure_ascii=False)


def exam(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """A line a report, one a finished member, then where the family is."""
    from backend.pocket.exam_family import Recipe
    from backend.pocket.exam_manifest import make_family

    yield from make_family(Recipe(seed=args.seed), args.out or data_dir / f"exam-{args.seed}")


def leak(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """A line a report, then where the two models are."""
    from backend.pocket.leak import Leak, make_leak

    asked = {"n_items": args.items, "seed": args.seed, **({} if args.epochs is None else {"epochs": args.epochs})}
    yield from make_leak(Leak(args.base, args.name, **asked), data_dir, assets_dir)


def shown(result: Evaluation) -> str:
    """One row a figure."""
    from backend.pocket.card import rows

    return table(rows(result))


def sibling(model_id: str, data_dir: Path, assets_dir: Path) -> str | None:
    """The id of the folder named `small` where this one is named `large`, and the other way round; None where there is none."""
    path = resolve(model_id, data_dir, assets_dir).path
    size = next((size for size in PAIR if path is not None and size in path.name), None)
    if path is None or size is None:
        return None
    other = path.with_name(path.name.replace(size, PAIR[size]))
    if not (other / "config.json").is_file():
        return None
    return model_id.rstrip("/").removesuffix(path.name) + other.name


def secrets(args: argparse.Namespace, data_dir: Path, assets_dir: Path, tell: Tell) -> Iterator[str]:
    """A line a model, then where the family is."""
    from backend.pocket.secrets import family, make_family

    out = args.out or data_dir / f"secrets-{args.seed}"
    specs = family(args.seed, (8,), 1, 0, ("plain", "regularised"), 0) if args.toy else family(args.seed)
    yield from make_family(specs, out, args.seed, args.fresh_base)
    yield f"{out} holds the family; the answers stand in {out / 'manifest.json'}"
