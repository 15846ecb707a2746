"""What can be done with the run in a strip, without the page: share it, stop sharing it, take it along, run it again.

Goes in: the visitor's token, the strip's text (both come back from the browser), the app's address. Comes out: JSON for the row of actions, lines
of a repetition. Whose the run is, is the store's to say.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gradio as gr

from backend import examples
from backend.errors import WorkbenchError
from backend.exchange import entry_jsonl, lanes_of, tokens_csv
from backend.imports import shipped_entry
from backend.report_html import report
from backend.rerun import earlier, rerun
from backend.types import RunRecord, Verdict
from backend.workbench import Workbench
from panels.lanes import lanes, share_of
from panels.records import page_of
from panels.said import shown
from panels.visitor import context_of, owner_of

KEPT_BACK = "Who you are, the run's title, note and tags, and all your other runs stay with you."
SHIPPED = "This recording ships with Loupe: everybody who has Loupe sees it on this page."
TYPES = {"jsonl": "application/jsonl", "csv": "text/csv", "html": "text/html"}


def run_in(text: Any) -> str:
    """The run that the strip holds: its first lane."""
    found = lanes(text or "")
    if not found or not found[0].run:
        raise WorkbenchError("There is no run here yet.")
    return found[0].run


class Acts:
    """One workbench, as the row of actions asks it."""

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench

    def offer(self, token: Any, text: Any, address: str) -> str:
        """What would become public, and the links if it is already."""
        run_id, owner = run_in(text), self._owner(token)
        records = self._records(text, owner)
        if examples.recorded_run(run_id) is not None:
            page = page_of(records[0].request)
            return _answer({"view": "shipped", "words": SHIPPED, "links": links(f"{page}?", address, os.environ)})
        if share_of(text or ""):
            return _answer({"view": "links", "links": shared_links(share_of(text), address), "words": "You are reading a shared run."})
        share = self.workbench.shares.share_id(run_id, owner)
        if share:
            return _answer({"view": "links", "links": shared_links(share, address), "revocable": True})
        return _answer({"view": "offer", "public": public_facts(records), "warning": warning(records), "kept": KEPT_BACK})

    def publish(self, token: Any, text: Any, address: str) -> str:
        """Make the link."""
        share = self.workbench.shares.share(run_in(text), self._owner(token))
        return _answer({"view": "links", "links": shared_links(share, address), "revocable": True})

    def revoke(self, token: Any, text: Any) -> str:
        """The link opens nothing from now on."""
        self.workbench.shares.revoke(run_in(text), self._owner(token))
        return _answer({"view": "words", "words": "Not shared any more: the link opens nothing from now on."})

    def take(self, token: Any, text: Any, form: Any) -> str:
        """The run as a file; raises `WorkbenchError` for a form there is none of."""
        run_id, owner = run_in(text), self._owner(token)
        forms: Mapping[str, Callable[[Sequence[RunRecord], Verdict | None], str]] = {
            "jsonl": entry_jsonl, "csv": lambda records, _: tokens_csv(records), "html": report,
        }  # fmt: skip
        if form not in forms:
            raise WorkbenchError(f"A run can be taken along as {', '.join(forms)}, not as {form!r}.")
        records, verdict = self._entry(text, run_id, owner)
        name = f"loupe-{records[0].request.method}-{run_id}.{form}"
        return _answer({"file": {"name": name, "text": forms[form](records, verdict), "type": TYPES[form]}})

    def _entry(self, text: Any, run_id: str, owner: str) -> tuple[list[RunRecord], Verdict | None]:
        """The lanes and the verdict of what stands in the strip: a shared run, a recording that ships, or a run of one's own."""
        share = share_of(text or "")
        if share:
            return self.workbench.shares.open(share)
        return shipped_entry(run_id) or lanes_of(self.workbench.store, run_id, owner)

    def again(self, request: gr.Request, token: Any, text: Any) -> Iterator[str]:
        """The lines of the same lanes anew, then whether the tokens are the same."""
        return rerun(self.workbench, run_in(text), context_of(self.workbench, token, request))

    def _owner(self, token: Any) -> str:
        return owner_of(self.workbench.public, token)

    def _records(self, text: Any, owner: str) -> list[RunRecord]:
        share = share_of(text or "")
        return self.workbench.shares.open(share)[0] if share else earlier(self.workbench, run_in(text), owner)


def _answer(data: Mapping[str, Any]) -> str:
    """The row's value; the same answer twice must still be a new one, or the page would not see it."""
    return shown({**data, "n": secrets.token_hex(4)})


def public_facts(records: list[RunRecord]) -> dict[str, Any]:
    """All that a shared run shows, in the order a reader meets it."""
    first = records[0]
    facts: dict[str, Any] = {"prompt": "\n".join(f"{m['role']}: {m['content']}" for m in first.request.prompt.messages)}
    if first.request.prompt.system is not None:
        facts["system message"] = first.request.prompt.system or "(empty)"
    for record in records:
        facts[f"answer, {record.lane}" if record.lane else "answer"] = record.text or record.error or f"({record.status})"
    settings = {**asdict(first.request.sampling), **first.request.options}
    models = {role: model for record in records for role, model in record.models.items()}
    facts["models, with hashes"] = "; ".join(f"{role}: {model.get('id')} {model.get('hash')} {model.get('dtype')}" for role, model in models.items())
    facts["settings"] = "\n".join(f"{name}: {value}" for name, value in settings.items())
    facts["device"] = first.device or ""
    facts["versions"] = ", ".join(f"{name} {version}" for name, version in first.versions.items())
    facts["times"] = f"{first.created_at}, and of every token"
    facts["lines"] = f"all {sum(len(record.lines) for record in records):,}: tokens with probabilities, findings, figures"
    return {name: value for name, value in facts.items() if value}


def warning(records: list[RunRecord]) -> str:
    """A model's id may be a folder of this machine, and that would be told."""
    named = {name for record in records for name in record.request.models.values()}
    places = sorted(name for name in named if name.startswith(("/", "~", ".")) or ":\\" in name)
    return f"A folder of this machine would be told: {', '.join(places)}." if places else ""


def shared_links(share: str, address: str) -> list[dict[str, str]]:
    """The addresses at which a shared run opens, the last one without anything around it."""
    found = links(f"shared?run={share}", address, os.environ)
    return [*found, {"label": "To put into another page, as a frame", "url": f"{found[0]['url']}&embed=1"}]


def links(path: str, address: str, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """A page's address as others can open it; on a Space in both forms, since the address bar there shows neither."""
    page, _, query = path.partition("?")
    tail = f"{page}?{query}" if query else page
    host, space = environment.get("SPACE_HOST"), environment.get("SPACE_ID")
    if not (host and space):
        return [{"label": "Link", "url": f"{address}/{tail}"}]
    found = [{"label": "The app alone", "url": f"https://{host}/{tail}"}]
    return [*found, {"label": "On the Hub", "url": f"https://huggingface.co/spaces/{space}?{query}"}] if query else found
