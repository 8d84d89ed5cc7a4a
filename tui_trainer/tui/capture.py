"""Takes the README's screenshots from a real run: `python -m tui_trainer.tui.capture [--out DIR]`.

Drives the app by its keys through both demos: the dataset with its mask, the arguments, a run while it learns, the
talk after it. Nothing is made up; it takes some minutes. Writes SVG, and PNG where cairosvg is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from tui_trainer.runs.status import State
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.picture import screen_svg
from tui_trainer.tui.services import real_services
from tui_trainer.tui.target import Opening, draft_from
from tui_trainer.tui.widgets.prompt_line import PromptLine
from tui_trainer.tui.widgets.sample_view import SampleView
from tui_trainer.tui.widgets.transcript import Transcript

WIDE, NARROW = (120, 36), (80, 24)
_LIMIT_SECONDS = 900.0


class Camera:
    """Waits for the app and takes pictures of it."""

    def __init__(self, app: WorkbenchApp, pilot: Pilot[None], out: Path) -> None:
        self.app, self.pilot, self._out = app, pilot, out

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Let the app run until a condition holds.

        Raises:
            TimeoutError: it does not hold within a quarter of an hour.
        """
        deadline = time.monotonic() + _LIMIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError("the app never got there")
            await self.pilot.pause(0.1)
        await self.pilot.pause(0.5)

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            await self.pilot.press(key)
            await self.pilot.pause(0.05)

    async def shoot(self, name: str) -> None:
        """Write a picture of the screen."""
        await self.wait(lambda: not self.app._notifications)
        svg = screen_svg(self.app)
        (self._out / f"{name}.svg").write_text(svg, "utf-8")
        try:
            import cairosvg
        except ImportError:
            sys.stderr.write(f"{name}.svg (no PNG: cairosvg is not installed)\n")
            return
        cairosvg.svg2png(bytestring=svg.encode(), write_to=str(self._out / f"{name}.png"), scale=1.5)
        sys.stderr.write(f"{name}.svg, {name}.png\n")

    async def go(self, key: str, mode: str) -> None:
        """Change the screen."""
        await self.press("escape", key)
        await self.wait(lambda: self.app.current_mode == mode)

    @property
    def step(self) -> int:
        """Steps of the run in view."""
        view = self.app.session.run.view
        return view.last.step if view is not None and view.last is not None else 0

    @property
    def state(self) -> State | None:
        """State of the run in view."""
        view = self.app.session.run.view
        return view.status.state if view is not None else None


async def dates_story(out: Path) -> None:
    """Arguments, a run while it learns and after, the talk, the table of runs."""
    app = WorkbenchApp(real_services(sys.argv), Opening("args", draft_from("dates-from-scratch")))
    async with app.run_test(size=WIDE) as pilot:
        camera = Camera(app, pilot, out)
        await camera.wait(lambda: app.session.dataset.state.verdict is not None)
        await camera.wait(lambda: app.session.dataset.state.shape is not None)
        await camera.press("j", "j", "j", "j", "enter", "j")
        await camera.shoot("args")
        await camera.press("L")
        await camera.wait(lambda: app.current_mode == "train" or len(app.screen_stack) > 1)
        if len(app.screen_stack) > 1:
            await camera.press("y")
        await camera.wait(lambda: camera.step >= 300)
        await camera.shoot("train")
        await camera.wait(lambda: camera.state is not None and camera.state.is_over)
        await camera.press("w", "w")
        await camera.shoot("train-samples")
        await _ask(camera, "the 6th of March 2038")
        await camera.shoot("chat-dates")
        await camera.go("5", "runs")
        await camera.shoot("runs")


async def identity_story(out: Path) -> None:
    """A dataset with its mask, in two sizes of terminal; the talk with the model that learned it."""
    app = WorkbenchApp(real_services(sys.argv), Opening("data", draft_from("identity-lora")))
    async with app.run_test(size=WIDE) as pilot:
        camera = Camera(app, pilot, out)
        await camera.wait(lambda: app.session.dataset.state.verdict is not None)
        await camera.wait(lambda: app.screen.query_one(SampleView).sample is not None)
        await camera.shoot("data")
        await pilot.resize_terminal(*NARROW)
        await camera.shoot("data-80x24")
        await pilot.resize_terminal(*WIDE)
        await camera.go("2", "args")
        await camera.press("L")
        await camera.wait(lambda: app.current_mode == "train" or len(app.screen_stack) > 1)
        if len(app.screen_stack) > 1:
            await camera.press("y")
        await camera.wait(lambda: camera.state is not None and camera.state.is_over)
        await pilot.resize_terminal(*NARROW)
        await camera.shoot("train-80x24")
        await pilot.resize_terminal(*WIDE)
        await _ask(camera, "Who are you?")
        await _ask(camera, "What is the capital of France?")
        await camera.shoot("chat")


async def _ask(camera: Camera, question: str) -> None:
    if camera.app.current_mode != "chat":
        await camera.go("4", "chat")
        if not isinstance(camera.app.focused, PromptLine):
            await camera.press("i")
    before = len(camera.app.screen.query_one(Transcript).said)
    await camera.press(*(key if key != " " else "space" for key in question), "enter")

    def is_answered() -> bool:
        transcript = camera.app.screen.query_one(Transcript)
        return len(transcript.said) >= before + 2 and not transcript.is_waiting

    await camera.wait(is_answered)


def main() -> int:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("screenshots"), help="folder for the pictures")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    asyncio.run(dates_story(out))
    asyncio.run(identity_story(out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
