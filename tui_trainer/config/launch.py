"""The command that starts a run's processes, as data; `procs` starts it, the Args screen shows it.

Pure: the machine is told, not looked at. Facts behind the choices, found in accelerate 1.15 and tested by running it:

* `accelerate launch --cpu` starts one process whatever `--num_processes` says. Several processes on a CPU need
  `--multi_gpu`, which means torchrun, and ACCELERATE_USE_CPU.
* Without `--num_cpu_threads_per_process` each process computes with one thread.
* The user's `accelerate config` file would fill in what the command leaves out, so the run has a file of its own.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tui_trainer.config.schema import RunConfig
from tui_trainer.config.slurm import SUBMIT_SCRIPT, slurm_files
from tui_trainer.config.training import TrainingConfig

ACCELERATE_FILE = "accelerate.yaml"
WHOLE = "FULL_STATE_DICT"
"""FSDP's word for weights that are gathered when they are saved."""
TRAINER = ("-m", "tui_trainer.engine.train")
"""What every process runs, followed by the run directory."""

_LAUNCHER = (sys.executable, "-m", "accelerate.commands.launch")
_ACCELERATE_CONFIG = """\
# Keeps the user's own `accelerate config` out of this run; everything else is on the command line.
compute_environment: LOCAL_MACHINE
distributed_type: 'NO'
use_cpu: false
debug: false
"""
_PORT_OF_SLURM_JOBS = "$((20000 + SLURM_JOB_ID % 20000))"


@dataclass(frozen=True)
class LaunchCommand:
    """What starts a run.

    Attributes:
        argv: the command.
        env: variables added to the environment.
        files: name to text of the files that the command needs in the run directory.
        num_gpus: GPUs of this machine that it uses.
        num_cpus: cores of this machine that it computes with; 0 if it computes on GPUs or elsewhere.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    num_gpus: int = 0
    num_cpus: int = 0

    @property
    def display(self) -> str:
        """The command as one would type it."""
        if self.argv[: len(_LAUNCHER)] == _LAUNCHER:
            return shlex.join(("accelerate", "launch", *self.argv[len(_LAUNCHER) :]))
        return shlex.join(self.argv)


def launch_command(
    config: RunConfig, run_directory: Path, *, num_gpus: int, num_cpus: int, program: Sequence[str] | None = None
) -> LaunchCommand:
    """The command that starts a run.

    Args:
        config: the run's configuration.
        run_directory: where its files are.
        num_gpus: usable GPUs of this machine.
        num_cpus: usable cores of this machine.
        program: what every process runs, if not the trainer on `run_directory`.
    """
    program = (*TRAINER, str(run_directory)) if program is None else program
    processes = num_processes(config, num_gpus)
    on_cpu = runs_on_cpu(config, num_gpus)
    env = _environment(config, processes, on_cpu)
    options = _options(config, processes, num_cpus, on_cpu)
    files = {ACCELERATE_FILE: _ACCELERATE_CONFIG}
    argv = [*_LAUNCHER, "--config_file", str(run_directory / ACCELERATE_FILE), *options]
    if config.launch.backend == "local":
        here = max(1, processes // config.launch.num_machines)
        needs = (
            {"num_cpus": min(here * _threads(config, processes, num_cpus), num_cpus)} if on_cpu else {"num_gpus": here}
        )
        return LaunchCommand((*argv, *_rendezvous(config, processes), *program), env, files, **needs)
    files |= slurm_files(config, run_directory, env, argv, _slurm_rendezvous(config, processes), program)
    return LaunchCommand(("bash", str(run_directory / SUBMIT_SCRIPT)), {}, files)


def runs_on_cpu(config: RunConfig, num_gpus: int) -> bool:
    """Whether a run computes on the CPU; a batch job is taken to find the GPUs it asks for."""
    if config.training.use_cpu:
        return True
    return num_gpus == 0 if config.launch.backend == "local" else _gpus_per_node(config) == 0


def num_processes(config: RunConfig, num_gpus: int) -> int:
    """Processes in all: as set, else one a GPU, else one a machine.

    Args:
        config: the run's configuration.
        num_gpus: usable GPUs of this machine; not looked at for a batch job, whose options say what it gets.
    """
    launch = config.launch
    if launch.num_processes is not None:
        return launch.num_processes
    if runs_on_cpu(config, num_gpus):
        return launch.num_machines
    here = num_gpus if launch.backend == "local" else _gpus_per_node(config)
    return max(1, len(launch.gpu_ids or ()) or here) * launch.num_machines


def effective_precision(config: RunConfig) -> Literal["no", "bf16", "fp16"]:
    """The precision of the computation: what `[launch]` says, else `training.bf16` and `training.fp16`."""
    if config.launch.mixed_precision is not None:
        return config.launch.mixed_precision
    if config.training.bf16:
        return "bf16"
    return "fp16" if config.training.fp16 else "no"


def fsdp_settings(training: TrainingConfig) -> dict[str, Any]:
    """The settings of FSDP by their short names; empty without any, or where they stand in a file of their own."""
    given = training.fsdp_config if isinstance(training.fsdp_config, Mapping) else {}
    return {name.removeprefix("fsdp_"): value for name, value in given.items()}


def saves_whole_weights(training: TrainingConfig) -> bool:
    """Whether FSDP gathers the weights of a checkpoint into one model, instead of leaving each process its piece."""
    return str(fsdp_settings(training).get("state_dict_type", WHOLE)) == WHOLE


def _gpus_per_node(config: RunConfig) -> int:
    """GPUs that a batch job asks for on each node: gpus-per-node = 8, gres = "gpu:8" or "gpu:a100:8"."""
    options = config.launch.slurm_options
    for name in ("gpus-per-node", "gres", "gpus-per-task"):
        if name in options and (name != "gres" or "gpu" in str(options[name])):
            count = re.search(r"(\d+)$", str(options[name]))
            return int(count[1]) if count else 1
    processes = config.launch.num_processes
    return 0 if processes is None else max(1, processes // config.launch.num_machines)


def _options(config: RunConfig, processes: int, num_cpus: int, on_cpu: bool) -> list[str]:
    """The options of `accelerate launch` that are the same on every machine."""
    launch = config.launch
    options = ["--num_processes", str(processes), "--num_machines", str(launch.num_machines)]
    if processes > 1:
        options.append("--multi_gpu")
    elif on_cpu:
        options.append("--cpu")
    if launch.gpu_ids is not None and not on_cpu:
        options += ["--gpu_ids", ",".join(map(str, launch.gpu_ids))]
    options += ["--mixed_precision", effective_precision(config), "--dynamo_backend", "no"]
    return [*options, "--num_cpu_threads_per_process", str(_threads(config, processes, num_cpus))]


def _threads(config: RunConfig, processes: int, num_cpus: int) -> int:
    """Threads that each process computes with: as set, else its share of the cores."""
    if config.launch.num_cpu_threads_per_process is not None:
        return config.launch.num_cpu_threads_per_process
    return max(1, num_cpus // max(1, processes // config.launch.num_machines))


def _rendezvous(config: RunConfig, processes: int) -> list[str]:
    """Where the processes meet. Port 0 takes a free one, which only one machine can."""
    launch = config.launch
    if launch.num_machines > 1:
        options = ["--machine_rank", str(launch.machine_rank), "--rdzv_backend", "static"]
        options += ["--main_process_ip", launch.main_process_ip or "", "--main_process_port"]
        return [*options, str(launch.main_process_port)]
    return ["--main_process_port", str(launch.main_process_port)] if processes > 1 else []


def _slurm_rendezvous(config: RunConfig, processes: int) -> list[str]:
    """The same for a batch job, in the words of its shell: the first node leads."""
    launch = config.launch
    if processes == 1:
        return []
    port = str(launch.main_process_port) if launch.main_process_port else _PORT_OF_SLURM_JOBS
    if launch.num_machines == 1:
        return ["--main_process_port", port]
    address = shlex.quote(launch.main_process_ip) if launch.main_process_ip else '"$MAIN_NODE"'
    options = ["--machine_rank", '"$SLURM_NODEID"', "--rdzv_backend", "static"]
    return [*options, "--main_process_ip", address, "--main_process_port", port]


def _environment(config: RunConfig, processes: int, on_cpu: bool) -> dict[str, str]:
    """The variables of the processes; the user's own win."""
    env: dict[str, str] = {}
    if on_cpu and processes > 1:
        env["ACCELERATE_USE_CPU"] = "true"
    if config.launch.gpu_ids is not None and not on_cpu:
        env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # so that the numbers are those that nvidia-smi shows
    if config.training.deepspeed and processes == 1 and not on_cpu:
        # DeepSpeed always makes a process group, also of one process, and that needs to know who is in it
        env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    if config.training.fsdp and not on_cpu:
        env |= _fsdp_environment(config)
    return env | config.launch.env


def _fsdp_environment(config: RunConfig) -> dict[str, str]:
    """What accelerate wants to know of FSDP before it makes the process group: whether CPU tensors are exchanged too.

    `TrainingArguments` itself tells it only afterwards, and then saving whole weights has no back end for them.
    """
    settings = fsdp_settings(config.training)
    return {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": str(settings.get("version", 2)),
        "FSDP_STATE_DICT_TYPE": str(settings.get("state_dict_type", WHOLE)),
        "FSDP_OFFLOAD_PARAMS": str(bool(settings.get("cpu_offload", False))).lower(),
    }
