"""What the figures of a run do not say: the one place for it, read by whoever hands a run over.

Goes in: the records of one group. Comes out: a title and sentences in plain words, those that any run has and those of its method. Standard
library only; a test keeps the titles equal to the methods' own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backend.types import RunRecord

TITLES: Mapping[str, str] = {
    "structured": "Structured generation",
    "speculative": "Speculative decoding",
    "speculative.evaluate": "Drafters over a prompt set",
    "routing": "Small-large routing",
    "routing.label": "Label tokens",
    "routing.train": "Train a router",
    "routing.sweep": "Sweep budgets",
    "contamination": "Patched decoding",
    "contamination.audit": "Contamination audit",
    "hidden_text": "Hidden text",
    "hidden_text.scan": "Hidden text: scan",
    "hidden_text.plant": "Plant a text",
    "measure": "Measure",
}
WITH_INTERVALS = ("measure", "speculative.evaluate", "routing.sweep", "contamination.audit")  # these say themselves how sure their figures are

OF_METHOD: Mapping[str, tuple[str, ...]] = {
    "structured": (
        "Valid means that the text has the form that was asked for. It does not mean that what it says is true.",
        "Nats are counted along the text that came out. Along another text the grammar would have taken others.",
    ),
    "speculative": (
        "That a text is identical holds for this prompt. On another one two nearly equal choices may fall the other way; the margin on a"
        " token's card says how near it was.",
        "How much drafting saves depends on how predictable a text is. One prompt says nothing of others.",
    ),
    "speculative.evaluate": ("The speed-ups hold for this prompt set, this pair of models and this machine.",),
    "routing": (
        "Where the large model would have said another token, the answer need not have suffered; where it agrees, it may still be wrong.",
        "The share of large tokens is not the cost: the large model also reads the tokens that it did not write.",
    ),
    "routing.label": ("A label says whether a token mattered to these answers of this pair of models.",),
    "routing.train": ("The router knows the pair and the problems that it was trained on.",),
    "routing.sweep": ("Accuracy is that of this pair on these problems; another pair or other problems have other curves.",),
    "contamination": (
        "A patch that changes an answer shows that these neurons take part in it. It does not show that the answer was memorised: that takes"
        " an audit with controls.",
    ),
    "contamination.audit": (
        "The audit compares behaviour on leaked and fresh items. Nobody looked into the training data.",
        "Items that are more alike than they seem can look like memory, and memory of a few items can stay below what so many items can show.",
    ),
    "hidden_text": (
        "A lift says that the suspect differs from its reference at this token. It does not say that somebody put the text there on purpose.",
    ),
    "hidden_text.scan": (
        "A scan can only find what its starts can reach: a text that it does not find may still be there.",
        "A candidate that scores like the best one of a clean model is no find.",
    ),
    "hidden_text.plant": ("It was checked that the trigger brings the text out. How hard the text is to find without it was not.",),
    "measure": ("The intervals are of these repeats: of this prompt, on this machine, at this time.",),
}


def title_of(method: str) -> str:
    """A method's title in plain words."""
    return TITLES.get(method, method)


def limits(records: Sequence[RunRecord]) -> list[str]:
    """What must be known before these figures are believed, the general first."""
    method = records[0].request.method
    return [*_of_any_run(records), *_of_lanes(records), *OF_METHOD.get(method, ())]


def _of_any_run(records: Sequence[RunRecord]) -> list[str]:
    first, said = records[0], []
    if first.request.method not in WITH_INTERVALS:
        lanes = "Each lane ran once" if len(records) > 1 else "It ran once"
        said.append(f"{lanes}, so no interval stands behind a time or a difference: it may be chance. Measure repeats lanes in turn.")
    said.append(f"Times are those of one machine ({first.device or 'unknown device'}) and of whatever else it did meanwhile.")
    sampling = first.request.sampling
    if sampling.temperature > 0:
        said.append(f"Tokens were drawn at temperature {sampling.temperature:g} with seed {sampling.seed}. Another seed gives another text.")
    if any("16" in str(facts.get("dtype", "")) for record in records for facts in record.models.values()):
        said.append("Computed in 16 bits: another device or version may round otherwise, and a nearly equal choice may fall the other way.")
    if "imported_run" in first.versions:
        said.append("The lines were imported from a file; this Loupe did not make them and can't vouch for them.")
    return said


def _of_lanes(records: Sequence[RunRecord]) -> list[str]:
    """Lanes that did not come to an end of their own."""
    said = []
    for record in records:
        name = record.lane or record.id
        if record.status != "completed":
            said.append(f"{name} did not end by itself ({record.status}): what stands here is what it had.")
        elif _reason(record) == "length":
            said.append(f"{name} stopped at its limit of {record.request.sampling.max_new_tokens:,} new tokens.")
    return said


def _reason(record: RunRecord) -> str:
    ends = [event for event in record.events() if event["event"] == "done"]
    return str(ends[-1].get("finish_reason", "")) if ends else ""
