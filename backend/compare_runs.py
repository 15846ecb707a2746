"""Which runs a comparison is about.

Goes in: a store, whose runs they are, ids as a link has them. Comes out: records with their lines. An id is a run of one's own, a share id
(`s-…`, with `.2` behind it its second lane) or the id of a recording that ships; a single one stands for all lanes of its press of Run.
Doesn't know what is compared.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from backend import examples
from backend.compare import MOST_RUNS
from backend.errors import InvalidRequest, WorkbenchError
from backend.rerun import recorded_group
from backend.shares import Shares
from backend.store import Store
from backend.types import RunRecord

SHARED = re.compile(r"(s-[0-9a-f]{32})(?:\.([1-9]))?")


def split(text: str) -> list[str]:
    """The ids of a link's `runs`, in order."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def chosen(store: Store, owner: str, ids: Sequence[str]) -> list[RunRecord]:
    """The runs by their ids, in that order; of a single id all lanes beside it, itself first, as many as a comparison takes.

    Raises `InvalidRequest` for more than a comparison takes, `WorkbenchError` for an id that there is no run of for this owner.
    """
    return [record for _, record in named(store, owner, ids)]


def named(store: Store, owner: str, ids: Sequence[str]) -> list[tuple[str, RunRecord]]:
    """What `chosen` gives, each run with the id that opens it again."""
    if len(ids) > MOST_RUNS:
        raise InvalidRequest(f"A comparison takes at most {MOST_RUNS} runs, got {len(ids)}.", "runs")
    if len(ids) != 1:
        return [(run_id, run_of(store, owner, run_id)) for run_id in ids]
    lanes, place = lanes_of(store, owner, ids[0])
    order = [place, *(i for i in range(len(lanes)) if i != place)][:MOST_RUNS]
    shared = SHARED.fullmatch(ids[0])
    return [(lane_id(shared[1], i) if shared else lanes[i].id, lanes[i]) for i in order]


def lane_id(share: str, place: int) -> str:
    """The id of one lane of a shared run."""
    return f"{share}.{place + 1}" if place else share


def run_of(store: Store, owner: str, run_id: str) -> RunRecord:
    """One run with its lines, without reading the lanes beside it where it has a row of its own."""
    if not SHARED.fullmatch(run_id) and examples.recorded_run(run_id) is None:
        return store.get(run_id, owner)
    lanes, place = lanes_of(store, owner, run_id)
    return lanes[place]


def lanes_of(store: Store, owner: str, run_id: str) -> tuple[list[RunRecord], int]:
    """All lanes of the press of Run that this id belongs to, with lines, and the place of the one that it names."""
    shared = SHARED.fullmatch(run_id)
    if shared is not None:
        lanes, place = Shares(store).open(shared[1])[0], int(shared[2] or 1) - 1
        if place >= len(lanes):
            raise WorkbenchError(f"{run_id} asks for lane {place + 1}, the shared run has {len(lanes)}.")
        return lanes, place
    if examples.recorded_run(run_id) is not None:
        lanes = recorded_group(run_id)
    else:
        record = store.get(run_id, owner)
        lanes = store.group(record.group, owner)[0] if record.group else [record]
    return lanes, next(i for i, lane in enumerate(lanes) if lane.id == run_id)


def public_ids(store: Store, owner: str, ids: Sequence[str]) -> list[str] | None:
    """The same runs by ids that anybody can open: those of recordings and shares as they are, a run of one's own by its share id if it is
    shared; None if one is not."""
    made = []
    for run_id in ids:
        if SHARED.fullmatch(run_id) or examples.recorded_run(run_id) is not None:
            made.append(run_id)
            continue
        share = Shares(store).share_id(run_id, owner)
        if share is None:
            return None
        made.append(lane_id(share, lanes_of(store, owner, run_id)[1]))
    return made
