"""The scripts of a run under Slurm: a batch job that starts one launcher a node, and what submits and cancels it.

The run directory and the Python environment have to lie on a disk that the nodes share. The job's output goes to the
run's `train.log`. Written by `launch`, run by the supervisor.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tui_trainer.config.schema import RunConfig

JOB_SCRIPT = "job.sbatch"
SUBMIT_SCRIPT = "submit.sh"

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
exit "$code"
"""


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
        SUBMIT_SCRIPT: _SUBMIT.format(job=JOB_SCRIPT),
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
    options = {
        "job-name": config.name,
        "nodes": config.launch.num_machines,
        "ntasks-per-node": 1,
        "output": f'"{log}"',
        "open-mode": "append",
        **config.launch.slurm_options,
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{name}={_one_line(value)}" for name, value in options.items()]
    lines += ["", "# one task a node; each starts the launcher, which starts a process a GPU", "set -u"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    lines += ['MAIN_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)', "export MAIN_NODE"]
    command = " ".join((shlex.join(argv), *rendezvous, shlex.join(program)))
    return "\n".join([*lines, f"srun --kill-on-bad-exit=1 bash -c {shlex.quote(command)}", ""])


def _one_line(value: object) -> str:
    """A value that cannot begin a line of its own in the script."""
    return " ".join(str(value).split())
