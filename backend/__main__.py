"""The command line: `python -m backend run | models | history | record | pocket | bench`.

Goes in: arguments. Comes out: JSON lines (`run`), tables for people, one JSON line at the end of `bench`; exit codes 0 completed,
1 failed, 2 not a valid request. Only here is anything printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend import commands
from backend import history_commands as history
from backend.errors import InvalidRequest, WorkbenchError
from backend.paths import assets_dir, data_dir
from backend.pocket import commands as pocket
from backend.types import Failed, RunContext, RunRequest

COMPLETED, FAILED, INVALID, INTERRUPTED = 0, 1, 2, 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m backend", description="Loupe from the command line.")
    kept = "where models and runs live (default: LOUPE_DATA_DIR, else the user's data folder)"
    top.add_argument("--data-dir", type=Path, default=None, help=kept)
    commands_ = top.add_subparsers(dest="command", required=True)

    run = commands_.add_parser("run", help="run a method and print its lines")
    run.add_argument("method", help="structured, measure, …")
    run.add_argument("--request", required=True, help="a JSON file, or - for standard input")
    run.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help='override one field: options.kind=regex, prompt="…"')
    run.add_argument("--with-baselines", action="store_true", help="the neutral lanes too, then what the comparison says")
    run.add_argument("--measure", type=int, metavar="REPEATS", help="repeat the group in turn and give intervals")

    models = commands_.add_parser("models", help="list, get, describe").add_subparsers(dest="action", required=True)
    models.add_parser("list", help="what this machine has or can always get")
    for action, text in (("get", "bring a model's files"), ("describe", "a model's passport: parameters, memory, tokenizer, cache")):
        models.add_parser(action, help=text).add_argument("id", help="smollm2, pocket/NAME, mine/NAME, a folder, a .gguf file, a hub id")

    history.add(commands_)

    record = commands_.add_parser("record", help="run the shipped recordings anew and write them to assets/runs")
    record.add_argument("names", nargs="*", help="structured, speculative-pair, routing-sweep, …; all if none is named")

    pocket.add_parser(commands_)

    bench = commands_.add_parser("bench", help="figures against bars")
    bench.add_argument("name", help="structured, startup, pocket, speculative, routing, contamination, hidden_text, app")
    bench.add_argument("--quick", action="store_true", help="minutes, the same bars on less data")
    bench.add_argument("--schemas", type=Path, help="structured: another list of schemas (a folder or a .jsonl file)")
    bench.add_argument("--walks", type=int, help="structured: random walks a schema")
    bench.add_argument("--seed", type=int, default=None)
    bench.add_argument("--part", help="all but structured, startup and pocket: one part only")
    bench.add_argument("--prompts", type=Path, help="speculative: another mix, one JSON object with a prompt a line")
    bench.add_argument("--turns", type=int, help="speculative: how often each way decodes each prompt")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    where = args.data_dir or data_dir()
    command = {"run": _run, "models": _models, "history": _history, "record": _record, "pocket": _pocket, "bench": _bench}[args.command]
    try:
        return command(args, where)
    except BrokenPipeError:
        sys.stderr.close()
        return COMPLETED
    except KeyboardInterrupt:
        return INTERRUPTED
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return INVALID if isinstance(error, InvalidRequest) else FAILED


# run ------------------------------------------------------------------------------------------------------------------------------


def _run(args: argparse.Namespace, where: Path) -> int:
    """Lines on standard output, how far a load is on standard error."""
    try:
        request = _request(args)
    except InvalidRequest as error:
        return _refuse(error)
    from backend.house import open_workbench  # torch and transformers load only now

    workbench = open_workbench(where, program="the command line")
    try:
        lines = _start(workbench, request, args)
    except InvalidRequest as error:
        workbench.close()
        return _refuse(error)
    try:
        return _print_lines(lines)
    finally:
        workbench.close()


def _request(args: argparse.Namespace) -> RunRequest:
    try:
        text = sys.stdin.read() if args.request == "-" else Path(args.request).read_text()
    except OSError as error:
        raise InvalidRequest(f"The request can't be read: {error}.", "request") from error
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"The request is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.", "request") from error
    data = commands.override({"method": args.method, **data} if isinstance(data, dict) else data, args.set)
    request = RunRequest.from_json(data)
    if request.method != args.method:
        raise InvalidRequest(f"The request is for {request.method!r}, not for {args.method!r}.", "method")
    return request


def _start(workbench: Any, request: RunRequest, args: argparse.Namespace) -> Iterator[str]:
    context = RunContext(session=None)
    if args.measure:
        from backend.measure import measure_request

        job = measure_request([request, *reversed(workbench.baselines(request))], args.measure)
        return workbench.follow(workbench.start_job(job, context))
    if workbench.method(request.method).job:
        return workbench.follow(workbench.start_job(request, context))
    if args.with_baselines:
        return workbench.run_group([request, *workbench.baselines(request)], context)
    return workbench.run(request, context)


def _refuse(error: InvalidRequest) -> int:
    print(Failed(str(error), error.where).to_line())
    return INVALID


def _print_lines(lines: Iterator[str]) -> int:
    code = COMPLETED
    with _ending(lines):
        for line in lines:
            event = json.loads(line)
            if event["event"] in ("progress", "queued"):
                _say(commands.progress_text(event))
                continue
            _say("")
            print(line, flush=True)
            if event["event"] == "failed":
                code = FAILED
    return code


@contextmanager
def _ending(lines: Iterator[str]) -> Iterator[None]:
    """Ctrl+C closes the stream, which stops the run and keeps what it has."""
    try:
        yield
    finally:
        if hasattr(lines, "close"):
            lines.close()


def _say(text: str) -> None:
    """One status line on standard error, overwritten by the next; nothing where nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# models, history, pocket, bench ------------------------------------------------------------------------------------------------------


def _models(args: argparse.Namespace, where: Path) -> int:
    from backend.model_source import get, list_models
    from backend.models import describe

    if args.action == "list":
        print(commands.table(commands.model_rows(list_models(where, assets_dir()))))
    elif args.action == "describe":
        print(json.dumps(describe(args.id, where, assets_dir()).to_json(), indent=2, ensure_ascii=False))
    else:
        told = commands.Teller(_say, sys.stderr, time.monotonic)
        folder = get(args.id, where, assets_dir(), told)
        _say("")
        print(f"{args.id} is in {folder}")
    return COMPLETED


def _history(args: argparse.Namespace, where: Path) -> int:
    if args.action == "again":
        return _again(args, where)
    from backend.store import Store

    store = Store(where)
    try:
        for text in history.run(args, store):
            print(text)
    finally:
        store.close()
    return COMPLETED


def _again(args: argparse.Namespace, where: Path) -> int:
    """The lines of the repeated lanes; the last line says whether the tokens are the same."""
    from backend.house import open_workbench
    from backend.rerun import rerun

    workbench = open_workbench(where, program="the command line")
    try:
        return _print_lines(rerun(workbench, args.run, RunContext(session=None)))
    finally:
        workbench.close()


def _record(args: argparse.Namespace, where: Path) -> int:
    from backend.house import open_workbench
    from backend.recordings import names, path_of, record

    workbench = open_workbench(where, program="the command line")
    try:
        for name in args.names or names():
            text = record(workbench, name, lambda words, name=name: _say(f"{name}: {words}"))
            path_of(name).write_text(text, encoding="utf-8")
            _say("")
            print(f"{path_of(name)}: {len(text) / 1000:.0f} kB", flush=True)
    finally:
        workbench.close()
    return COMPLETED


def _pocket(args: argparse.Namespace, where: Path) -> int:
    from backend.bench import reporter

    for text in pocket.run(args, where, assets_dir(), reporter("items", sys.stderr)):
        print(text, flush=True)
    return COMPLETED


def _bench(args: argparse.Namespace, where: Path) -> int:
    from backend.bench import run_bench

    asked = {name: getattr(args, name) for name in ("schemas", "walks", "seed", "part", "prompts", "turns") if getattr(args, name) is not None}
    run_bench(args.name, args.quick, data_dir=where, **asked)
    return COMPLETED


if __name__ == "__main__":
    sys.exit(main())
