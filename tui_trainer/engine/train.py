"""The training process, started by `accelerate launch` once a rank: `python -m tui_trainer.engine.train RUN_DIRECTORY`.

Reads the run's configuration and nothing else; writes events, checkpoints and its last words into the run directory.
The heavy libraries are loaded late, so that a rank is known and can be stopped from its first moment on.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import read_document
from tui_trainer.ending import end_with
from tui_trainer.engine.trainer.failures import Failure, classify
from tui_trainer.engine.trainer.journal import EventLog, ProgressReport, RankFile
from tui_trainer.engine.trainer.termination import Termination
from tui_trainer.errors import ExitCode, WorkbenchError
from tui_trainer.runs.events import RunFailed, RunStopped
from tui_trainer.runs.layout import RunLayout


def main(arguments: list[str]) -> int:
    """Train the run in a directory; returns the exit code."""
    os.umask(0o077)
    layout = RunLayout(Path(arguments[0]).absolute())
    rank = int(os.environ.get("RANK", "0"))
    rank_file = RankFile(layout, rank)
    termination = Termination()
    termination.install()
    events = EventLog(layout, is_writer=rank == 0)
    began = time.monotonic()
    try:
        report = ProgressReport(events)
        report("loading the libraries")
        from tui_trainer.engine.trainer.run import train_run

        train_run(layout, read_config(layout), events, termination, report, began=began)
    except (Exception, KeyboardInterrupt) as error:
        return _end(error, classify(error), rank_file, events)
    finally:
        events.close()
    return ExitCode.DONE


def read_config(layout: RunLayout) -> RunConfig:
    """The resolved configuration of a run.

    Raises:
        ConfigurationError: the file was changed into something that is none.
    """
    return resolve([Values(Layer.FILE, read_document(layout.config))]).config


def _end(error: BaseException, failure: Failure, rank_file: RankFile, events: EventLog) -> int:
    """Record why the run ends before its end; returns the exit code."""
    if failure.reason == "stopped":
        _leave_group()
        events.write(RunStopped(step=events.last_step, reason=failure.message), durable=True)
        return ExitCode.DONE
    if not isinstance(error, WorkbenchError):
        traceback.print_exception(error)
    sys.stderr.write(f"{failure.message} {failure.remedy}\n")
    rank_file.last_words(failure.to_dict())
    events.write(
        RunFailed(step=events.last_step, reason=failure.reason, message=failure.message, remedy=failure.remedy),
        durable=True,
    )
    return error.exit_code if isinstance(error, WorkbenchError) else ExitCode.FAILED


def _leave_group() -> None:
    """Leave the ranks' group, if there is one by now; a process that ends inside of it may abort."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    end_with(lambda: main(sys.argv[1:]))
