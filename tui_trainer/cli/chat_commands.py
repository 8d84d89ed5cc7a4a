"""The slash commands of a conversation on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tui_trainer.cli.chat_answers import coloured_text, introduce, legend_line
from tui_trainer.cli.chat_conversation import Talk
from tui_trainer.cli.output import can_ask, talk
from tui_trainer.config.catalogue import catalogue, parse_text, sampling_knobs, shown
from tui_trainer.config.knob_presets import SHAPING, find_knob_preset, list_knob_presets, save_knob_preset
from tui_trainer.errors import UsageError
from tui_trainer.paths import is_there, typed_path
from tui_trainer.runs.store import find_run, split_checkpoint
from tui_trainer.text import safe, safe_line
from tui_trainer.tui.chat.asking import NO_TEMPLATE, take_scores
from tui_trainer.tui.chat.colours import DIFFERENCE, LOGPROB, RANK
from tui_trainer.tui.chat.reply import Reply
from tui_trainer.tui.chat.saving import FORMATS, save
from tui_trainer.tui.chat.tree import Turn

_MODES = {"": LOGPROB, "rank": RANK, "difference": DIFFERENCE}


@dataclass(frozen=True)
class Command:
    """A slash command.

    Attributes:
        usage: the words after its name.
        help: what it does.
        run: does it.
    """

    usage: str
    help: str
    run: Callable[[Talk, str], None]


def _new(talking: Talk, _: str) -> None:
    talking.conversation.root.following = None


def _question(talking: Talk) -> Turn:
    question = talking.conversation.question_of(talking.conversation.tip)
    if question is None:
        raise UsageError("nothing was asked yet")
    return question


def _reply(talking: Talk) -> Reply:
    reply = talking.conversation.tip.reply
    if reply is None or not reply.all_tokens:
        raise UsageError("there is no answer yet")
    return reply


def _retry(talking: Talk, _: str) -> None:
    talking.answer(_question(talking))


def _edit(talking: Talk, text: str) -> None:
    if not text:
        raise UsageError("what shall be asked instead?", remedy="/edit TEXT")
    talking.answer(talking.conversation.edit(_question(talking), text))


def _continue(talking: Talk, _: str) -> None:
    reply = _reply(talking)
    talking.answer(_question(talking), reply.continued(), (reply.slot,))


def _undo(talking: Talk, _: str) -> None:
    if talking.conversation.undo() is None:
        raise UsageError("nothing to take back")


def _step(talking: Talk, direction: int) -> None:
    turn = talking.conversation.step(talking.conversation.tip, direction)
    number, many = turn.place
    talk().print(f"{number}/{many} {turn.role}: {safe(turn.text)}")


def _tree(talking: Talk, _: str) -> None:
    path = {id(turn) for turn in talking.conversation.path}
    for depth, turn in talking.conversation.walk():
        mark = "●" if id(turn) in path else " "
        talk().print(f"{mark} {'│ ' * depth}{turn.role}: {safe_line(turn.text[:100])}")


def _system(talking: Talk, text: str) -> None:
    talking.manner = replace(talking.manner, system=text or None)


def _prefill(talking: Talk, text: str) -> None:
    talking.manner = replace(talking.manner, prefill=text)


def _template(talking: Talk, argument: str) -> None:
    name, opening, variables = argument.partition("{")
    name, manner = name.strip(), talking.manner
    if not argument:
        answer = talking.models.call("templates", {"template": manner.template})
        used = answer["template"]
        for each in answer["known"]:
            talk().print(safe_line(f"{each['name']:24} {each['source']}"))
        in_use = (
            f"{used['name']} ({used['source']}) {shown(used['kwargs']) if used['kwargs'] else ''}" if used else "none"
        )
        talk().print(safe_line(f"in use: {in_use if manner.takes_messages else 'none'}"), style="bold")
        return
    kwargs: Mapping[str, object] = {}
    if opening:
        try:
            kwargs = parse_text(catalogue()["data.template_kwargs"], opening + variables)
        except ValueError as error:
            raise UsageError(f"the variables: {error}", remedy="/template NAME {variable = value}") from None
    chosen = None if name == "usual" else name or manner.template
    if chosen not in (None, NO_TEMPLATE):
        for slot in talking.models.slots:
            talking.models.call("templates", {"template": chosen, "slot": slot})
    talking.manner = replace(manner, template=chosen, template_kwargs=dict(kwargs))


def _set(talking: Talk, argument: str) -> None:
    name, _, text = argument.partition(" ")
    knob = sampling_knobs().get(name.replace("-", "_"))
    if knob is None:
        problems = talking.models.call("knobs", {"params": {name: None}})["problems"]
        why = problems[0]["message"] if problems else "is another name of a knob"
        raise UsageError(f"{name}: {why}", remedy="/knobs shows all.")
    changed = {key: value for key, value in talking.manner.params.items() if key != knob.name}
    if text.strip():
        try:
            changed[knob.name] = parse_text(knob, text)
        except ValueError as error:
            raise UsageError(f"{knob.name} {error}") from None
    _use(talking, changed)


def _use(talking: Talk, params: Mapping[str, object]) -> None:
    """Take these knobs, unless they contradict each other."""
    problems = talking.models.call("knobs", {"params": dict(params)})["problems"]
    if problems:
        raise UsageError("; ".join(f"{problem['key']} {problem['message']}" for problem in problems))
    talking.manner = replace(talking.manner, params=dict(params))


def _knobs(talking: Talk, _: str) -> None:
    answer = talking.models.call("knobs", {"params": dict(talking.manner.params)})
    known = sampling_knobs()
    talk().print(safe(answer["strategy"]), style="bold")
    for name, knob in answer["knobs"].items():
        why = f"  no effect: {answer['ignored'][name]}" if name in answer["ignored"] else ""
        talk().print(f"{name:20} {safe(shown(knob['value'])):10} {knob['source']:8} {known[name].expected}{why}")


def _preset(talking: Talk, argument: str) -> None:
    word, _, name = argument.partition(" ")
    if not word:
        for preset in list_knob_presets():
            values = ", ".join(f"{knob} {shown(value)}" for knob, value in preset.values.items())
            talk().print(safe_line(f"{preset.name:16} {preset.problem or values}"))
    elif word == "save":
        talk().print(safe(f"kept in {save_knob_preset(name.strip(), talking.manner.params)}"), style="dim")
    else:
        _use(talking, find_knob_preset(word).values)


def _neutral(talking: Talk, _: str) -> None:
    kept = {name: value for name, value in talking.manner.params.items() if name not in SHAPING}
    below = talking.models.call("knobs", {"params": kept})["knobs"]
    defaults = {name: knob.default for name, knob in sampling_knobs().items() if name in SHAPING}
    against = {name: value for name, value in defaults.items() if below[name]["value"] != value}
    _use(talking, kept | against)


def _against(talking: Talk, model: str) -> None:
    if model:
        talking.models.load("b", model, talking.where)
    else:
        talking.models.drop_other()
    introduce(talking.models)


def _follow(talking: Talk, _: str) -> None:
    if talking.followed is not None:
        talking.followed = None
        talk().print("follows the run no more", style="dim")
        return
    slot = talking.models.slots["a"]
    run = slot.about.get("run") or split_checkpoint(slot.reference)[0]
    talking.followed = find_run(str(run))
    talk().print(safe(f"follows {talking.followed.id}: its newest checkpoint answers"), style="dim")


def _raw(talking: Talk, _: str) -> None:
    question, reply = _question(talking), talking.conversation.tip.reply
    request = talking.manner.prompt_to(question)
    if reply is not None and not reply.is_failed:
        request |= {"reply": reply.text, "slot": reply.slot}
    answer = talking.models.call("render", request)
    for token in answer["tokens"]:
        talk().print(safe_line(f"{token['id']:>8} {token['text']!r}{'  special' if token['special'] else ''}"))
    parity = answer["parity"]
    talk().print(safe(f"{'same' if parity['same'] else 'differs'}: {parity['message']}"), style="bold")


def _tokens(talking: Talk, mode: str) -> None:
    if mode not in _MODES:
        raise UsageError(f"tokens cannot be shown by {mode!r}", remedy="/tokens, /tokens rank or /tokens difference")
    reply = _reply(talking)
    if mode == "difference":
        if not talking.models.has_other:
            raise UsageError("there is no second model", remedy="/against MODEL")
        request = {**talking.manner.prompt_to(_question(talking)), "reply_ids": reply.ids, "top": 0}
        take_scores(reply, talking.models.call("tokens", request))
    talk().print(legend_line(_MODES[mode]))
    talk().print(coloured_text(reply, _MODES[mode]))
    if reply.judged:
        talk().print(safe_line(reply.judged), style="dim")


def _save(talking: Talk, argument: str) -> None:
    form, _, name = argument.partition(" ")
    if form not in FORMATS or not name.strip():
        raise UsageError("which format and which file?", remedy=f"/save FORMAT FILE; formats: {', '.join(FORMATS)}")
    path = typed_path(name)
    is_rows = FORMATS[form].is_rows
    if is_there(path) and not is_rows and not _may_replace(path):
        raise UsageError("is there already, and stays as it is", where=str(path))
    done = save(talking.conversation, talking.manner.system, form, path, append=is_rows)
    talk().print(safe_line(done), style="dim")


def _may_replace(path: Path) -> bool:
    return can_ask() and input(f"{safe_line(str(path))} is there already; replace it? [y/N] ").lower() == "y"


COMMANDS: Mapping[str, Command] = {
    "new": Command("", "begin a new conversation", _new),
    "retry": Command("", "answer the last question again, as another branch", _retry),
    "edit": Command("TEXT", "ask something else instead, as another branch", _edit),
    "continue": Command("", "lengthen the last answer", _continue),
    "undo": Command("", "leave the last question and its answer aside", _undo),
    "left": Command("", "to the branch before", lambda talking, _: _step(talking, -1)),
    "right": Command("", "to the branch after", lambda talking, _: _step(talking, 1)),
    "tree": Command("", "show all branches", _tree),
    "system": Command("TEXT", "set the system message, without a text remove it", _system),
    "prefill": Command("TEXT", "what every answer begins with, without a text nothing", _prefill),
    "template": Command(
        "[NAME] [{…}]", "ask with a chat template: name, file, model, none, usual; variables", _template
    ),
    "set": Command("KNOB VALUE", "set a knob, as /set temperature 0.7; without a value give it back", _set),
    "knobs": Command("", "show the knobs, where their values come from, what they take", _knobs),
    "preset": Command("[NAME | save NAME]", "show, take or keep knobs under a name", _preset),
    "neutral": Command("", "let no knob change what the model says", _neutral),
    "against": Command("MODEL", "ask a second model the same, without a model no longer", _against),
    "follow": Command("", "take each new checkpoint of the run, or no longer", _follow),
    "raw": Command("", "the tokens the model is given, and whether training has the same", _raw),
    "tokens": Command("[rank | difference]", "the last answer by log-probability, rank or B against A", _tokens),
    "save": Command("FORMAT FILE", "save as markdown or json, or as a row to train on", _save),
}

_USAGES = {f"/{name} {command.usage}".rstrip(): command.help for name, command in COMMANDS.items()}
_USAGES["/quit"] = "leave, as ctrl+d does"
HELP = "\n".join([*(f"{usage:27} {about}" for usage, about in _USAGES.items()), "ctrl+c stops an answer."])
