"""`tui-trainer chat`: ask one model or two, one or many questions, or talk to them line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_trainer.cli.knob_options import with_knob_options
from tui_trainer.cli.output import print_json
from tui_trainer.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from tui_trainer.cli.chat_local import LocalModels
    from tui_trainer.engine.chat.prompt_file import Item
    from tui_trainer.tui.chat.asking import Manner

_Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Hub id, folder, .gguf file, RUN, RUN@STEP, RUN@best, demo:smollm2, or http://host:port/v1#model.",
    ),
]
_Adapter = Annotated[
    str | None, typer.Option(metavar="A", help="Put this adapter on the model: folder, hub id or run.")
]
_Against = Annotated[
    str | None, typer.Option(metavar="MODEL", help="A second model, asked the same with the same knobs and seed.")
]
_System = Annotated[str | None, typer.Option(metavar="S", help="System message.")]
_Prompt = Annotated[list[str] | None, typer.Option(metavar="P", help="Ask this and end; may be given several times.")]
_Prompts = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help='Ask each line of a file, or each {"prompt"} or {"messages"} of a .jsonl.'),
]
_Checkpoints = Annotated[
    str | None,
    typer.Option(metavar="C", help="Ask them at checkpoints of the run: all, every 2, 100-500, 100,200, best, latest."),
]
_Score = Annotated[
    bool, typer.Option("--score", help="Perplexity of the prompts' replies, and KL against the second model.")
]
_Prefill = Annotated[str | None, typer.Option(metavar="T", help="What every reply begins with.")]
_Preset = Annotated[str | None, typer.Option(metavar="NAME", help="Knobs kept under a name.")]
_Template = Annotated[
    str | None, typer.Option(metavar="T", help="Ask with this chat template: a name, a .jinja file, model, none.")
]
_NoTemplate = Annotated[
    bool, typer.Option("--no-template", help="As --template none: the model goes on with the text.")
]
_TemplateKwargs = Annotated[str | None, typer.Option(metavar="TABLE", help="Variables for the chat template.")]
_Device = Annotated[str, typer.Option(metavar="D", help="auto, cpu, cuda or cuda:1.")]
_Dtype = Annotated[str, typer.Option(metavar="D", help="auto, float32, bfloat16, float16 or int8.")]
_AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a prompt on stdout.")]


@with_knob_options
def chat(
    model: _Model,
    adapter: _Adapter = None,
    against: _Against = None,
    system: _System = None,
    prompt: _Prompt = None,
    prompts: _Prompts = None,
    checkpoints: _Checkpoints = None,
    score: _Score = False,
    prefill: _Prefill = None,
    preset: _Preset = None,
    template: _Template = None,
    no_template: _NoTemplate = False,
    template_kwargs: _TemplateKwargs = None,
    device: _Device = "auto",
    dtype: _Dtype = "auto",
    as_json: _AsJson = False,
    *,
    knobs: Mapping[str, Any],
) -> int:
    """Talk to a model, a checkpoint or an adapter, or to two at once.

    Without --prompt, --prompts or a pipe it is a conversation on the terminal: ctrl+c stops an answer, ctrl+d leaves.
    """
    from tui_trainer.cli.chat_prompts import prompts_of
    from tui_trainer.config.knob_presets import find_knob_preset
    from tui_trainer.engine.generate.knobs import YOURS, resolve_knobs
    from tui_trainer.tui.chat.asking import NO_TEMPLATE, Manner

    items = prompts_of(prompt or [], prompts)
    if items is None and (as_json or checkpoints or score):
        option = "--json" if as_json else "--checkpoints" if checkpoints else "--score"
        raise UsageError(f"{option} needs questions", remedy="Give --prompt or --prompts, or pipe the question in.")
    params = {**(find_knob_preset(preset).values if preset else {}), **knobs}
    resolve_knobs([(YOURS, params)])
    manner = Manner(
        params, system, prefill or "", NO_TEMPLATE if no_template else template, _variables(template_kwargs)
    )
    if checkpoints is not None and items is not None:
        return _over_checkpoints(model, checkpoints, items, manner, against, as_json=as_json)

    from tui_trainer.cli.chat_local import LocalModels

    models = LocalModels()
    where = {"device": device, "dtype": dtype}
    models.load("a", model, where | ({"adapter": adapter} if adapter else {}))
    if against:
        models.load("b", against, where)
    if items is None:
        from tui_trainer.cli.chat_conversation import Talk
        from tui_trainer.cli.chat_loop import converse

        return converse(Talk(models, manner, where))
    if score:
        from tui_trainer.cli.chat_sets import score as score_set

        return score_set(models, items, manner, as_json=as_json)
    return _ask_all(models, items, manner, as_json=as_json)


def _variables(text: str | None) -> dict[str, Any]:
    """The variables of `--template-kwargs`."""
    from tui_trainer.config.catalogue import catalogue, parse_text

    try:
        return dict(parse_text(catalogue()["data.template_kwargs"], text or "{}"))
    except ValueError as error:
        raise UsageError(f"--template-kwargs {error}", remedy="As in {enable_thinking = false}.") from None


def _over_checkpoints(
    model: str, which: str, items: Sequence[Item], manner: Manner, against: str | None, *, as_json: bool
) -> int:
    from tui_trainer.cli.chat_local import LocalModels
    from tui_trainer.cli.chat_sets import checkpoints_of, over_checkpoints

    references = checkpoints_of(model, which)
    request = {"params": dict(manner.params), "system": manner.system, "baseline": against}
    given = {name: value for name, value in request.items() if value is not None} | manner.template_request
    return over_checkpoints(LocalModels(), references, items, given, as_json=as_json)


def _ask_all(models: LocalModels, items: Sequence[Item], manner: Manner, *, as_json: bool) -> int:
    from tui_trainer.cli.chat_answers import ask, introduce
    from tui_trainer.cli.chat_local import interruptible
    from tui_trainer.tui.chat.asking import asked_for
    from tui_trainer.tui.chat.reply import Opening
    from tui_trainer.tui.chat.tree import Conversation

    opening = Opening(manner.prefill)
    params = dict(manner.params)
    if models.has_other:
        params = {**asked_for(models.call("knobs", {"params": params})), **params}
    with interruptible() as cancellation:
        introduce(models)
        for item in items:
            conversation = Conversation()
            question = conversation.ask(str(item.asked if isinstance(item.asked, str) else item.name))
            request = {"params": params, **opening.request}
            if isinstance(item.asked, str) and not manner.takes_messages:
                request["prompt"] = item.asked
            else:
                request |= {"messages": item.messages(manner.system), **manner.template_request}
            slots = list(models.slots)
            document = ask(
                models, conversation, question, opening, request, cancellation, slots=slots, show=not as_json
            )
            if as_json:
                print_json(_as_one_line(document))
            if cancellation.is_cancelled:
                return int(ExitCode.INTERRUPTED)
    return int(ExitCode.DONE)


def _as_one_line(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A prompt's line: the answer of A, and where there are two models that of B and where they differ."""
    if "a" not in document:
        return document
    rest = {name: document[name] for name in ("same_prompt", "in_one_batch", "diff") if name in document}
    return {**document["a"], "against": document["b"], **rest}
