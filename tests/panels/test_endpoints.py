"""What the app offers to programs: one named endpoint, nothing else; what it answers; and that no page builds with a warning."""

from __future__ import annotations

import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
from gradio_client import Client

from app import build_app, launch_options
from backend.workbench import Workbench
from panels import PANELS
from tests.panels.fake import fake_workbench

ENDPOINTS = {"structured", "routing", "speculative", "contamination", "hidden_text"}
WORDS = "one two three four five"

# Gradio leaves event loops and sockets to the garbage collector; they are swept up here, not in somebody else's test.
FOREIGN = ("ignore::ResourceWarning", "ignore:'future.no_silent_downcasting'", "ignore:The copy keyword is deprecated")
pytestmark = pytest.mark.filterwarnings(*FOREIGN)


@pytest.fixture(scope="module", autouse=True)
def swept() -> Iterator[None]:
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    made = fake_workbench(tmp_path_factory.mktemp("data"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def demo(workbench: Workbench) -> gr.Blocks:
    return build_app(workbench)


@pytest.fixture(scope="module")
def client(demo: gr.Blocks) -> Iterator[Client]:
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=None, **launch_options())
    client = Client(address, verbose=False)
    yield client
    client.close()
    demo.close()


def test_only_the_named_endpoints_are_public_and_no_listener_by_accident(demo: gr.Blocks) -> None:
    public = {fn.api_name for fn in demo.fns.values() if fn.api_visibility != "private"}
    assert public == ENDPOINTS


def test_the_endpoint_has_typed_named_parameters_and_a_description(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(endpoints) == {f"/{name}" for name in ENDPOINTS}
    parameters = {p["parameter_name"]: p["type"]["type"] for p in endpoints["/structured"]["parameters"]}
    assert parameters["prompt"] == "string" and parameters["grammar"] == "string" and parameters["kind"] == "string"
    assert parameters["temperature"] == "number" and parameters["max_new_tokens"] == "integer" and parameters["baselines"] == "boolean"
    assert {"model", "top_p", "top_k", "seed"} <= set(parameters)


def test_the_endpoint_streams_the_runs_own_lines(client: Client, workbench: Workbench) -> None:
    events = list(client.submit(WORDS, '{"type": "object"}', api_name="/structured"))
    tokens = [event["text"] for event in events if event["event"] == "token"]
    assert "".join(tokens) == WORDS and events[-1]["event"] == "verdict"
    started = next(event for event in events if event["event"] == "started")
    stored = [json.loads(line) for line in workbench.lines(started["run"], "local")]
    assert [event for event in events if event["event"] not in ("verdict", "queued", "progress")] == stored


def test_the_endpoint_adds_the_baselines_when_asked(client: Client) -> None:
    events = list(client.submit(WORDS, '{"type": "object"}', baselines=True, api_name="/structured"))
    assert [event["lane"] for event in events if event["event"] == "started"] == ["with grammar", "without grammar", "schema in the prompt"]


def test_a_bad_request_is_refused_in_words(client: Client) -> None:
    with pytest.raises(Exception, match="temperature must be a number between 0 and 10"):
        client.predict(WORDS, "{}", temperature=-1, api_name="/structured")


def test_every_panel_is_a_page_in_the_order_of_the_list(demo: gr.Blocks) -> None:
    assert [path for path, _, _ in demo.pages] == ["", *(panel.PATH for panel in PANELS)]


def test_the_look_is_the_apps_own_and_gradio_keeps_no_history() -> None:
    options = launch_options()
    assert options["run_history"] is False and options["footer_links"] == [] and "lp-run" in options["head"]


def test_no_page_carries_colour_of_its_own() -> None:
    """Colours stand in `loupe.css` alone; the pages' sheet only names its variables."""
    css = (Path(__file__).parents[2] / "assets" / "pages.css").read_text()
    assert "#" not in "".join(part.split("}")[0] for part in css.split("{")[1:]) and "rgb" not in css
