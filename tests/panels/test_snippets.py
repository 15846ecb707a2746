"""A request as code asks for the very same run, whatever stands in it; and each text, executed, gives the run's own tokens."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import build_app, launch_options
from backend import examples
from backend.errors import InvalidRequest
from backend.house import open_workbench
from backend.measure import measure_request
from backend.options import parse_options
from backend.types import Prompt, RunContext, RunRequest
from backend.workbench import Workbench
from panels import contamination_logic, hidden_logic, routing_logic, snippets, speculative_logic, structured_logic
from panels.api import job_request
from panels.further import completed, left_over

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("ignore::ResourceWarning", "ignore:'future.no_silent_downcasting'", "ignore:The copy keyword is deprecated")
pytestmark = pytest.mark.filterwarnings(*FOREIGN)
LOGICS = {logic.method_name: logic for module in (structured_logic, speculative_logic, routing_logic, contamination_logic, hidden_logic)
          for logic in [module.Logic]}  # fmt: skip
NEW_TOKENS = 6
EXECUTED = pytest.mark.timeout(1200)  # programs that load models each for itself, on whatever machine
BREAK = "#-- next --"
TALK = (
    {"role": "user", "content": 'It\'s 7 < 8 & "so" on\n$(ls) `x`'},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "\\ ?"},
)
SHIPPED = ("pocket/", "exam/", "secret/")


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    made = open_workbench(tmp_path_factory.mktemp("data"))
    yield made
    made.close()


def singles() -> list[RunRequest]:
    return [example.request for example in examples.load() if example.request.method in LOGICS]


def variants(request: RunRequest) -> list[RunRequest]:
    """The request as it is, with all that an endpoint has no parameter for, and with each option as its baselines have it."""
    talk = replace(request, prompt=Prompt(TALK, "chat", ""), answer_prefix=(5, 7))
    raw = replace(request, prompt=Prompt.user("{'a': 1}", "raw", "Be brief."))
    return [request, talk, raw]


# The same request ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LOGICS)
def test_the_parameters_of_an_endpoint_stand_for_just_this_request(workbench: Workbench, method: str) -> None:
    logic, asked = LOGICS[method](workbench), []
    logic.events = lambda lanes, token="": asked.extend(lanes) or iter(())
    baselines = [lane for request in singles() if request.method == method for lane in workbench.baselines(request)]
    wanted = [variant for request in (*singles(), *baselines) if request.method == method for variant in variants(request)]
    if method == "routing":
        wanted.append(wanted[0].with_options(force=[[3, "large"]], controls=[[2, 0.4]]))
    for request in wanted:
        list(logic.endpoint()(**snippets.parameters(request)))
    assert [meant(workbench, request) for request in asked] == [meant(workbench, request) for request in wanted]


def meant(workbench: Workbench, request: RunRequest) -> Mapping[str, Any]:
    """A request's fields, options that it leaves out by their defaults."""
    return request.to_json() | {"options": parse_options(workbench.methods[request.method].Options, request.options)}


@pytest.mark.parametrize("method", LOGICS)
def test_the_parameters_are_those_of_the_endpoint_in_their_order(workbench: Workbench, method: str) -> None:
    names = [name for name in LOGICS[method](workbench).endpoint().__annotations__ if name != "return"]
    assert list(snippets.ORDER[method]) == names


def jobs(workbench: Workbench) -> list[RunRequest]:
    """A request of every job."""
    shipped = [example.request for example in examples.load() if workbench.methods[example.request.method].job]
    base = next(request for request in singles() if request.method == "speculative")
    others = [replace(base, method=name, options={}) for name, method in workbench.methods.items() if method.job and name != "measure"]
    return [*shipped, *others, measure_request([base, *workbench.baselines(base)], 3), replace(others[0], prompt=Prompt.user("", "raw", "s"))]


def test_a_jobs_parameters_stand_for_just_this_job(workbench: Workbench) -> None:
    for request in jobs(workbench):
        said = snippets.parameters(request)
        made = job_request(workbench.methods[request.method], said["models"], said["options"], said["prompt"])
        assert completed(made, said["more"]) == request


def test_the_texts_without_an_app_hold_the_request_itself(workbench: Workbench) -> None:
    for request in [*jobs(workbench), *(variant for example in singles() for variant in variants(example))]:
        body = snippets.command_line(request).split("\n", 1)[1].rsplit("REQUEST", 1)[0]
        assert json.loads(body) == request.to_json()
        found: dict[str, Any] = {"RunRequest": RunRequest}
        exec(snippets.python(request).split("\n\n", 1)[1].split("\nworkbench", 1)[0], found)
        assert found["request"] == request


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("{", "more is not JSON"),
        ("[]", "must be a text that holds a JSON object"),
        ('{"colour": 1}', "more has no field 'colour'"),
        ('{"options": 3}', "more.options must be an object"),
        ('{"sampling": {"seed": -1}}', "sampling.seed"),
        ('{"messages": []}', "at least one message"),
        ('{"answer_prefix": ["a"]}', "list of token ids"),
    ],
)  # fmt: skip
def test_what_can_not_be_laid_over_a_request_is_refused_in_words(more: str, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        completed(singles()[0], more)


def test_what_is_left_over_of_two_requests_makes_the_one_of_the_other() -> None:
    for one in singles():
        for other in variants(one):
            assert completed(one, left_over(other, one)) == other


# Executed -----------------------------------------------------------------------------------------------------------------------------


def first(method: str) -> RunRequest:
    """A method's first example that runs on what ships, cut short; where it has none, its first with the pocket models."""
    found = [request for request in singles() if request.method == method]
    request = next((r for r in found if all(model.startswith(SHIPPED) for model in r.models.values())), found[0])
    return replace(request, sampling=replace(request.sampling, max_new_tokens=NEW_TOKENS))


@dataclass(frozen=True)
class Served:
    """A running app, and what each request gives when it is run without any text."""

    url: str
    requests: list[RunRequest]
    tokens: list[list[tuple[int, str]]]


@pytest.fixture(scope="module")
def served(workbench: Workbench) -> Iterator[Served]:
    requests = [first(method) for method in LOGICS]
    structured = requests[0]
    more = replace(structured, prompt=Prompt(TALK), options={**structured.options, "constrain": "none"}, answer_prefix=(5, 7))
    requests += [more, measure_request([requests[1], *workbench.baselines(requests[1])[:1]], 3)]
    tokens = [tokens_of(workbench.run(request, RunContext())) for request in requests[:-1]]
    demo = build_app(workbench)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield Served(url.rstrip("/"), requests, tokens)
    demo.close()
    _sweep(demo)


def _sweep(demo: gr.Blocks) -> None:
    """Gradio leaves event loops to the garbage collector."""
    del demo
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def tokens_of(lines: Iterator[str] | list[str]) -> list[tuple[int, str]]:
    events = [json.loads(line) for line in lines]
    assert events[-1]["event"] in ("done", "verdict"), events[-1]
    return [(event["id"], event["text"]) for event in events if event["event"] == "token"]


def executed(command: list[str], folder: Path, text: str) -> list[list[str]]:
    """Run a program with the text on its standard input; its output in parts."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "LOUPE_DATA_DIR": str(folder), "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=text, capture_output=True, text=True, cwd=ROOT, env=env, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [part.strip().split("\n") for part in done.stdout.split(BREAK)]


def check(served: Served, parts: list[list[str]]) -> None:
    *runs, measured = parts
    assert [tokens_of(lines) for lines in runs] == served.tokens
    assert json.loads(measured[-1])["event"] == "done" and any('"finding"' in line for line in measured)


@EXECUTED
def test_python_with_the_repository_gives_the_runs_tokens(served: Served, tmp_path: Path) -> None:
    texts = [snippets.python(request, request.method == "measure") for request in served.requests]
    check(served, executed([sys.executable, "-"], tmp_path, f"print({BREAK!r})\n".join(texts)))


@EXECUTED
def test_the_command_line_gives_the_runs_tokens(served: Served, tmp_path: Path) -> None:
    texts = [snippets.command_line(request) for request in served.requests]
    check(served, executed(["bash", "-e"], tmp_path, f"echo '{BREAK}'\n".join(texts)))


@EXECUTED
def test_the_gradio_client_gives_the_runs_tokens(served: Served, tmp_path: Path) -> None:
    texts = [snippets.client(request, served.url).replace("print(event)", "print(json.dumps(event, default=repr))") for request in served.requests]
    parts = executed([sys.executable, "-"], tmp_path, "import json\n" + f"print({BREAK!r})\n".join(texts))
    check(served, [[line for line in part if line.startswith("{")] for part in parts])


@EXECUTED
@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl_gives_the_runs_tokens(served: Served, tmp_path: Path) -> None:
    texts = [snippets.curl(request, served.url) for request in served.requests]
    check(served, [_streamed(part) for part in executed(["bash", "-e"], tmp_path, f"echo '{BREAK}'\n".join(texts))])


def _streamed(lines: list[str]) -> list[str]:
    """The events of a server's stream."""
    said = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: [")]
    return [json.dumps(values[0]) for values in said]
