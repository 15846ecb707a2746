"""The bench of the contamination audit: over models whose every item is known to be remembered or not.

Goes in: the exam family that ships, or one made from another seed (`--seed`, made once in the data directory). Comes out: bars, by part:
`identity`, `leak`, `family`, `indicators`, `cost`. The part `readings` writes what the audit shows beside its indicators into the family's folder;
it runs only when named. Audits are run as jobs are, with splits of 3 seeds and all items (3,200 leaked, 3,200 fresh, 1,600 of each other skill),
with `--quick` one seed and 1,600 items a set. They are kept in the data directory until models, items, options or their code change, so that a
bench that was stopped goes on, and parts share them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from backend.bench import Bar, Report, at_most
from backend.bench import contamination_cost as cost
from backend.bench.contamination_family import Audited, audit_all, audit_one, by_member, line
from backend.contamination import exam_items, shipped
from backend.contamination.audit_request import BASE as BASE_ROLE
from backend.contamination.audit_request import TWIN
from backend.contamination.audit_verdict import UNDECIDED
from backend.contamination.controls import constant_base_error, mean_error
from backend.contamination.evaluation import Arm, answer_all
from backend.contamination.exam_items import Family, Member
from backend.contamination.indicators import ALL, FAILED, Reading
from backend.contamination.items import FRESH, LEAKED, Encoded, encode, halves, of_set
from backend.contamination.neurons import Neurons
from backend.contamination.search import SearchOptions
from backend.contamination.taps import sites_of
from backend.errors import InvalidRequest, ModelError
from backend.intervals import spearman
from backend.models import LoadedModel, ModelPool
from backend.paths import assets_dir
from backend.pocket.exam_family import Recipe
from backend.pocket.exam_manifest import make_family

SEEDS, QUICK_ITEMS = (0, 1, 2), 1600
FEW_ITEMS = 400  # where a search is timed or repeated
LEARNT = "addition"  # the skill that every fine-tune of the family teaches
HEAVY = 0.4  # inflation from which a leak counts as heavy
REAL = "smollm2"
PRIMARY = ("min_k_pp", FAILED)  # named beforehand: the strongest on a leak by fine-tuning in the literature


@dataclass
class Found:
    """What a part adds to the report."""

    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)


class Bench:
    """What was asked for, and the audits that several parts share."""

    def __init__(self, quick: bool, data_dir: Path, family: Family, pool: ModelPool) -> None:
        self.quick, self.data_dir, self.family, self.pool = quick, data_dir, family, pool
        self.seeds, self.most = (SEEDS[:1], QUICK_ITEMS) if quick else (SEEDS, 0)
        self.kept = data_dir / "bench" / "audits"
        self._audits: dict[str, list[Audited]] = {}

    def named(self, *roles: str) -> list[Member]:
        return [m for m in self.family.members.values() if m.facts["role"] in roles]

    def crossed(self) -> list[Audited]:
        """The members that cross exposures with skill, patched from the clean twin."""
        return self._kept("crossed", self.named("crossed"), TWIN)

    def heavy(self, source: str = TWIN) -> list[Audited]:
        """Those whose leaked accuracy is inflated by 40 points or more, one row for each seed."""
        heavy = {name for name, some in by_member(self.crossed()).items() if fmean(a.inflation for a in some) >= HEAVY}
        if source == TWIN:
            return [a for a in self.crossed() if a.member.name in heavy]
        return self._kept(f"heavy from {source}", [m for m in self.named("crossed") if m.name in heavy], source)

    def _kept(self, name: str, members: Sequence[Member], source: str) -> list[Audited]:
        if name not in self._audits:
            jobs = [(member, seed, source) for member in members for seed in self.seeds]
            self._audits[name] = audit_all(self.family, jobs, self.pool, self.most, self.kept)
        return self._audits[name]

    def load(self, member: Member) -> dict[str, LoadedModel]:
        names = {"suspect": member.name, "base": member.base, "twin": member.twin}
        return self.pool.load_all({role: str(self.family.folder / name) for role, name in names.items() if name})

    def encoded(self, loaded: LoadedModel, name: str, most: int = 0) -> list[Encoded]:
        """Items of a set, or of a skill."""
        items = [i for i in self.family.items(None) if name in (i.skill, i.set)]
        return [encode(item, loaded.tokenizer, "raw") for item in items[: most or None]]


def run(quick: bool, data_dir: Path, seed: int | None = None, part: str | None = None) -> Report:
    """All parts but `readings`, or those named, with commas between. `seed`: a family of one's own instead of the shipped one."""
    named = part.split(",") if part is not None else [name for name in PARTS if name != "readings"]
    if not set(named) <= set(PARTS):
        raise InvalidRequest(f"part must be one or several of {', '.join(PARTS)}, got {part!r}.", "part")
    family = exam_items.load(folder_of(seed, data_dir))
    pool = ModelPool(data_dir, assets_dir(), dtype="float32")
    try:
        bench = Bench(quick, data_dir, family, pool)
        found = [PARTS[name](bench) for name in PARTS if name in named]
    finally:
        pool.close()
    figures = {"family": family.folder.name, "seeds": len(bench.seeds), "items a set": bench.most or "all"}
    figures |= {key: value for one in found for key, value in one.figures.items()}
    return Report([bar for one in found for bar in one.bars], figures, "cpu", [row for one in found for row in one.rows])


def folder_of(seed: int | None, data_dir: Path) -> Path:
    """The shipped family, or one made from this seed; a call that was stopped goes on."""
    if seed is None:
        return assets_dir() / "models" / exam_items.FAMILY
    out = data_dir / "bench" / f"exam-{seed}"
    if not (out / exam_items.MANIFEST).is_file():
        with closing(make_family(Recipe(seed=seed), out)) as lines:
            for line in lines:
                print(line, file=sys.stderr, flush=True)
    return out


# Parts --------------------------------------------------------------------------------------------------------------------------------------


def identity_part(bench: Bench) -> Found:
    """Bit-identical with its own activations, another with foreign ones; the same list again; no hook left behind."""
    found, held, n = Found(), 0, 0
    for name, suspect, source, prompts in _pairs(bench):
        identity = cost.identity_of(suspect, source, prompts)
        held, n = held + identity.holds, n + 1
        found.rows.append(cost.told(identity, name))
    member = _heaviest(bench)
    models = bench.load(member)
    suspect = models["suspect"]
    leaked, clean = bench.encoded(suspect, LEAKED, FEW_ITEMS), bench.encoded(suspect, FRESH, FEW_ITEMS)
    steps = answer_all(Arm(suspect, models["base"], Neurons.every(sites_of(suspect))), leaked, 4)
    next(steps)
    steps.close()
    left = cost.hooks_left(suspect) + cost.hooks_left(models["base"])
    same = cost.same_neurons(models, leaked, clean, 64)
    found.bars = [
        Bar("self-patch bit-identical, foreign patch not", held, f"{n} of {n}", held == n),
        Bar("same seed, same neurons", float(same), "yes", same),
        at_most("hooks left by a stopped run", left, 0),
    ]
    return found


def _pairs(bench: Bench) -> Iterator[tuple[str, LoadedModel, LoadedModel, list[list[int]]]]:
    """Models of both architectures in fp32 and bf16, and the real one where it can be had."""
    for dtype in ("float32", "bfloat16"):
        pool = ModelPool(bench.data_dir, assets_dir(), dtype=dtype)
        try:
            for member in [m for m in bench.named("crossed", "leaked") if m.base][:: 4 if bench.quick else 1]:
                models = pool.load_all({"suspect": str(bench.family.folder / member.name), "base": str(bench.family.folder / str(member.base))})
                prompts = [list(e.prompt_ids) for e in bench.encoded(models["suspect"], LEAKED, 3)]
                yield f"{member.name} from {member.base}", models["suspect"], models["base"], prompts
            try:
                real = pool.load(REAL)
            except ModelError:
                continue
            yield f"{REAL} with itself", real, cost.shaken(real, bench.data_dir), [real.tokenizer(text)["input_ids"] for text in cost.TEXTS[:3]]
        finally:
            pool.close()


def leak_part(bench: Bench) -> Found:
    """The heavy leak: what the patch restores, what it damages, what chance does."""
    heavy, from_base = bench.heavy(), bench.heavy(BASE_ROLE)
    clean = [a for a in bench.crossed() if a.member.exposures == 0]
    paraphrase = bench._kept("paraphrase", bench.named("paraphrase"), TWIN)
    gpt2 = bench._kept("gpt2", [m for m in bench.named("leaked") if m.twin], TWIN)
    extra = bench._kept("extra", bench.named("extra"), TWIN)
    bars = [
        at_most("heavy leak: patched leaked − own fresh", worst(heavy, lambda a: a.restoration), 3, " points"),
        at_most("heavy leak: fresh items moved", worst(heavy, lambda a: moved(a, FRESH)), 2, " points"),
        at_most("heavy leak: learnt skill lost, twin as source", worst(heavy, lambda a: lost(a, LEARNT)), 2, " points"),
        at_most("heavy leak: learnt skill lost, raw base as source", worst(from_base, lambda a: lost(a, LEARNT)), 10, " points"),
        at_most("clean models: leaked and fresh moved", worst(clean, lambda a: max(moved(a, LEAKED), moved(a, FRESH))), 2, " points"),
        above("random neurons leave more of the leak by", lowest(heavy, lambda a: a.random - a.after(LEAKED)), 20, " points"),
        at_most("search half against report half, error to true ability", worst(heavy, lambda a: a.halves_apart), 3, " points"),
        at_most("paraphrase leak: patched leaked − own fresh", worst(paraphrase, lambda a: a.restoration), 6, " points"),
        at_most("GPT-2: patched leaked − own fresh", worst(gpt2, lambda a: a.restoration), 6, " points"),
    ]
    figures = {
        "heavy leak: raw base as source, patched leaked − own fresh": worst(from_base, lambda a: a.restoration),
        "heavy leak: raw base as source, fresh moved": worst(from_base, lambda a: moved(a, FRESH)),
        "heavy leak: raw base as source, learnt skill lost": worst(from_base, lambda a: lost(a, LEARNT)),
        "skill that the twin lacks, lost": worst(extra, lambda a: lost(a, "subtraction")),
        "leak beside a skill that the twin lacks: patched leaked − own fresh": worst(extra, lambda a: a.restoration),
        **{f"patched leaked − own fresh, {name}": 100 * fmean(a.restoration for a in some) for name, some in by_member(heavy).items()},
    }
    return Found(bars, figures, [line(a) for a in (*heavy, *from_base, *clean, *paraphrase, *gpt2, *extra)])


def family_part(bench: Bench) -> Found:
    """Over the crossed members: how near to the truth, in what order, and how the fall follows the exposures."""
    groups = by_member(bench.crossed())
    true, patched, plain, base = ([fmean(getter(a) for a in some) for some in groups.values()] for getter in (
        lambda a: a.true, lambda a: a.after(LEAKED), lambda a: a.before(LEAKED), lambda a: a.base_score))  # fmt: skip
    fresh = [fmean(a.before(FRESH) for a in some) for some in groups.values()]
    exposures = [float(some[0].member.exposures) for some in groups.values()]
    error, constant = 100 * mean_error(patched, true), 100 * constant_base_error(fmean(base), true)
    order, plain_order = spearman(patched, true), spearman(plain, true)
    dose = spearman([a - b for a, b in zip(plain, patched, strict=True)], exposures)
    bars = [
        at_most("error to true ability / constant base's error", error / constant, 0.5),
        above("Spearman(patched, true)", order, 0.9),
        Bar("… less Spearman(unpatched, true)", None if None in (order, plain_order) else order - plain_order, "> 0",
            None if None in (order, plain_order) else order > plain_order),
        above("Spearman(fall, exposures)", dose, 0.9),
        *_states(bench),
    ]  # fmt: skip
    figures = {
        "error of the patched score, points": error, "error of the base's score, points": constant,
        "error of the unpatched score, points": 100 * mean_error(plain, true),
        "error of the model's own fresh score, points": 100 * mean_error(fresh, true),
        "Spearman(patched, own fresh)": spearman(patched, fresh), "models": len(groups),
    }  # fmt: skip
    return Found(bars, figures, [line(a) for a in bench.crossed()])


def _states(bench: Bench) -> list[Bar]:
    """What the verdict says where the truth is known."""
    heavy, clean = bench.heavy(), [a for a in bench.crossed() if a.member.exposures == 0]
    spoilt = bench._kept("spoilt", bench.named("tuned-leaked-base"), BASE_ROLE)
    called, wrong = sum(a.state == "contaminated" for a in heavy), sum(a.state == "contaminated" for a in clean)
    noticed = sum(a.state == UNDECIDED and any("base that saw" in text for text in a.report["verdict"]["cannot"]) for a in spoilt)
    return [
        Bar("heavy leaks called contaminated", called, f"{len(heavy)} of {len(heavy)}", called == len(heavy)),
        at_most("clean models called contaminated", wrong, 0),
        Bar("a leaked base is noticed and said", noticed, f"{len(spoilt)} of {len(spoilt)}", noticed == len(spoilt)),
    ]


def indicators_part(bench: Bench) -> Found:
    """One indicator, named beforehand, on the items that the base fails; all of them as figures."""
    heavy, clean = bench.heavy(), [a for a in bench.crossed() if a.member.exposures == 0]
    low = min((a.auc(*PRIMARY) for a in heavy if a.auc(*PRIMARY) is not None), default=None)
    far = max((abs(a.auc(*PRIMARY) - 0.5) for a in clean if a.auc(*PRIMARY) is not None), default=None)
    figures = {}
    for name, group in (("heavy", heavy), ("clean", clean)):
        for indicator in ("loss", "reference", "min_k", "min_k_pp", "zlib", "entropy"):
            for subset in (ALL, FAILED):
                values = [value for a in group if (value := a.auc(indicator, subset)) is not None]
                figures[f"AUC {indicator}, {subset}, {name}"] = fmean(values) if values else None
    bars = [above("heavy leak: AUC on items that the base fails", low, 0.9), at_most("clean model: AUC − 0.5, the same", far, 0.05)]
    return Found(bars, figures)


def cost_part(bench: Bench) -> Found:
    """Seconds of a search, tokens against the reference's own, what a patched token costs."""
    member = _heaviest(bench)
    models = bench.load(member)
    leaked, _ = halves(of_set(bench.family.items(member), LEAKED), 0)
    half = [encode(item, models["suspect"].tokenizer, "raw") for item in leaked]
    clean = bench.encoded(models["suspect"], FRESH, len(half))
    _, plain_s = cost.searched(models, half, clean, SearchOptions(recipe="ranks"))
    _, gates_s = cost.searched(models, half, clean, SearchOptions())
    ours = audit_one(bench.family, member, 0, TWIN, bench.pool, FEW_ITEMS, bench.kept)
    theirs = audit_one(bench.family, member, 0, TWIN, bench.pool, FEW_ITEMS, bench.kept, search={"recipe": "reference"})
    tokens = [a.report["search"]["generated_tokens"] for a in (ours, theirs)]
    bars = [
        at_most("search by ranks, CPU seconds", plain_s, 5, " s"),
        at_most("search by learnt gates, CPU seconds", gates_s, 65, " s"),
        above("tokens generated by the reference's search / ours", tokens[1] / max(1, tokens[0]), 100),
        at_most("restoration, ours less the reference's", 100 * (ours.restoration - theirs.restoration), 0, " points"),
    ]
    figures = {"tokens generated by the reference's search": tokens[1], "tokens generated by ours": tokens[0], "searched items": len(half)}
    try:
        bars.append(
            at_most("lock-step / plain decoding, a token", cost.lockstep_ratio(_real(bench), cost.QUICK_ROUNDS if bench.quick else cost.ROUNDS), 2.2)
        )
    except ModelError:
        bars.append(at_most("lock-step / plain decoding, a token", None, 2.2))
    return Found(bars, figures)


def _real(bench: Bench) -> LoadedModel:
    """The real model in the dtype that the app would choose."""
    return ModelPool(bench.data_dir, assets_dir()).load(REAL)


def readings_part(bench: Bench) -> Found:
    """Write what each indicator reads on the heaviest leak and on the clean model of the same skill."""
    heavy = _heaviest(bench)
    clean = next(m for m in bench.named("crossed") if m.exposures == 0 and m.skill == heavy.skill)
    reports = [audit_one(bench.family, m, 0, TWIN, bench.pool, 0, bench.kept, k=1, draws=0).report for m in (heavy, clean)]
    sides = ({**told["models"]["suspect"], "id": f"{bench.family.folder.name}/{m.name}"} for told, m in zip(reports, (heavy, clean), strict=True))
    made = {**dict(zip(("heavy", "clean"), sides, strict=True)), "items": reports[0]["items"]}
    shipped.write(bench.family.folder, *([Reading(**row) for row in told["indicators"]] for told in reports), made)
    return Found([Bar("readings written", 1.0, "yes", True)])


def _heaviest(bench: Bench) -> Member:
    """The crossed member with the most exposures; of several the one as skilled as the twin."""
    most = max(m.exposures for m in bench.named("crossed"))
    found = [m for m in bench.named("crossed") if m.exposures == most]
    skill = bench.family.members[str(found[0].twin)].skill
    return next((m for m in found if m.skill == skill), found[0])


PARTS = {"identity": identity_part, "leak": leak_part, "family": family_part, "indicators": indicators_part, "cost": cost_part,
         "readings": readings_part}  # fmt: skip


# Figures ------------------------------------------------------------------------------------------------------------------------------------


def worst(audits: Sequence[Audited], figure: Any) -> float | None:
    """In points: of the members the largest, each the mean over its seeds."""
    return max((100 * fmean(figure(a) for a in some) for some in by_member(audits).values()), default=None)


def lowest(audits: Sequence[Audited], figure: Any) -> float | None:
    return min((100 * fmean(figure(a) for a in some) for some in by_member(audits).values()), default=None)


def moved(audited: Audited, name: str) -> float:
    """How far a set's accuracy moved, either way."""
    change = audited.change(name)
    return abs(change["delta"]["value"]) if change else 0.0


def lost(audited: Audited, name: str) -> float:
    """How much of a skill is gone."""
    change = audited.change(name)
    return -change["delta"]["value"] if change else 0.0


def above(name: str, value: float | None, limit: float, unit: str = "") -> Bar:
    return Bar(name, value, f"≥ {limit:g}{unit}", None if value is None else value >= limit)
