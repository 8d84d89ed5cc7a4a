"""The queue on the Runs screen: places are shown and changed."""

from __future__ import annotations

from collections.abc import Callable

from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.queue import Queue
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.widgets.run_table import RunTable

from .fakes import FakeWorld
from .recorded import record_run
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


def waiting(world: FakeWorld, name: str, place: int) -> RunLayout:
    layout = record_run(world.root, name, steps=1, max_steps=9)
    assert Queue().join(layout, LaunchOrder(("x",), num_cpus=1)) == place
    me = ProcessIdentity.current()
    write_status(layout, RunStatus(layout.id, State.QUEUED, queue_place=place, message="waits", process=me))
    return layout


async def test_a_waiting_run_is_moved_forward(make_app: MakeApp, world: FakeWorld) -> None:
    first, second = waiting(world, "first", 1), waiting(world, "second", 2)
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        table = app.screen.query_one(RunTable)
        await wait_until(pilot, lambda: table.num_lines == 2)
        assert "queued 2" in "".join(text for text, _ in table.line_parts(0))
        assert table.run is not None
        assert table.run.id == second.id
        await pilot.press("less_than_sign")
        await wait_until(pilot, lambda: [entry.layout.id for entry in Queue().waiting()] == [second.id, first.id])
        await pilot.press("greater_than_sign")
        await wait_until(pilot, lambda: [entry.layout.id for entry in Queue().waiting()] == [first.id, second.id])
