"""`tui-trainer chat`: ask a model one or many questions, or talk to it line by line."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_trainer.cli.chat_answers import ask, interruptible, introduce
from tui_trainer.cli.knob_options import with_knob_options
from tui_trainer.cli.output import print_json, talk
from tui_trainer.errors import ExitCode, UsageError
from tui_trainer.text import safe_line

if TYPE_CHECKING:
    from tui_trainer.engine.chat.question import Question
    from tui_trainer.engine.chat.session import ChatSession


@with_knob_options
def chat(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Hub id, folder, .gguf file, RUN, RUN@STEP, RUN@best, demo:smollm2."),
    ],
    adapter: Annotated[
        str | None, typer.Option(metavar="A", help="Put this adapter on the model: folder, hub id or run.")
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="S", help="System message.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="P", help="Ask this and end; may be given several times.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help='Ask each line of a file, or each {"prompt"} or {"messages"} of a .jsonl.'),
    ] = None,
    template: Annotated[
        bool, typer.Option("--template/--no-template", help="Without the template the model goes on with the text.")
    ] = True,
    device: Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda or cuda:1.")] = "auto",
    dtype: Annotated[str, typer.Option(metavar="D", help="auto, float32, bfloat16 or float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a prompt on stdout.")] = False,
    *,
    knobs: Mapping[str, Any],
) -> int:
    """Talk to a model, a checkpoint or an adapter.

    Without --prompt, --prompts or a pipe it is a conversation on the terminal: ctrl+c stops an answer, ctrl+d leaves.
    """
    from tui_trainer.cli.chat_prompts import questions_of
    from tui_trainer.engine.generate.knobs import YOURS, resolve_knobs

    questions = questions_of(prompt or [], prompts, system, knobs, is_templated=template)
    is_conversation = questions is None
    if is_conversation and as_json:
        raise UsageError("--json needs questions", remedy="Give --prompt or --prompts, or pipe the question in.")
    resolve_knobs([(YOURS, knobs)])
    session = _load(model, adapter, device, dtype)
    if questions is None:
        from tui_trainer.cli.chat_conversation import Conversation

        return Conversation(session, system, knobs, is_templated=template).run()
    return _ask_all(session, questions, as_json=as_json)


def _load(model: str, adapter: str | None, device: str, dtype: str) -> ChatSession:
    from tui_trainer.engine.threads import wait_asleep

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning)
    wait_asleep()
    with talk().status("loading the libraries") as status:
        from tui_trainer.engine.chat.opening import Wanted, open_session

        def report(task: str, done: int | None, total: int | None) -> None:
            share = f" {100 * done // total} %" if done is not None and total else ""
            status.update(safe_line(task) + share)

        return open_session(Wanted(model, adapter, device, dtype), report=report)


def _ask_all(session: ChatSession, questions: Sequence[Question], *, as_json: bool) -> int:
    with interruptible() as interrupted:
        introduce(session)
        for question in questions:
            document = ask(session, question, interrupted, show=not as_json)
            if as_json:
                print_json(document)
            if interrupted:
                return int(ExitCode.INTERRUPTED)
    return int(ExitCode.DONE)
