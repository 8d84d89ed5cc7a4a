"""The app: five modes, the global keys, the session; everything else is in the screens."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.css.query import NoMatches
from textual.events import Event, Key, Paste
from textual.filter import LineFilter
from textual.screen import Screen
from textual.widget import MountError
from textual.worker import WorkerFailed
from typing_extensions import override

from tui_trainer.errors import WorkbenchError
from tui_trainer.paths import config_dir
from tui_trainer.text import safe
from tui_trainer.tui.safety import with_safe_filter
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.services import Services, real_services
from tui_trainer.tui.session import Session
from tui_trainer.tui.target import Opening, wait_for_opening
from tui_trainer.tui.theme import WORKBENCH
from tui_trainer.tui.type_ahead import TypeAhead
from tui_trainer.tui.widgets.topbar import MODES

_SETTLED_SECONDS = 2.0
_SCREENS: dict[str, str] = {name: f"{title}Screen" for _, name, title in MODES}


def _load_screen(name: str, session: Session) -> Screen[None]:
    """Import a screen when it is first visited."""
    module = import_module(f"tui_trainer.tui.screens.{name}")
    screen: Screen[None] = getattr(module, _SCREENS[name])(session)
    return screen


class WorkbenchApp(App[None]):
    """The workbench.

    Args:
        services: the outside world.
        opening: what to begin with.
        root: the run store.
    """

    CSS_PATH = "app.tcss"
    TITLE = "tui-trainer"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, f"go('{name}')", title, show=False, id=f"mode-{name}", tooltip=f"Go to the screen {title}")
            for key, name, title in MODES
        ),
        Binding("q", "leave", "Quit", show=False, id="quit", tooltip="Leave; runs go on"),
        Binding("ctrl+q", "leave", "Quit", show=False, priority=True, id="quit-now", tooltip="Leave from anywhere"),
        Binding("ctrl+l", "repaint", "Redraw", show=False, priority=True, id="redraw", tooltip="Draw the screen anew"),
    ]

    def __init__(self, services: Services, opening: Opening | None = None, root: Path | None = None) -> None:
        super().__init__()
        self.register_theme(WORKBENCH)
        self.theme = WORKBENCH.name
        self._opening = opening or Opening()
        self.services = services
        self._type_ahead = TypeAhead(self, super().on_event)
        self.session = Session(self, services, self._type_ahead, self._opening.draft, root)
        for _, name, _ in MODES:
            self.add_mode(name, partial(_load_screen, name, self.session))

    async def on_event(self, event: Event) -> None:
        """Keys wait for each other; everything else is handled as it comes."""
        if isinstance(event, (Key, Paste)) and not event.is_forwarded:
            await self._type_ahead.take(event)
        else:
            await super().on_event(event)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The usual filters, and the net that holds back control characters."""
        return with_safe_filter(super().get_line_filters())

    def on_mount(self) -> None:
        """Show the first screen; start what runs beside it."""
        self._apply_keymap()
        if self._opening.run is not None:
            self.session.run.open(self._opening.run)
        self.switch_mode(self._opening.mode)
        self.run_worker(self.services.machine.start(), exit_on_error=False)
        self.set_timer(_SETTLED_SECONDS, resume_collection)

    def _apply_keymap(self) -> None:
        """Take the user's keys; a file with mistakes is told of and left aside."""
        if not (config_dir() / "keys.toml").is_file():
            return
        from tui_trainer.tui.keymap import read_keymap

        try:
            self.set_keymap(read_keymap())
        except WorkbenchError as error:
            self.notify(str(error), title="your keys are not used", severity="error", markup=False, timeout=20)

    def action_go(self, mode: str) -> None:
        """Change to another screen."""
        if len(self.screen_stack) == 1:
            self.switch_mode(mode)

    @override
    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Modes cannot be changed from under a dialog."""
        return len(self.screen_stack) == 1 if action in ("go", "leave") and self._running_modes() else True

    def _running_modes(self) -> bool:
        return isinstance(self.screen_stack[0], WorkbenchScreen)

    def action_repaint(self) -> None:
        """Draw everything anew, as after attaching tmux from another terminal."""
        self.refresh(layout=True)

    async def action_leave(self) -> None:
        """Leave; what trains goes on, and the last words say so."""
        status, words = await self.session.run.status(), None
        if status is not None and status.state.is_live:
            words = safe(f"{status.id} goes on. `tui-trainer` shows it where it is, `tui-trainer runs stop` ends it.")
        await self.services.close()
        self.exit(message=words)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every key of the screen is in the command palette too."""
        yield from super().get_system_commands(screen)
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and binding.id and active.enabled:
                run: Callable[[], None] = partial(self._run_binding, active.node, binding.action)
                yield SystemCommand(binding.description, binding.tooltip, run)

    def _run_binding(self, node: object, action: str) -> None:
        self.call_later(self.run_action, action, node)

    def _handle_exception(self, error: Exception) -> None:
        """End on an unforeseen error without the library's traceback, which shows the values of variables."""
        cause = error.error if isinstance(error, WorkerFailed) else error
        if (self._exit or not self._running) and isinstance(cause, (NoMatches, MountError)):
            return  # the widgets are being taken down; what was still to be shown in them finds them gone
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._close_messages_no_wait()

    def raise_unforeseen(self) -> None:
        """Raise the error that ended the app, if one did, for the command line to tell and to keep."""
        if isinstance(self._exception, WorkerFailed):
            raise self._exception.error
        if self._exception is not None:
            raise self._exception


def resume_collection() -> None:
    """Let Python look for garbage again, but not in what the start has made: it stays, and takes long to go through."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def run(target: str | None = None, *, argv: Sequence[str] = ()) -> int:
    """Open the workbench on a run, a configuration, a dataset, or where one left off.

    Returns:
        The exit code.

    Raises:
        Exception: what ended the workbench unforeseen.
    """
    app = WorkbenchApp(real_services(argv), wait_for_opening(target))
    app.run()
    app.raise_unforeseen()
    return app.return_code or 0
