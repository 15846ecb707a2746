"""What the app offers to programs: the named endpoints, the same as MCP tools, nothing else; what they answer; and that no page builds with a
warning."""

from __future__ import annotations

import ast
import gc
import json
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
import pytest
from gradio_client import Client

from app import build_app, launch_options
from backend.workbench import Workbench
from panels import PANELS, notice, visitor
from panels.header import top
from tests.panels.fake import fake_workbench

METHODS = {"structured", "routing", "speculative", "contamination", "hidden_text"}
JOBS = {"routing_label", "routing_train", "routing_sweep", "speculative_evaluate", "contamination_audit", "hidden_text_scan", "hidden_text_plant",
        "measure"}  # fmt: skip
ENDPOINTS = METHODS | JOBS | {"get_run", "list_runs", "compare", "share", "stop_run"}
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
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_port=None, **launch_options(mcp=find_spec("mcp") is not None))
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


def test_every_parameter_is_typed(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    for name, endpoint in endpoints.items():
        for parameter in endpoint["parameters"]:
            assert parameter["type"].get("type") or parameter["type"].get("anyOf"), f"{name}: {parameter}"


def test_the_mcp_tools_are_the_endpoints_with_their_words_and_answer_like_them(client: Client, workbench: Workbench) -> None:
    pytest.importorskip("mcp")
    with ThreadPoolExecutor(1) as thread:  # this one may have a loop already, a browser's
        tools, told, refused = thread.submit(anyio.run, _ask_mcp, f"{client.src.rstrip('/')}/gradio_api/mcp/").result()
    assert set(tools) == ENDPOINTS
    for tool in tools.values():
        assert tool.description and all(said.get("description") for said in tool.inputSchema["properties"].values()), tool.name
    answer = ast.literal_eval(told.content[0].text)  # Gradio writes an answer to a tool as Python does
    lane = next(iter(answer["answers"].values()))
    assert lane["text"] == WORDS and list(workbench.lines(lane["run"], "local"))
    assert refused.isError and "There is no run" in refused.content[0].text


async def _ask_mcp(url: str) -> tuple[dict[str, Any], Any, Any]:
    """The tools by name, what a run answers, and what an unknown run answers."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async with streamable_http_client(url) as (incoming, outgoing, _), ClientSession(incoming, outgoing) as session:
        await session.initialize()
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
        told = await session.call_tool("structured", {"prompt": WORDS, "grammar": "{}"})
        return tools, told, await session.call_tool("get_run", {"run_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"})


def test_the_endpoint_streams_the_runs_own_lines(client: Client, workbench: Workbench) -> None:
    events = list(client.submit(WORDS, '{"type": "object"}', api_name="/structured"))
    tokens = [event["text"] for event in events if event["event"] == "token"]
    assert "".join(tokens) == WORDS and events[-1]["event"] == "verdict"
    started = next(event for event in events if event["event"] == "started")
    stored = [json.loads(line) for line in workbench.lines(started["run"], "local")]
    assert [event for event in events if event["event"] not in ("verdict", "queued", "progress")] == stored
    end = {name: stored[-1][name] for name in ("text", "finish_reason", "stats")}
    assert events[-1]["answers"] == {"with grammar": {"run": started["run"], **end}}


def test_the_endpoint_adds_the_baselines_when_asked(client: Client) -> None:
    events = list(client.submit(WORDS, '{"type": "object"}', baselines=True, api_name="/structured"))
    assert [event["lane"] for event in events if event["event"] == "started"] == ["with grammar", "without grammar", "schema in the prompt"]


def test_a_bad_request_is_refused_in_words(client: Client) -> None:
    with pytest.raises(Exception, match="temperature must be a number between 0 and 10"):
        client.predict(WORDS, "{}", temperature=-1, api_name="/structured")


def test_the_button_to_sign_in_is_there_where_one_can_and_names_no_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workbench, found = fake_workbench(tmp_path, public=True), []
    monkeypatch.setattr("gradio.routes.attach_oauth", lambda app: None)  # needs packages that only a Space has
    monkeypatch.setattr(visitor, "SIGN_IN_PACKAGES", ())
    for secret in ("", "one secret"):
        monkeypatch.setenv("OAUTH_CLIENT_ID", "id")
        monkeypatch.setenv("OAUTH_CLIENT_SECRET", secret)
        with gr.Blocks() as demo:
            notice.place(workbench, top(workbench, demo))
        assert all(listener.api_visibility == "private" for listener in demo.fns.values())
        found.append(any(isinstance(block, gr.LoginButton) for block in demo.blocks.values()))
    workbench.close()
    assert found == [False, True]


def test_every_panel_is_a_page_in_the_order_of_the_list(demo: gr.Blocks) -> None:
    assert [path for path, _, _ in demo.pages] == ["", *(panel.PATH for panel in PANELS)]


def test_the_look_is_the_apps_own_and_gradio_keeps_no_history() -> None:
    options = launch_options()
    assert options["run_history"] is False and options["footer_links"] == [] and "lp-run" in options["head"]


def test_no_page_carries_colour_of_its_own() -> None:
    """Colours stand in `loupe.css` alone; the pages' sheet only names its variables."""
    css = (Path(__file__).parents[2] / "assets" / "pages.css").read_text()
    assert "#" not in "".join(part.split("}")[0] for part in css.split("{")[1:]) and "rgb" not in css
