"""`tui-trainer preview`: what a model would be trained on, row by row, with the verdict; nothing is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_trainer.cli.output import paper, print_json, status_report, talk
from tui_trainer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tui_trainer.config.schema import RunConfig

_DEFAULT_ROWS = "0:3"


def preview(
    source: Annotated[
        list[str], typer.Argument(metavar="SOURCE...", help="File, folder, hub id or demo:NAME; several are mixed.")
    ],
    split: Annotated[str | None, typer.Option(metavar="S", help="Split or slice, as test or train[:10%].")] = None,
    model: Annotated[str | None, typer.Option(metavar="M", help="Whose tokenizer and chat template to use.")] = None,
    format_: Annotated[str | None, typer.Option("--format", metavar="F", help="What a row holds.")] = None,
    map_: Annotated[
        list[str] | None, typer.Option("--map", metavar="ROLE=COLUMN", help="Which column plays a role; repeatable.")
    ] = None,
    template: Annotated[str | None, typer.Option(metavar="T", help="Chat template: name, .jinja file or none.")] = None,
    max_length: Annotated[int | None, typer.Option(metavar="N", help="Longest example, in tokens.")] = None,
    truncation: Annotated[
        str | None, typer.Option(metavar="SIDE", help="left, right, drop, split or error, for longer examples.")
    ] = None,
    train_on: Annotated[str | None, typer.Option(metavar="WHAT", help="assistant, last or all.")] = None,
    packing: Annotated[bool, typer.Option("--packing", help="Several examples in one row of tokens.")] = False,
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help="sft or pretrain.")] = None,
    rows: Annotated[str, typer.Option(metavar="A:B", help="Rows to show; 0 is the first.")] = _DEFAULT_ROWS,
    is_whole: Annotated[bool, typer.Option("--all", help="Judge all rows, not only those shown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> int:
    """Show what a model would be trained on: tokens, mask, problems.

    Trained tokens are bold, underlined and green on a terminal, and stand between ▌ and ▐ elsewhere. Without --model,
    bytes stand in for tokens.
    """
    options = {
        "data.split": split,
        "data.format": format_,
        "data.columns": _columns(map_ or []),
        "data.template": template,
        "data.max_length": max_length,
        "data.truncation": truncation,
        "data.train_on": train_on,
        "data.packing": packing or None,
        "model.name_or_path": model,
        "stage": stage,
    }
    config = _config(source, {key: value for key, value in options.items() if value is not None})
    first, last = _range(rows)
    document = _document(config, first, last, is_whole)
    if as_json:
        print_json(document)
    else:
        from tui_trainer.cli.preview_text import show_preview

        if config.model.name_or_path is None:
            talk().print("no --model: one token a byte, ChatML", style="dim")
        show_preview(paper(), document)
    return int(ExitCode.USAGE if document["verdict"]["blocks_launch"] else ExitCode.DONE)


def _config(sources: list[str], options: dict[str, Any]) -> RunConfig:
    """The configuration that the options amount to.

    Raises:
        ConfigurationError: a value is not permitted.
    """
    from tui_trainer.config.resolve import Layer, resolve, values_from

    if len(sources) == 1:
        options["data.path"] = sources[0]
    else:
        options["data.sources"] = [
            {"path": path, **({"split": options["data.split"]} if "data.split" in options else {})} for path in sources
        ]
    return resolve([values_from(Layer.TYPED, options, "the command line")]).config


def _columns(assignments: list[str]) -> dict[str, str] | None:
    columns = {}
    for assignment in assignments:
        role, separator, column = assignment.partition("=")
        if not (separator and role.strip() and column.strip()):
            raise UsageError(f"--map {assignment}: is no ROLE=COLUMN", remedy="Write it as --map prompt=question.")
        columns[role.strip()] = column.strip()
    return columns or None


def _range(text: str) -> tuple[int, int]:
    """The rows of "A:B", "A:" (three rows from A on) or "A" (that row)."""
    first, separator, last = text.partition(":")
    try:
        start = int(first or 0)
        stop = int(last) if last else start + (3 if separator else 1)
    except ValueError:
        raise UsageError(f"--rows {text}: is no range", remedy="Write it as --rows 10:20.") from None
    if start < 0 or stop < start:
        raise UsageError(f"--rows {text}: is no range", remedy="Rows count from 0, and the second number is larger.")
    return start, stop


def _document(config: RunConfig, first: int, last: int, is_whole: bool) -> dict[str, Any]:
    from tui_trainer.engine.data.preview import preview_document
    from tui_trainer.engine.data.session import DataSession

    with talk().status("opening the data") as status:
        report = status_report(status)
        session = DataSession(config, report=report)
        session.pipeline(report)
        return preview_document(session, first, last, is_whole=is_whole, report=report)
