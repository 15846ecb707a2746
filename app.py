"""Starts Loupe in the browser.

Goes in: arguments. Comes out: a served page. Everything else is in `panels` (what is seen) and `backend` (what is done). The browser side
is imported inside functions: it takes seconds, in which the model loads already.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.house import open_workbench
from backend.paths import data_dir
from backend.workbench import Workbench

if TYPE_CHECKING:
    import gradio as gr

PAGES_CSS = Path(__file__).parent / "assets" / "pages.css"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. On a Space (`SPACE_ID` is set) the instance is public."""
    parser = argparse.ArgumentParser(description="Loupe: a workbench for the decoding of language models, one token at a time.")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=None, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument("--data-dir", type=Path, default=None, help="where runs and models are kept")
    on_space = "SPACE_ID" in os.environ
    parser.add_argument("--public", action="store_true", default=on_space, help="models from a list only, caps, an owner a browser")
    parser.add_argument("--model", default="smollm2", help="the model to bring in the background at the start")
    return parser.parse_args(argv)


def build_app(workbench: Workbench) -> gr.Blocks:
    """All pages around one workbench."""
    import gradio as gr

    from panels import PANELS, home

    with gr.Blocks(title="Loupe", analytics_enabled=False) as demo:
        home.build(workbench, demo)
    for panel in PANELS:
        with demo.route(panel.TITLE, panel.PATH):
            panel.build(workbench, demo)
    return demo.queue(max_size=64, default_concurrency_limit=8)


def launch_options() -> dict[str, Any]:
    """What `launch` needs besides an address: the look, and Gradio's own history, footer and server rendering off."""
    from panels import theme

    look = theme.launch_options()
    head = f"{look['head']}\n<style>\n{PAGES_CSS.read_text(encoding='utf-8')}\n</style>"
    off = dict.fromkeys(("run_history", "ssr_mode", "enable_monitoring"), False)
    return {**look, **off, "head": head, "footer_links": [], "max_file_size": "1mb", "state_session_capacity": 500}


def main(argv: Sequence[str] | None = None) -> None:
    """Open the workbench, bring the model, resume jobs, serve until stopped."""
    arguments = parse(argv)
    workbench = open_workbench(arguments.data_dir or data_dir(), public=arguments.public)
    try:
        if workbench.models.state(arguments.model).present:
            workbench.prepare(replace(workbench.examples()[0].request, models={"target": arguments.model}))
        else:
            workbench.models.fetch(arguments.model)
        workbench.resume_jobs()
        build_app(workbench).launch(server_name=arguments.host, server_port=arguments.port, **launch_options())
    finally:
        workbench.close()


if __name__ == "__main__":
    main()
