"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, unique beginning of one, name, or path of a run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another value for a field; may be given several times."),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Go on although model, data or order are not those of the checkpoint.")
]
TrainForceOption = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Train although answers are lost, content is dropped or training differs from a chat; with --resume "
        "also although model, data or order are not those of the checkpoint.",
    ),
]
