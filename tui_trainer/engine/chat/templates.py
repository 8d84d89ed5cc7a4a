"""The chat templates a model can be asked with: the one of its run, its own, any of the library, a file.

The prompter renders with what it gets from here; the chat worker lists the names for those who choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tui_trainer.engine.data.masking.probe import TemplateProfile, probe_template
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderLimitError
from tui_trainer.engine.data.templates.library import find_template
from tui_trainer.engine.data.templates.limits import memory_limit, watched
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.engine.models.stop_tokens import closing_id
from tui_trainer.errors import ConfigurationError, UsageError, WorkbenchError

OWN = "model"
"""What the template that the model itself carries is asked for by, whatever its run was trained with."""


class Templates:
    """The templates of one model.

    Args:
        tokenizer: the model's.
        wanted: `data.template` of its run.
        kwargs: `data.template_kwargs` of its run, which every template is given.
        model_name: what its own template is called.

    Attributes:
        usual: the one it is asked with unless another is chosen; None if there is none.
        note: why that is not the one of its run.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, wanted: str | None, kwargs: Mapping[str, Any], model_name: str
    ) -> None:
        self._tokenizer = tokenizer
        self._own = tokenizer.chat_template
        self._variables = {**tokenizer.special_tokens_map, **kwargs}
        self._model_name = model_name
        self._profiles: dict[str, TemplateProfile] = {}
        self.note = ""
        self.usual = self._of_run(wanted)

    def _of_run(self, wanted: str | None) -> ChatTemplate | None:
        try:
            return self._named(wanted)
        except WorkbenchError as error:
            self.note = f"the run's template cannot be had ({error.what}); the checkpoint's own is used"
            return self._named(None)

    def _named(self, name: str | None) -> ChatTemplate | None:
        return find_template(name, self._own, self._variables, self._model_name)

    def chosen(self, name: str | None, kwargs: Mapping[str, Any] | None = None) -> ChatTemplate | None:
        """The template a question is asked with.

        Args:
            name: a name of the library, a file, "none", `OWN`; None for the usual one. A file is read each time.
            kwargs: more variables for it.

        Raises:
            UsageError: there is no such template.
            DataError: the file cannot be read, or is no valid template.
        """
        template = self.usual if name is None else self._own_template() if name == OWN else self._by_name(name)
        return template and replace(template, variables={**template.variables, **(kwargs or {})})

    def _own_template(self) -> ChatTemplate:
        template = self._named(None)
        if template is None:
            raise UsageError("the model has no chat template of its own", remedy="Choose one by its name, or a file.")
        return template

    def _by_name(self, name: str) -> ChatTemplate | None:
        try:
            return self._named(name)
        except ConfigurationError as error:
            problem = error.problems[0]
            raise UsageError(problem.message, remedy=problem.remedy) from None
        except WorkbenchError as error:
            raise UsageError(
                f"the chat template {name!r} cannot be had: {error.what}", where=error.where, remedy=error.remedy
            ) from None

    def profile(self, template: ChatTemplate, tokenizer: TextTokenizer | None) -> TemplateProfile:
        """What a template wants of messages; nothing where that cannot be found out."""
        if tokenizer is None:
            return TemplateProfile()
        if template.hash not in self._profiles:
            try:
                with memory_limit, watched():
                    self._profiles[template.hash] = probe_template(template, tokenizer)
            except RenderLimitError:
                self._profiles[template.hash] = TemplateProfile()
        return self._profiles[template.hash]

    def closing_id(self, template: ChatTemplate | None) -> int | None:
        """The special token with which a template closes an assistant's turn; None if it has none."""
        return None if template is None else closing_id(template, self._tokenizer)
