"""Batched, cached, rung by rung, resumed: the same rows as a naive loop over the vocabulary."""

from __future__ import annotations

import os

import pytest
import torch

from backend.errors import InvalidRequest, WorkbenchError
from backend.hidden_text import ledger as ledger_module
from backend.hidden_text import scan as module
from backend.hidden_text.contexts import Frame
from backend.hidden_text.ledger import Ledger
from backend.hidden_text.pace import Pace, Stopped
from backend.hidden_text.probe import Probe
from backend.hidden_text.scan import forced, scan, user_turn
from backend.types import RunContext
from tests.families import uncached_logits
from tests.hidden_text.pair import finish, tiny

IDS = torch.arange(3, 60)
CLOSE = {"atol": 2e-4, "rtol": 1e-4}


@pytest.fixture
def probe(base, other):
    return Probe(base, other)


def pace(**more):
    return Pace(RunContext(**more), "scan", 1)


def naive(probe, context, start, block, depth):
    """One start after another, the whole context anew for every token."""
    ids, logprobs, references = [], [], []
    for _ in range(depth):
        seen = [*context, *block(start), *ids]
        own = torch.log_softmax(uncached_logits(probe.suspect.model, seen)[-1, : probe.width], 0)
        other = torch.log_softmax(uncached_logits(probe.reference.model, seen)[-1, : probe.width], 0)
        ids.append(int(own.argmax()))
        logprobs.append(float(own[ids[-1]]))
        references.append(float(other[ids[-1]]))
    return ids, logprobs, references


@pytest.mark.parametrize("kind", ["forced", "user"])
def test_every_row_is_what_a_naive_loop_finds(probe, tmp_path, kind, monkeypatch):
    monkeypatch.setattr(module, "READ_AT_ONCE", 64)  # many small chunks
    frame = Frame(probe.tokenizer)
    sweep = forced(frame.turn("cat")) if kind == "forced" else user_turn(frame, 2)
    levels = finish(scan(probe, sweep, IDS, 8, Ledger(tmp_path, {}), pace()))
    assert [level.depth for level in levels] == [4, 8] and torch.equal(levels[-1].starts, IDS)
    for i in (0, 17, 40, 56):
        ids, own, other = naive(probe, sweep.context.ids, int(IDS[i]), lambda t: sweep.blocks(torch.tensor([t]))[0].tolist(), 8)
        rows = levels[-1].rows
        assert rows.ids[i].tolist() == ids
        torch.testing.assert_close(rows.logprob[i], torch.tensor(own), **CLOSE)
        torch.testing.assert_close(rows.reference[i], torch.tensor(other), **CLOSE)


def same(left, right):
    assert [level.depth for level in left] == [level.depth for level in right]
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a.starts, b.starts)
        assert all(torch.equal(x, y) for x, y in zip(vars(a.rows).values(), vars(b.rows).values(), strict=True))


def test_a_scan_that_was_stopped_goes_on_behind_its_last_chunk_and_finds_the_same(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_AT_ONCE", 16)
    sweep = forced(Frame(probe.tokenizer).start())
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = finish(scan(probe, sweep, IDS, 12, Ledger(tmp_path / "a", {}), pace()))
    stopped, reads = pace(cancelled=lambda: len(list((tmp_path / "b").glob("*.safetensors"))) >= 3), []
    with pytest.raises(Stopped):
        finish(scan(probe, sweep, IDS, 12, Ledger(tmp_path / "b", {}), stopped))
    held = set(p.name for p in (tmp_path / "b").glob("*.safetensors"))
    again = pace()
    probe.suspect.model.register_forward_pre_hook(lambda *_: reads.append(1))
    same(finish(scan(probe, sweep, IDS, 12, Ledger(tmp_path / "b", {}), again)), whole)
    assert len(held) == 3 and again.done - again.fresh > 0
    n_reads = len(reads)
    same(finish(scan(probe, sweep, IDS, 12, Ledger(tmp_path / "b", {}), pace())), whole)
    assert len(reads) - n_reads == 1  # the prefix; every chunk was there


def test_a_damaged_chunk_is_made_again(probe, tmp_path):
    sweep = forced(Frame(probe.tokenizer).start())
    whole = finish(scan(probe, sweep, IDS, 8, Ledger(tmp_path, {}), pace()))
    broken = sorted(tmp_path.glob("*.safetensors"))[0]
    broken.write_bytes(broken.read_bytes()[:40])
    same(finish(scan(probe, sweep, IDS, 8, Ledger(tmp_path, {}), pace())), whole)


def test_a_full_disk_ends_the_scan_in_words_and_leaves_the_ledger_whole(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_AT_ONCE", 16)
    sweep, written = forced(Frame(probe.tokenizer).start()), []
    real = ledger_module.save_file

    def save(tensors, path):
        if len(written) == 2:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        real(tensors, path)

    monkeypatch.setattr(ledger_module, "save_file", save)
    with pytest.raises(WorkbenchError, match="No space left on device.*start it again with this ledger"):
        finish(scan(probe, sweep, IDS, 8, Ledger(tmp_path, {}), pace()))
    assert len(list(tmp_path.glob("*.safetensors"))) == 2 and not [name for name in os.listdir(tmp_path) if name.endswith(".part")]
    monkeypatch.setattr(ledger_module, "save_file", real)
    assert len(finish(scan(probe, sweep, IDS, 8, Ledger(tmp_path, {}), pace()))[-1].starts) == len(IDS)


def test_a_ledger_of_another_scan_is_refused(tmp_path):
    Ledger(tmp_path, {"models": 1, "seed": 0})
    Ledger(tmp_path, {"seed": 0, "models": 1})
    with pytest.raises(InvalidRequest, match="another scan: it differs in seed"):
        Ledger(tmp_path, {"models": 1, "seed": 2})


def test_the_map_shows_each_start_in_its_cell(probe, tmp_path):
    sweep = forced(Frame(probe.tokenizer).start())
    events = list(scan(probe, sweep, IDS, 8, Ledger(tmp_path, {}), pace()))
    pieces = [e.data for e in events if e.tag == "finding"]
    cells = {cell for piece in pieces for cell, _ in piece["values"]}
    assert cells == set(IDS.tolist()) and {piece["cells"] for piece in pieces} == {probe.width}


def test_out_of_time_a_rung_is_a_fair_part_and_the_next_goes_on_with_it(probe, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "READ_AT_ONCE", 8)
    now = iter(range(10_000))
    limited = Pace(RunContext(clock=lambda: float(next(now))), "scan", 1, deadline=40.0)
    levels = finish(scan(probe, forced(Frame(probe.tokenizer).start()), IDS, 8, Ledger(tmp_path, {}), limited))
    assert 0 < len(levels[0].starts) < len(IDS) and levels[-1].depth == 8
    assert set(levels[1].starts.tolist()) <= set(levels[0].starts.tolist())


def test_rows_that_nobody_has_a_token_for_are_never_said(tmp_path):
    alone = Probe(tiny("padded", 0, padded=40), None)
    assert alone.width == len(alone.tokenizer)
    with torch.no_grad():
        head = alone.suspect.model.lm_head.weight
        head[alone.width :] = 3 * head[: alone.width].mean(0)
    levels = finish(scan(alone, forced(Frame(alone.tokenizer).start()), IDS, 6, Ledger(tmp_path, {}), pace()))
    assert int(levels[-1].rows.ids.max()) < alone.width and levels[-1].rows.reference is None
