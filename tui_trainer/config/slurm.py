"""The scripts of a run under Slurm: a batch job that starts one launcher a node, and what submits and cancels it.

Slurm signals the job before its time is up, or before it gives the nodes to somebody else: the run saves, and the job
is queued again, to go on from that checkpoint. A job whose node is lost is queued again by Slurm itself (`--requeue`).
The run directory and the Python environment have to lie on a disk that the nodes share. The job's output goes to the
run's `train.log`. Written by `launch`, run by the supervisor.
"""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import ExitCode

JOB_SCRIPT = "job.sbatch"
SUBMIT_SCRIPT = "submit.sh"
_SAVER = "tui_trainer.procs.preempt"

_SUBMIT = """\
#!/bin/bash
# Submits the job and waits for its end, with its exit code. A signal to this script cancels the job: `sbatch --wait`
# alone would go and leave it on the nodes.
cd "$(dirname "$0")" || exit 1
sbatch --wait --parsable {job} > job.id &
waiting=$!
trap 'scancel "$(cut -d ";" -f 1 job.id)"' TERM INT HUP
code=1
while kill -0 "$waiting" 2> /dev/null; do
    wait "$waiting"
    code=$?
done
# a job that was queued again is not over, though sbatch may have seen its first part end
id=$(cut -d ";" -f 1 job.id)
while [ -n "$(squeue --noheader --jobs "$id" --format %T 2> /dev/null)" ]; do
    sleep {seconds}
    code=0
done
exit "$code"
"""

_PREEMPTED = """\
# Before Slurm takes the nodes away it signals this shell: USR1 ahead of the time limit, TERM for other reasons. The run
# saves and stops. After USR1 the job asks to be queued again; where that is refused its exit code {code} says so
# (RequeueExit={code} in slurm.conf). After TERM Slurm itself knows whether the job was preempted or cancelled.
save() {{
    trap "" USR1 TERM
    {save}
    code=$?
    for _ in 1 2 3 4 5; do  # what saved ends by itself; what did not must not keep the job from being queued again
        kill -0 "$training" 2> /dev/null || break
        sleep 1
    done
    if [ "$code" -eq {code} ] && [ "$1" = USR1 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
}}
training=
trap "save USR1" USR1
trap "save TERM" TERM
"""
_SIGNAL_MARGIN_SECONDS = 30
"""What Slurm may be late with its signal, and the job with its end."""
_LOOK_SECONDS = 10


def slurm_files(
    config: RunConfig,
    run_directory: Path,
    env: Mapping[str, str],
    argv: Sequence[str],
    rendezvous: Sequence[str],
    program: Sequence[str],
) -> dict[str, str]:
    """Name to text of the two scripts.

    Args:
        config: the run's configuration.
        run_directory: where they will lie.
        env: variables of the processes.
        argv: the launcher and its options.
        rendezvous: its options that only the job knows, in the words of the shell.
        program: what every process runs.
    """
    return {
        JOB_SCRIPT: _job(config, run_directory, env, argv, rendezvous, program),
        SUBMIT_SCRIPT: _SUBMIT.format(job=JOB_SCRIPT, seconds=_LOOK_SECONDS),
    }


def _job(
    config: RunConfig,
    run_directory: Path,
    env: Mapping[str, str],
    argv: Sequence[str],
    rendezvous: Sequence[str],
    program: Sequence[str],
) -> str:
    log = str(run_directory / "train.log").replace("%", "%%")
    grace = config.launch.grace_seconds
    options: dict[str, str | int] = {
        "job-name": config.name,
        "nodes": config.launch.num_machines,
        "ntasks-per-node": 1,
        "output": f'"{log}"',
        "open-mode": "append",
        "signal": f"B:USR1@{math.ceil(grace) + _SIGNAL_MARGIN_SECONDS}",
        "requeue": "",
        **config.launch.slurm_options,
    }
    lines = ["#!/bin/bash"]
    if "no-requeue" in options:
        del options["requeue"]
    lines += [f"#SBATCH --{name}" + (f"={_one_line(value)}" if value != "" else "") for name, value in options.items()]
    lines += ["", "# one task a node; each starts the launcher, which starts a process a GPU", "set -u"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    lines += ['MAIN_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)', "export MAIN_NODE"]
    command = " ".join((shlex.join(argv), *rendezvous, shlex.join(program)))
    save = shlex.join([sys.executable, "-P", "-m", _SAVER, str(run_directory), f"{grace:g}"])
    lines += [_PREEMPTED.format(save=save, code=int(ExitCode.PREEMPTED))]
    lines += [f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(command)} &", "training=$!", 'wait "$training"', ""]
    return "\n".join(lines)


def _one_line(value: object) -> str:
    """A value that cannot begin a line of its own in the script."""
    return " ".join(str(value).split())
