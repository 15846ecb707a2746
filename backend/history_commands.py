"""`python -m backend history …`: what was run on this machine, found again, named, tagged, shared, deleted.

Goes in: arguments, an open store. Comes out: texts to print. An action is one function in `ACTIONS` and its arguments in `add`.
Knows no models: what runs something (`history again`) is in `__main__`. Prints nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from backend import commands, compare_commands, exchange_commands
from backend.history import History, Wanted
from backend.shares import Shares
from backend.store import Store

OWNER = "local"
FILTERS = ("text", "method", "status", "model", "tag", "since", "until")


def add(commands_: Any) -> None:
    """The arguments of every action."""
    history = commands_.add_parser("history", help="list, show, again, export, share, pin, tag, …").add_subparsers(dest="action", required=True)
    _add_listing(history.add_parser("list", help="runs, pinned ones first, then newest first; one line a press of Run"))
    history.add_parser("show", help="a run's lines").add_argument("run")
    again = history.add_parser("again", help="repeat a run and its lanes with the same seeds, and say whether the tokens are identical")
    again.add_argument("run", help="a run of this machine, or one of a recording that ships")
    exchange_commands.add(history)
    compare_commands.add(history)
    _add_changes(history)


def _add_listing(listing: argparse.ArgumentParser) -> None:
    listing.add_argument("--text", default="", help="words in prompt, answer, title or note")
    for name, words in (("method", "structured, routing.sweep, …"), ("status", "completed, failed, …"), ("model", "a model id"), ("tag", "a tag"),
                        ("since", "the first day, 2026-11-01"), ("until", "the last day")):  # fmt: skip
        listing.add_argument(f"--{name}", default="", help=words)
    listing.add_argument("--pinned", action="store_true", help="pinned runs only")
    listing.add_argument("--limit", type=int, default=20)
    listing.add_argument("--offset", type=int, default=0)
    listing.add_argument("--json", action="store_true", help="one JSON object a run")


def _add_changes(history: Any) -> None:
    """Actions on one run; each holds for all lanes of its press of Run."""
    share = history.add_parser("share", help="make a link to a run; the same link again for one that has one")
    share.add_argument("run")
    share.add_argument("--host", default="http://localhost:7860", help="the app's address in the link")
    history.add_parser("revoke", help="stop sharing a run: its link opens nothing any more").add_argument("run")
    pin = history.add_parser("pin", help="keep a run at the head of the list")
    pin.add_argument("run")
    pin.add_argument("--off", action="store_true", help="unpin it")
    tag = history.add_parser("tag", help="give a run these tags instead of the ones it has; none takes them away")
    tag.add_argument("run")
    tag.add_argument("tags", nargs="*")
    for name, words in (("rename", "give a run a title"), ("note", "write a note beside a run")):
        change = history.add_parser(name, help=f"{words}; an empty one takes it away")
        change.add_argument("run")
        change.add_argument("text")
    delete = history.add_parser("delete", help="delete a run and the lanes beside it, for good")
    delete.add_argument("run")
    delete.add_argument("--yes", action="store_true", help="without it nothing is deleted, only told")


def run(args: argparse.Namespace, store: Store) -> Iterator[str]:
    """The texts of one action."""
    yield from ACTIONS[args.action](args, store)


def _list(args: argparse.Namespace, store: Store) -> Iterator[str]:
    wanted = Wanted(**{name: getattr(args, name) for name in FILTERS}, pinned=args.pinned)
    records = History(store).entries(OWNER, wanted, args.limit, args.offset)
    if args.json:
        yield from map(commands.run_json, records)
    else:
        yield commands.table(commands.run_rows(records))


def _show(args: argparse.Namespace, store: Store) -> Iterator[str]:
    yield "\n".join(store.get(args.run, OWNER).lines)


def _share(args: argparse.Namespace, store: Store) -> Iterator[str]:
    yield f"{args.host.rstrip('/')}/shared?run={Shares(store).share(args.run, OWNER)}"


def _revoke(args: argparse.Namespace, store: Store) -> Iterator[str]:
    Shares(store).revoke(args.run, OWNER)
    yield f"{args.run} is not shared any more."


def _pin(args: argparse.Namespace, store: Store) -> Iterator[str]:
    History(store).pin(args.run, OWNER, not args.off)
    yield f"{args.run} is {'no longer ' if args.off else ''}pinned."


def _tag(args: argparse.Namespace, store: Store) -> Iterator[str]:
    History(store).tag(args.run, OWNER, args.tags)
    yield f"{args.run}: {', '.join(sorted({tag.lower() for tag in args.tags})) or 'no tags'}"


def _rename(args: argparse.Namespace, store: Store) -> Iterator[str]:
    History(store).rename(args.run, OWNER, args.text)
    yield f"{args.run}: {args.text or 'no title'}"


def _note(args: argparse.Namespace, store: Store) -> Iterator[str]:
    History(store).annotate(args.run, OWNER, args.text)
    yield f"{args.run}: {args.text or 'no note'}"


def _delete(args: argparse.Namespace, store: Store) -> Iterator[str]:
    record = store.get(args.run, OWNER)
    if not args.yes:
        yield f"{args.run} of {record.created_at[:16]} is still here: add --yes to delete it and the lanes beside it for good."
        return
    n = History(store).forget(args.run, OWNER)
    yield f"{n} {'lane' if n == 1 else 'lanes'} deleted."


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Store], Iterator[str]]] = {
    **exchange_commands.ACTIONS, "list": _list, "show": _show, "share": _share, "revoke": _revoke, "pin": _pin, "tag": _tag, "rename": _rename,
    "note": _note, "delete": _delete, "compare": compare_commands.run,
}  # fmt: skip
