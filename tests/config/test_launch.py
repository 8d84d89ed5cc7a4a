"""The launch command as data: options, environment, files, for every way a run can be spread."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.config.launch import (
    ACCELERATE_FILE,
    LaunchCommand,
    effective_precision,
    launch_command,
    num_processes,
    runs_on_cpu,
)
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.slurm import JOB_SCRIPT, SUBMIT_SCRIPT

RUN = Path("/runs/a run")


def _config(launch: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    return RunConfig.model_validate({"launch": launch or {}, "training": training})


def _command(config: RunConfig, num_gpus: int = 0, num_cpus: int = 8) -> LaunchCommand:
    return launch_command(config, RUN, num_gpus=num_gpus, num_cpus=num_cpus)


def _option(command: LaunchCommand, name: str) -> str | None:
    return command.argv[command.argv.index(name) + 1] if name in command.argv else None


def test_one_process_on_a_cpu_gets_all_its_cores() -> None:
    command = _command(_config())
    assert "--cpu" in command.argv
    assert "--multi_gpu" not in command.argv
    assert _option(command, "--num_cpu_threads_per_process") == "8"
    assert command.env == {}
    assert command.argv[-3:] == ("-m", "tui_trainer.engine.train", str(RUN))


def test_several_processes_on_a_cpu_go_through_torchrun_and_share_its_cores() -> None:
    command = _command(_config({"num_processes": 3}))
    assert "--cpu" not in command.argv
    assert "--multi_gpu" in command.argv
    assert command.env == {"ACCELERATE_USE_CPU": "true"}
    assert _option(command, "--num_cpu_threads_per_process") == "2"
    assert _option(command, "--main_process_port") == "0"


@pytest.mark.parametrize(
    ("launch", "training", "num_gpus", "processes", "on_cpu"),
    [
        ({}, {}, 0, 1, True),
        ({}, {}, 4, 4, False),
        ({}, {"use_cpu": True}, 4, 1, True),
        ({"num_machines": 2}, {}, 4, 8, False),
        ({"num_machines": 2}, {}, 0, 2, True),
        ({"gpu_ids": [1, 3]}, {}, 4, 2, False),
        ({"num_processes": 2}, {}, 4, 2, False),
        ({"backend": "slurm", "num_machines": 2, "slurm_options": {"gres": "gpu:a100:4"}}, {}, 0, 8, False),
        ({"backend": "slurm", "num_machines": 2, "slurm_options": {"gpus-per-node": 8}}, {}, 1, 16, False),
        ({"backend": "slurm", "num_machines": 2}, {}, 4, 2, True),
        ({"backend": "slurm", "num_machines": 2, "num_processes": 8}, {}, 0, 8, False),
    ],
)
def test_processes_follow_the_machine(
    launch: dict[str, Any], training: dict[str, Any], num_gpus: int, processes: int, on_cpu: bool
) -> None:
    config = _config(launch, **training)
    assert num_processes(config, num_gpus) == processes
    assert runs_on_cpu(config, num_gpus) is on_cpu


def test_chosen_gpus_are_numbered_as_nvidia_smi_does() -> None:
    command = _command(_config({"gpu_ids": [2]}), num_gpus=4)
    assert _option(command, "--gpu_ids") == "2"
    assert command.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert "--multi_gpu" not in command.argv


def test_several_machines_meet_at_the_first() -> None:
    launch = {"num_machines": 2, "machine_rank": 1, "main_process_ip": "10.0.0.1", "main_process_port": 29600}
    command = _command(_config(launch | {"num_processes": 4, "env": {"GLOO_SOCKET_IFNAME": "eth0"}}))
    assert _option(command, "--machine_rank") == "1"
    assert _option(command, "--main_process_ip") == "10.0.0.1"
    assert _option(command, "--main_process_port") == "29600"
    assert _option(command, "--rdzv_backend") == "static"
    assert _option(command, "--num_cpu_threads_per_process") == "4"
    assert command.env["GLOO_SOCKET_IFNAME"] == "eth0"


@pytest.mark.parametrize(
    ("launch", "training", "precision"),
    [
        ({}, {}, "no"),
        ({}, {"bf16": True}, "bf16"),
        ({}, {"fp16": True}, "fp16"),
        ({"mixed_precision": "bf16"}, {}, "bf16"),
        ({"mixed_precision": "no"}, {"bf16": True}, "no"),
    ],
)
def test_one_precision_for_launcher_and_trainer(
    launch: dict[str, Any], training: dict[str, Any], precision: str
) -> None:
    config = _config(launch, **training)
    assert effective_precision(config) == precision
    assert _option(_command(config), "--mixed_precision") == precision


def test_the_run_has_an_accelerate_file_of_its_own(tmp_path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    command = _command(_config())
    assert _option(command, "--config_file") == str(RUN / ACCELERATE_FILE)
    (tmp_path / ACCELERATE_FILE).write_text(command.files[ACCELERATE_FILE])
    content = load_config_from_file(str(tmp_path / ACCELERATE_FILE))
    assert content.distributed_type == "NO"
    assert (content.fsdp_config, content.deepspeed_config, content.mixed_precision) == ({}, {}, None)


def test_every_option_exists_in_accelerate() -> None:
    from accelerate.commands.launch import launch_command_parser

    launch = {"num_machines": 2, "main_process_ip": "10.0.0.1", "main_process_port": 29600, "gpu_ids": [0, 1]}
    for config in (_config(), _config({"num_processes": 2}), _config(launch)):
        command = _command(config, num_gpus=2)
        parsed = launch_command_parser().parse_args(list(command.argv[3:]))
        assert parsed.training_script == "tui_trainer.engine.train"
        assert parsed.training_script_args == [str(RUN)]
        assert parsed.module is True


def test_the_command_is_shown_as_one_would_type_it() -> None:
    shown = _command(_config()).display
    assert shown.startswith("accelerate launch --config_file '/runs/a run/accelerate.yaml'")
    assert shlex.split(shown)[-1] == str(RUN)


def test_deepspeed_with_one_process_gets_a_group_of_one() -> None:
    alone = _command(_config(deepspeed={"zero_optimization": {"stage": 2}}), num_gpus=1)
    assert alone.env["WORLD_SIZE"] == "1"
    assert "RANK" not in _command(_config(deepspeed={"zero_optimization": {"stage": 2}}), num_gpus=2).env


def test_fsdp_tells_accelerate_how_weights_are_saved() -> None:
    settings = {"version": 2, "fsdp_cpu_offload": True, "state_dict_type": "SHARDED_STATE_DICT"}
    env = _command(_config(fsdp=True, fsdp_config=settings), num_gpus=2).env
    assert env["ACCELERATE_USE_FSDP"] == "true"
    assert env["FSDP_STATE_DICT_TYPE"] == "SHARDED_STATE_DICT"
    assert env["FSDP_OFFLOAD_PARAMS"] == "true"


def test_a_batch_job_starts_one_launcher_a_node() -> None:
    launch = {
        "backend": "slurm",
        "num_machines": 2,
        "num_processes": 8,
        "slurm_options": {"partition": "gpu", "time": "12:00:00", "gres": "gpu:4", "comment": "two\nlines"},
        "env": {"NCCL_DEBUG": "WARN"},
    }
    command = _command(_config(launch))
    assert command.argv == ("bash", str(RUN / SUBMIT_SCRIPT))
    job = command.files[JOB_SCRIPT]
    lines = job.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in ("--nodes=2", "--ntasks-per-node=1", "--partition=gpu", "--gres=gpu:4", "--comment=two lines"):
        assert f"#SBATCH {line}" in lines
    assert "export NCCL_DEBUG=WARN" in lines
    assert "#SBATCH --signal=B:USR1@60" in lines
    assert "#SBATCH --requeue" in lines
    start = next(line for line in lines if line.startswith("srun "))
    inner = shlex.split(start.removesuffix(" &"))[-1]
    assert '--machine_rank "$SLURM_NODEID"' in inner
    assert '--main_process_ip "$MAIN_NODE"' in inner
    assert "--num_processes 8" in inner
    assert inner.endswith("-m tui_trainer.engine.train '/runs/a run'")


def test_a_batch_job_that_must_not_be_queued_again() -> None:
    launch = {"backend": "slurm", "slurm_options": {"no-requeue": "", "gpus-per-node": 1}, "grace_seconds": 99.5}
    lines = _command(_config(launch)).files[JOB_SCRIPT].splitlines()
    assert "#SBATCH --no-requeue" in lines
    assert "#SBATCH --requeue" not in lines
    assert "#SBATCH --signal=B:USR1@130" in lines
