"""A chat template: its text, its name and source, and rendering of messages with it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Literal

import jinja2
import xxhash

from tui_trainer.engine.data.templates.limits import TemplateTimeoutError, limited
from tui_trainer.engine.data.templates.sandbox import MAX_TEMPLATE_CHARACTERS, compile_template
from tui_trainer.errors import DataError

TemplateSource = Literal["model", "file", "builtin", "package"]

_FREE_CHARACTERS = 1 << 20
_MAX_GROWTH = 16
"""What a template may print beyond `_FREE_CHARACTERS`, as a multiple of what the conversation holds."""


class RenderError(Exception):
    """The template refused the messages or broke on them; the text says how."""


class RenderLimitError(RenderError):
    """The template took too long, too much memory or printed too much, and may do so again."""


@dataclass(frozen=True)
class ChatTemplate:
    """A chat template with the variables it is always given.

    Attributes:
        name: what the user calls it.
        source: where it comes from.
        text: the Jinja text.
        variables: special tokens of the tokenizer, and `data.template_kwargs`.
        tool_text: another text for conversations with tools, where a tokenizer has two.
        where: file it was read from, for messages.
    """

    name: str
    source: TemplateSource
    text: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    tool_text: str | None = None
    where: str = ""

    @property
    def hash(self) -> str:
        """Short name of what it prints: changes with its text, its variables, and with the date if it prints that."""
        parts = [self.text, self.tool_text or "", repr(sorted(self.variables.items(), key=str))]
        if self.prints_date:
            parts.append(date.today().isoformat())
        return xxhash.xxh3_64("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def prints_date(self) -> bool:
        """Whether what it prints depends on the day it is rendered."""
        return "strftime_now" in self.text + (self.tool_text or "")

    @property
    def knows_tools(self) -> bool:
        """Whether it looks at tools at all."""
        return re.search(r"\btools?\b", self.text + (self.tool_text or "")) is not None

    @property
    def knows_developer(self) -> bool:
        """Whether it has a word for the role developer."""
        return "developer" in self.text

    def to_dict(self) -> dict[str, str]:
        """Name, source and hash as a JSON object."""
        return {"name": self.name, "source": self.source, "hash": self.hash}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The text of a conversation.

        Args:
            messages: the conversation.
            tools: what the assistant may call.
            add_generation_prompt: end with the header of the assistant's next turn, as a chat does.

        Raises:
            RenderError: the template refuses the messages or breaks on them.
            RenderLimitError: it takes too long or too much memory, or prints too much.
        """
        template = self._tool_template if tools is not None and self._tool_template is not None else self._template
        try:
            with limited():
                text = template.render(
                    messages=messages,
                    tools=tools,
                    documents=None,
                    add_generation_prompt=add_generation_prompt,
                    **self.variables,
                )
        except TemplateTimeoutError:
            raise RenderLimitError("takes too long, as if it never ended") from None
        except MemoryError:
            raise RenderLimitError("needs too much memory") from None
        except OverflowError:
            raise RenderLimitError("computes something too large, as a range without end") from None
        except RecursionError:
            raise RenderError("calls itself without end") from None
        except jinja2.TemplateError as error:
            raise RenderError(str(error.message or error)) from None
        except Exception as error:  # a template may break in any way that Python knows
            raise RenderError(f"breaks with {type(error).__name__}: {error}") from None
        if len(text) > _FREE_CHARACTERS:
            held = len(json.dumps([messages, tools], ensure_ascii=False, default=str))
            if len(text) > _FREE_CHARACTERS + _MAX_GROWTH * held:
                raise RenderLimitError(f"prints {len(text):,} characters for a conversation of {held:,}")
        return text

    @cached_property
    def _template(self) -> jinja2.Template:
        return self._compiled(self.text)

    @cached_property
    def _tool_template(self) -> jinja2.Template | None:
        return self._compiled(self.tool_text) if self.tool_text else None

    def check(self) -> None:
        """Compile the template.

        Raises:
            DataError: it is no valid template; the message has the line.
        """
        _ = self._template, self._tool_template

    def _compiled(self, text: str) -> jinja2.Template:
        where = self.where or f"chat template {self.name}"
        if len(text) > MAX_TEMPLATE_CHARACTERS:
            raise DataError("is too long for a chat template", where=where)
        try:
            with limited():
                return compile_template(text)
        except jinja2.TemplateSyntaxError as error:
            raise DataError(
                f"is no valid template: {error.message}",
                where=f"{where}:{error.lineno}",
                remedy="Mend this line, or choose another template.",
            ) from None
        except (RecursionError, MemoryError, TemplateTimeoutError, SyntaxError):
            raise DataError("is nested too deeply for a template", where=where) from None
        except jinja2.TemplateError as error:
            raise DataError(f"is no valid template: {error}", where=where) from None
