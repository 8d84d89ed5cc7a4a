"""`tui-trainer export`: a checkpoint as a folder that any tool can load."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_trainer.cli.arguments import JsonOption
from tui_trainer.cli.output import print_json, print_text, status_report, talk
from tui_trainer.text import safe_line
from tui_trainer.units import size

if TYPE_CHECKING:
    from tui_trainer.engine.models.export import Exported

VERSION = 1


def export(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="RUN[@STEP]",
            help="The run; @STEP or @best takes that checkpoint. A folder of a model or adapter too.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The new folder; never one that holds something.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="Put an adapter into the weights of its base: a model that needs no PEFT.")
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(metavar="D", help="auto for the type the weights have, or float32, bfloat16, float16."),
    ] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint as a folder that any tool can load: safetensors, tokenizer, chat template, model card.

    The folder appears when it is whole; an interrupted export leaves nothing behind.
    """
    with _ended_by_signals(), talk().status("looking for the checkpoint") as status:
        from tui_trainer.engine.models.export import export_model

        done = export_model(reference, out.expanduser(), is_merged=merge, dtype=dtype, report=status_report(status))
    if as_json:
        print_json(_document(done))
        return
    print_text(str(done.folder))
    what = {"model": "the whole model", "adapter": "the adapter", "merged": "the base with the adapter in it"}[
        done.kind
    ]
    total = size(sum(done.num_bytes.values()))
    talk().print(safe_line(f"{what} in {done.dtype}, {total}; `tui-trainer chat {done.folder}` talks to it"))
    if done.kind == "model" and merge:
        talk().print("it is no adapter: there was nothing to merge")
    if done.kind == "adapter":
        talk().print(safe_line(f"it goes on {done.base}; --merge makes a model that stands alone"))


def _document(done: Exported) -> dict[str, Any]:
    source = done.source
    return {
        "version": VERSION,
        "path": str(done.folder.absolute()),
        "kind": done.kind,
        "dtype": done.dtype,
        "run": source.run.id if source.run else None,
        "step": source.step,
        "base": done.base,
        "bytes": sum(done.num_bytes.values()),
        "files": [{"name": name, "bytes": count} for name, count in done.num_bytes.items()],
    }


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Inside, SIGTERM and a lost terminal end the work as ctrl+c does: by an exception that cleans up behind itself."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
