"""The launch command really run: how many processes start, with how many threads, in which environment."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.config.launch import LaunchCommand, launch_command
from tui_trainer.config.schema import RunConfig

pytestmark = pytest.mark.e2e

PROGRAM = """\
import json, os, sys
import torch
from accelerate import Accelerator
accelerator = Accelerator()
total = accelerator.reduce(torch.ones(1)).item()
names = ("OMP_NUM_THREADS", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP", "MARK")
facts = {"rank": accelerator.process_index, "world_size": accelerator.num_processes, "sum": total}
facts |= {"threads": torch.get_num_threads(), "device": str(accelerator.device)}
facts |= {"precision": accelerator.mixed_precision, "distributed": str(accelerator.distributed_type.value)}
facts["env"] = {name: os.environ.get(name) for name in names}
with open(os.path.join(sys.argv[1], f"{accelerator.process_index}.json"), "w") as file:
    json.dump(facts, file)
accelerator.end_training()
"""

FOREIGN_CONFIG = """\
compute_environment: LOCAL_MACHINE
distributed_type: FSDP
mixed_precision: bf16
num_processes: 7
num_machines: 1
use_cpu: false
fsdp_config: {fsdp_version: 2}
"""


def _prepare(folder: Path, launch: Mapping[str, Any]) -> LaunchCommand:
    """A run directory with the program and the command's files, as `procs` would write them."""
    script = folder / "program.py"
    script.write_text(PROGRAM)
    config = RunConfig.model_validate({"launch": launch, "training": {"use_cpu": True}})
    command = launch_command(config, folder, num_gpus=0, num_cpus=2, program=(str(script), str(folder)))
    for name, text in command.files.items():
        (folder / name).write_text(text)
    return command


def _environment(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """A user's environment whose own accelerate configuration asks for something else altogether."""
    (home / "accelerate").mkdir(parents=True)
    (home / "accelerate" / "default_config.yaml").write_text(FOREIGN_CONFIG)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "ACCELERATE_"))}
    return {**inherited, "HF_HOME": str(home), **env}


def _facts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("[0-9].json"))]


@pytest.mark.parametrize(("processes", "threads"), [(1, 2), (2, 1)])
def test_processes_threads_and_environment(processes: int, threads: int, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    command = _prepare(folder, {"num_processes": processes, "env": {"MARK": "ours"}})
    env = _environment(tmp_path / "home", command.env)
    done = subprocess.run(command.argv, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr

    facts = _facts(folder)
    assert [each["rank"] for each in facts] == list(range(processes))
    for each in facts:
        assert each["world_size"] == each["sum"] == processes
        assert each["threads"] == threads
        assert each["device"].startswith("cpu")
        assert each["precision"] == "no"
        assert each["distributed"] == ("NO" if processes == 1 else "MULTI_CPU")
        assert each["env"] == {
            "OMP_NUM_THREADS": str(threads),
            "ACCELERATE_MIXED_PRECISION": "no",
            "ACCELERATE_USE_FSDP": None,
            "MARK": "ours",
        }


def test_two_machines_make_one_group(tmp_path: Path) -> None:
    """Both launchers run here; what is proved is the rendezvous, not the network between them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(2):
        folder = tmp_path / str(rank)
        folder.mkdir()
        launch = {"num_processes": 2, "num_machines": 2, "machine_rank": rank}
        command = _prepare(folder, launch | {"main_process_ip": "127.0.0.1", "main_process_port": port})
        env = _environment(tmp_path / f"home{rank}", {**command.env, "GLOO_SOCKET_IFNAME": "lo"})
        started.append(subprocess.Popen(command.argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    facts = [_facts(tmp_path / str(rank))[0] for rank in range(2)]
    assert [(each["rank"], each["world_size"], each["sum"]) for each in facts] == [(0, 2, 2.0), (1, 2, 2.0)]


SBATCH = """\
#!/bin/bash
# stands in for Slurm: runs the job's script here and returns its exit code, as `sbatch --wait` does
[ "$1 $2" = "--wait --parsable" ] || exit 9
echo "4711;cluster"
export SLURM_JOB_ID=4711 SLURM_JOB_NODELIST=localhost SLURM_NODEID=0
bash "$3"
"""
SCONTROL = "#!/bin/bash\necho localhost\n"
SRUN = '#!/bin/bash\nshift\nexec "$@"\n'
SCANCEL = '#!/bin/bash\necho "$1" > "$(dirname "$0")/cancelled"\n'


def _with_slurm(folder: Path, sbatch: str, env: Mapping[str, str]) -> dict[str, str]:
    folder.mkdir()
    programs = {"sbatch": sbatch, "scontrol": SCONTROL, "srun": SRUN, "scancel": SCANCEL}
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return {**env, "PATH": f"{folder}:{env['PATH']}"}


def test_a_batch_job_runs_the_same_command(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    command = _prepare(folder, {"backend": "slurm", "num_processes": 2, "env": {"MARK": "two words"}})
    env = _with_slurm(tmp_path / "slurm", SBATCH, _environment(tmp_path / "home", command.env))
    done = subprocess.run(command.argv, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    facts = _facts(folder)
    assert [(each["rank"], each["sum"], each["env"]["MARK"]) for each in facts] == [
        (0, 2.0, "two words"),
        (1, 2.0, "two words"),
    ]


def test_the_exit_code_of_a_batch_job_comes_back(tmp_path: Path) -> None:
    command = _prepare(tmp_path, {"backend": "slurm", "num_processes": 1})
    (tmp_path / "program.py").write_text("raise SystemExit(3)")
    env = _with_slurm(tmp_path / "slurm", SBATCH, _environment(tmp_path / "home", command.env))
    assert subprocess.run(command.argv, env=env, capture_output=True, timeout=240, check=False).returncode != 0


def test_a_signal_cancels_the_batch_job(tmp_path: Path) -> None:
    command = _prepare(tmp_path, {"backend": "slurm", "num_processes": 1})
    tools = tmp_path / "slurm"
    waiting = '#!/bin/bash\necho "4711;cluster"\necho > "$(dirname "$0")/submitted"\nexec sleep 1000\n'
    env = _with_slurm(tools, waiting, _environment(tmp_path / "home", command.env))
    os.mkfifo(tools / "submitted")
    process = subprocess.Popen(command.argv, env=env, start_new_session=True)
    (tools / "submitted").read_text()  # returns once the job was submitted
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) != 0
    assert (tools / "cancelled").read_text().strip() == "4711"


def test_this_interpreter_runs_the_processes() -> None:
    config = RunConfig.model_validate({})
    assert launch_command(config, Path("run"), num_gpus=0, num_cpus=1).argv[0] == sys.executable
