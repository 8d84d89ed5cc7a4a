"""From what a user calls a model to a session: loaded anew, or on the weights of the session beside it."""

from __future__ import annotations

from dataclasses import dataclass

from tui_trainer.engine.chat.session import ChatSession
from tui_trainer.engine.chat.sharing import can_share, share
from tui_trainer.engine.models.chat_model import load_located, locate_for_chat
from tui_trainer.engine.report import Report, ignore_report


@dataclass(frozen=True)
class Wanted:
    """A model to talk to.

    Attributes:
        model: hub id, folder, .gguf file, run (RUN, RUN@STEP, RUN@best) or demo:smollm2.
        adapter: a PEFT adapter to put on it: folder, hub id or run.
        device: "auto", "cpu", "cuda" or "cuda:1".
        dtype: "auto", "float32", "bfloat16", "float16" or "int8".
        decode: which forward pass (`choose_forward`).
    """

    model: str
    adapter: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    decode: str = "auto"


def open_session(wanted: Wanted, beside: ChatSession | None = None, report: Report = ignore_report) -> ChatSession:
    """A session with a model.

    Args:
        wanted: the model.
        beside: the session it will be compared with; where both stand on the same base, they share its weights.
        report: told what is going on.

    Raises:
        WorkbenchError: as `locate_for_chat` and `load_located`.
    """
    source = locate_for_chat(wanted.model, wanted.adapter, report=report)
    if beside is not None and _is_indifferent(wanted) and can_share(beside, source):
        report("putting it on the weights that are loaded", None, None)
        return share(beside, wanted.model, source)
    loaded = load_located(source, device=wanted.device, dtype=wanted.dtype, report=report)
    return ChatSession(wanted.model, loaded, decode=wanted.decode)


def _is_indifferent(wanted: Wanted) -> bool:
    """Whether nothing is said that the weights beside may not have."""
    return (wanted.device, wanted.dtype, wanted.decode) == ("auto", "auto", "auto")
