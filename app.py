"""Starts Loupe in the browser.

Goes in: arguments. Comes out: a served page. Everything else is in `panels` (what is seen) and `backend` (what is done). The browser side
is imported inside functions: it takes seconds, in which the model loads already; torch too: where a GPU is lent, its lender comes first.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend import public
from backend.errors import WorkbenchError
from backend.paths import data_dir

if TYPE_CHECKING:
    import gradio as gr

    from backend.workbench import Workbench

UPLOAD_MB = 64  # on one's own machine: runs that were exported elsewhere, data of an audit
PAGES_CSS = Path(__file__).parent / "assets" / "pages.css"


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line. On a Space (`SPACE_ID` is set) the instance is public."""
    raw = argparse.RawDescriptionHelpFormatter
    about = "Loupe: a workbench for the decoding of language models, one token at a time."
    parser = argparse.ArgumentParser(description=about, epilog=public.told(), formatter_class=raw)
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=None, help="port to listen on (default: the first free one from 7860)")
    parser.add_argument("--data-dir", type=Path, default=None, help="where runs and models are kept")
    on_space = "SPACE_ID" in os.environ
    parser.add_argument("--public", action="store_true", default=on_space, help="models from a list only, caps, an owner a browser")
    parser.add_argument("--model", default="smollm2", help="the model to bring in the background at the start")
    wanted = os.environ.get("LOUPE_MCP", "") not in ("", "0")
    parser.add_argument("--mcp", action="store_true", default=wanted, help="also serve the endpoints as MCP tools, under gradio_api/mcp/")
    return parser.parse_args(argv)


def build_app(workbench: Workbench) -> gr.Blocks:
    """All pages around one workbench."""
    import gradio as gr

    from panels import PANELS, api, home

    with gr.Blocks(title="Loupe", analytics_enabled=False) as demo:
        home.build(workbench, demo)
        api.build(workbench)
    for panel in PANELS:
        with demo.route(panel.TITLE, panel.PATH, show_in_navbar=getattr(panel, "SHOW_IN_NAVBAR", True)):
            panel.build(workbench, demo)
    return demo.queue(max_size=64, default_concurrency_limit=8)


def launch_options(upload_mb: int = UPLOAD_MB, mcp: bool = False) -> dict[str, Any]:
    """What `launch` needs besides an address: the look, and Gradio's own history, footer and server rendering off. `mcp`: whether the endpoints
    are tools for other programs' models too."""
    from panels import embed, theme

    look = theme.launch_options()
    head = f"{look['head']}\n<style>\n{PAGES_CSS.read_text(encoding='utf-8')}\n</style>\n{embed.head()}"
    off = dict.fromkeys(("run_history", "ssr_mode", "enable_monitoring"), False)
    return {**look, **off, "head": head, "footer_links": [], "max_file_size": f"{upload_mb}mb", "state_session_capacity": 500, "mcp_server": mcp}


def require_mcp() -> None:
    """End with plain words where the packages for MCP are missing: they are an extra of Gradio's, which nothing else needs."""
    if find_spec("mcp") is None:
        sys.exit(f"--mcp needs a package that is not installed: pip install 'gradio[mcp]=={version('gradio')}'")


def main(argv: Sequence[str] | None = None) -> None:
    """Open the workbench, bring the model, resume jobs, serve until stopped. A Space is stopped by SIGTERM: it ends like any other."""
    arguments = parse(argv)
    if arguments.mcp:
        require_mcp()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    if os.environ.get("SPACES_ZERO_GPU") and find_spec("spaces"):
        import spaces  # noqa: F401  patches torch, so it must be imported before it

    from backend.house import open_workbench

    try:
        workbench = open_workbench(arguments.data_dir or data_dir(), public=arguments.public)
    except WorkbenchError as error:
        sys.exit(str(error))
    try:
        if workbench.models.state(arguments.model).present:
            workbench.prepare(replace(workbench.examples()[0].request, models={"target": arguments.model}))
        else:
            workbench.models.fetch(arguments.model)
        workbench.resume_jobs()
        upload_mb = workbench.guard.limits.max_upload_mb if workbench.public else UPLOAD_MB
        options = launch_options(upload_mb, arguments.mcp)
        build_app(workbench).launch(server_name=arguments.host, server_port=arguments.port, **options)
    except WorkbenchError as error:
        sys.exit(str(error))  # a model that this instance's list does not have
    finally:
        workbench.close()


if __name__ == "__main__":
    main()
