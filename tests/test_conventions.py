"""The house's own rules: who may import whom, what the README says is there, what the Space needs."""

from __future__ import annotations

import ast
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CAPABILITIES = {"structured", "routing", "speculative", "contamination", "hidden_text"}
# who may never be imported from a capability package or from what lies below it
ABOVE = {"workbench", "house", "store", "migrations", "device", "live", "recorder", "inspection", "jobs", "model_service", "commands"}
BELOW = {"decoder", "batch", "sampling", "detokenize", "prompt", "models", "types", "errors", "options", "resources", "passport"}
SPACE_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, inside functions and under TYPE_CHECKING too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_the_backend_never_imports_the_browser_side():
    wrong = {f"{p.relative_to(ROOT)}: {n}" for p in python_files("backend") for n in imports(p) if n.split(".")[0] in ("gradio", "panels", "app")}
    assert not wrong


def test_charts_know_neither_gradio_nor_torch():
    assert not {n for n in imports(ROOT / "panels" / "charts.py") if n.split(".")[0] in ("gradio", "torch")}


def test_capabilities_never_import_each_other_the_store_or_the_workbench():
    wrong = set()
    for path in python_files("backend"):
        package = path.relative_to(ROOT / "backend").parts[0]
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "backend" or len(parts) < 2 or package not in CAPABILITIES:
                continue
            if parts[1] in ABOVE or (parts[1] in CAPABILITIES and parts[1] != package):
                wrong.add(f"{path.relative_to(ROOT)}: {name}")
    assert not wrong


def test_what_lies_below_the_capabilities_does_not_look_up():
    wrong = set()
    for name in BELOW:
        path = ROOT / "backend" / f"{name}.py"
        seen = {n.split(".")[1] for n in imports(path) if n.startswith("backend.")}
        wrong |= {f"{name}: {s}" for s in seen & (ABOVE | CAPABILITIES)}
    assert not wrong


def test_only_the_grammar_worker_imports_xgrammar():
    files = [path for folder in ("backend", "panels") for path in python_files(folder)]
    users = {str(path.relative_to(ROOT)) for path in files if any(name.split(".")[0] == "xgrammar" for name in imports(path))}
    assert users == {"backend/structured/worker.py"}


def test_only_the_command_line_prints():
    printing = set()
    for folder in ("backend", "panels"):
        for path in python_files(folder):
            calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
            for call in calls:
                to_stdout = not any(k.arg == "file" for k in call.keywords)
                if isinstance(call.func, ast.Name) and call.func.id == "print" and to_stdout:
                    printing.add(str(path.relative_to(ROOT)))
    assert printing <= {"backend/__main__.py", "backend/bench/__init__.py"}


def test_colours_stand_in_the_stylesheet_alone():
    """Python code of the pages names no colour but the palette of charts and theme."""
    allowed = {"charts.py", "theme.py", "palette.py"}
    wrong = [p.name for p in python_files("panels") if p.name not in allowed and re.search(r"#[0-9a-fA-F]{6}\b", p.read_text())]
    assert not wrong


def test_the_readmes_tree_is_the_tree():
    text = (ROOT / "README.md").read_text()
    tree = re.search(r"## The tree\n+```\n(.*?)```", text, re.S)
    assert tree, "README has no section 'The tree'"
    named = set(re.findall(r"^\s*([\w./-]+\.(?:py|js|css|jsonl|txt)|[\w/.-]+/)", tree.group(1), re.M))
    top = {"app.py", "panels/", "backend/", "assets/", "tests/", "requirements.txt"}
    assert top <= named
    modules = {p.stem for f in ("backend", "panels") for p in (ROOT / f).glob("*.py")} - {"__init__"}
    missing = {m for m in modules if not re.search(rf"\b{m}\b", tree.group(1))}
    assert not missing, f"README's tree does not name {sorted(missing)}"


@pytest.fixture(scope="module")
def front_matter():
    return yaml.safe_load((ROOT / "README.md").read_text().split("---\n")[1])


def test_the_space_gets_what_it_needs(front_matter):
    requirements = (ROOT / "requirements.txt").read_text()
    pinned = re.search(r"^gradio(?:\[[\w,]+\])?==(\S+)$", requirements, re.M).group(1)
    assert front_matter["sdk"] == "gradio" and front_matter["app_file"] == "app.py" and (ROOT / front_matter["app_file"]).exists()
    assert str(front_matter["sdk_version"]) == pinned == version("gradio")
    assert front_matter["colorFrom"] in SPACE_COLOURS and front_matter["colorTo"] in SPACE_COLOURS
    assert len(front_matter["short_description"]) <= 60 and front_matter["title"] == "Loupe"
    assert str(front_matter["python_version"]) in ("3.10", "3.12")


def test_every_public_function_of_the_backend_is_annotated():
    bare = []
    for path in python_files("backend"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                arguments = [a for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")]
                if node.returns is None or any(a.annotation is None for a in arguments):
                    bare.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not bare


def test_every_module_says_what_it_is():
    texts = {path: path.read_text() for folder in ("backend", "panels", "tests") for path in python_files(folder)}
    assert not [str(path) for path, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
