"""The draft as a file: begin with a preset, see what would run, save; the Args screen builds on it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tui_trainer.errors import WorkbenchError
from tui_trainer.paths import is_there, typed_path
from tui_trainer.tui.screens.editing import EditingScreen
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick


class FilingScreen(EditingScreen):
    """A screen from which the draft can be loaded and saved."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("P", "preset", "Preset", id="args-preset", tooltip="Begin with a preset"),
        Binding("p", "preview", "Command", id="args-preview", tooltip="The command and the file that would run"),
        Binding("s", "save", "Save", id="args-save", tooltip="Save the configuration as a file"),
    ]

    def action_preset(self) -> None:
        """Begin with a preset."""
        from tui_trainer.config.presets import list_presets

        options = [(preset.name, preset.name, preset.title) for preset in list_presets()]
        self.app.push_screen(Pick("Begin with a preset", options, self.session.draft.origin), self._preset_picked)

    def _preset_picked(self, name: str | None) -> None:
        from tui_trainer.tui.target import draft_from

        if name is None:
            return
        try:
            self.session.set_draft(draft_from(name))
        except WorkbenchError as error:
            self.say(str(error), problem=True)

    def action_save(self) -> None:
        """Save the configuration as a file."""
        about_file = "A TOML file. `tui-trainer train FILE` runs it without a screen."
        self.app.push_screen(AskText("Save as", f"{self.session.draft.config.name}.toml", about_file), self._save_to)

    def _save_to(self, name: str | None) -> None:
        if not name:
            return
        self._write(typed_path(name), self.session.draft.to_toml().encode())

    @work(group="file")
    async def _write(self, path: Path, document: bytes) -> None:
        """Write the file in a thread, for a disk may be slow; one that is there only with a yes."""
        from tui_trainer.runs.files import write_bytes

        if await asyncio.to_thread(is_there, path):
            sure = Confirm(f"{path} is there already", ["It would be replaced."], "replaces it")
            if not await self.app.push_screen_wait(sure):
                return
        try:
            await asyncio.to_thread(write_bytes, path, document)
        except OSError as error:
            self.say(f"{path} cannot be written: {error.strerror}", problem=True)
        else:
            self.say(f"saved {path}")

    def action_preview(self) -> None:
        """Show the command and the file that would run."""
        from tui_trainer.config.launch import launch_command
        from tui_trainer.tui.screens.text import TextScreen

        config = self.session.draft.config
        reading = self.session.services.machine.reading
        command = launch_command(
            config,
            Path("RUN"),
            num_gpus=len(reading.gpus) if reading else 0,
            num_cpus=len(os.sched_getaffinity(0)),
        )
        env = "".join(f"{name}={value} " for name, value in command.env.items())
        file = f"# {config.name}.toml\n{self.session.draft.to_toml()}"
        text = f"# RUN is the directory of the new run\n{env}{command.display}\n\n{file}"
        self.app.push_screen(TextScreen("What would run", text))
