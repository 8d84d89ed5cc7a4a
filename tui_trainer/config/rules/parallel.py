"""Rules for `[launch]` and the ways to spread a run over processes and machines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tui_trainer.config.launch import WHOLE, fsdp_settings, num_processes, runs_on_cpu, saves_whole_weights
from tui_trainer.config.rules.facts import Facts, error, warning
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem


def processes(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether processes, machines and GPUs fit each other."""
    launch = config.launch
    if launch.machine_rank >= launch.num_machines:
        yield error(
            "launch.machine_rank",
            f"is {launch.machine_rank}, and {launch.num_machines} machines are numbered from 0",
            f"set it below {launch.num_machines}",
            "launch.num_machines",
        )
    total = launch.num_processes
    if total is not None and total % launch.num_machines:
        yield error(
            "launch.num_processes",
            f"{total} processes cannot be spread evenly over {launch.num_machines} machines",
            f"set a multiple of {launch.num_machines}; it counts all machines together",
            "launch.num_machines",
        )
    if total is None or facts.num_gpus is None or launch.backend == "slurm" or config.training.use_cpu:
        return
    here = total // launch.num_machines
    if here > facts.num_gpus > 0:
        yield error(
            "launch.num_processes",
            f"{here} processes on this machine are more than its {facts.num_gpus} GPUs",
            f"set {facts.num_gpus * launch.num_machines} at most",
        )
    if facts.num_gpus == 0 and facts.num_cpus is not None and here > facts.num_cpus:
        yield warning(
            "launch.num_processes", f"{here} processes share {facts.num_cpus} cores", f"set {facts.num_cpus} at most"
        )


def gpus(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the chosen GPUs exist and are as many as processes."""
    chosen, launch = config.launch.gpu_ids, config.launch
    if chosen is None:
        return
    key = "launch.gpu_ids"
    if facts.is_without_gpu(config):
        yield warning(key, "has no effect on a CPU", "leave it out", "training.use_cpu")
        return
    if not chosen or len(set(chosen)) != len(chosen) or min(chosen) < 0:
        yield error(key, "must name at least one GPU, each once", "set [0] for the first")
        return
    known = facts.gpu_indices or tuple(range(facts.num_gpus or 0))
    if known and launch.backend == "local" and (absent := [number for number in chosen if number not in known]):
        names = ", ".join(map(str, known))
        yield error(key, f"there is no GPU {absent[0]} here, or CUDA_VISIBLE_DEVICES hides it: {names}", "mend it")
    here = num_processes(config, facts.num_gpus or 0) // launch.num_machines
    if here != len(chosen):
        yield error(
            key, f"names {len(chosen)} GPUs for {here} processes a machine", "make them equal", "launch.num_processes"
        )


def machines(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether several machines can find each other."""
    launch = config.launch
    if launch.num_machines == 1 or launch.backend == "slurm":
        return
    if launch.main_process_ip is None:
        yield error("launch.main_process_ip", "is needed by several machines", "set the address of machine 0")
    if launch.main_process_port == 0:
        yield error(
            "launch.main_process_port",
            "several machines cannot agree on a free port",
            "set the same free port on all of them, 29500 for example",
        )
    if runs_on_cpu(config, facts.num_gpus or 0) and "GLOO_SOCKET_IFNAME" not in launch.env:
        yield warning(
            "launch.env",
            "without GLOO_SOCKET_IFNAME the processes may look for each other on the loopback interface",
            'set {GLOO_SOCKET_IFNAME = "eth0"}, the interface between the machines, unless it is exported',
        )


def sharding(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether FSDP and DeepSpeed have something to spread, and do not meet."""
    training = config.training
    if training.fsdp and training.deepspeed:
        yield error("training.deepspeed", "cannot be had together with training.fsdp", "remove one", "training.fsdp")
    for name, is_set in (("fsdp", training.fsdp), ("deepspeed", training.deepspeed)):
        if is_set and facts.is_without_gpu(config):
            yield error(f"training.{name}", f"{name} spreads over GPUs, and there is none", "leave it out")
    if training.fsdp and facts.num_gpus and num_processes(config, facts.num_gpus) == 1:
        yield warning("training.fsdp", "one process has nothing to spread", "leave it out", "launch.num_processes")
    if training.fsdp_config is not None and not training.fsdp:
        yield warning("training.fsdp_config", "has no effect without training.fsdp", "set training.fsdp = true")
    if training.save_only_model and training.load_best_model_at_end and (training.fsdp or training.deepspeed):
        yield error(
            "training.save_only_model",
            "leaves the best model unreadable with FSDP and DeepSpeed",
            "set it to false",
            "training.load_best_model_at_end",
        )
    if training.fsdp and fsdp_settings(training).get("version", 2) != 2:
        yield warning("training.fsdp_config", "version 1 of FSDP is about to be removed", "set version = 2")
    if training.fsdp and not saves_whole_weights(training):
        yield warning(
            "training.fsdp_config",
            "its checkpoints hold the pieces of each process and no model: they can be resumed, not chatted with",
            f'set state_dict_type = "{WHOLE}", or leave it out',
        )


def deepspeed(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """What DeepSpeed settings take out of the run's hands, or leave out of its checkpoints."""
    settings, key = config.training.deepspeed, "training.deepspeed"
    if not isinstance(settings, Mapping):
        return
    for name, field in (("optimizer", "training.optim"), ("scheduler", "training.lr_scheduler_type")):
        if name in settings:
            yield error(
                key,
                f"has {name} of its own, which the run could neither steer nor resume",
                f"leave it out: {field} says it",
                field,
            )
    stage = settings.get("zero_optimization") or {}
    if stage.get("stage") != 3:
        return
    if config.training.auto_find_batch_size:
        yield error("training.auto_find_batch_size", "does not work with ZeRO stage 3", "set it to false")
    if not stage.get("stage3_gather_16bit_weights_on_model_save"):
        yield warning(
            key,
            "its checkpoints hold the pieces of each process and no model: they can be resumed, not chatted with",
            "set zero_optimization.stage3_gather_16bit_weights_on_model_save = true",
        )


def batches(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether a batch can be split over the processes."""
    options = config.training.accelerator_config
    if not isinstance(options, Mapping) or not options.get("split_batches"):
        return
    total, size = num_processes(config, facts.num_gpus or 0), config.training.per_device_train_batch_size
    if size % total:
        yield error(
            "training.accelerator_config",
            f"split_batches cannot divide a batch of {size} among {total} processes",
            "set a multiple",
            "training.per_device_train_batch_size",
        )


def backend(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the processes can talk as asked."""
    if config.training.ddp_backend == "nccl" and facts.is_without_gpu(config):
        yield error("training.ddp_backend", "nccl talks between GPUs only", 'set "gloo", or leave it out')


def slurm(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether a batch job can be written from the options."""
    launch = config.launch
    if launch.backend == "local":
        if launch.slurm_options:
            yield warning("launch.slurm_options", "has no effect", 'set launch.backend = "slurm"', "launch.backend")
        return
    for name in launch.slurm_options:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            yield error(
                "launch.slurm_options", f"{name!r} is no long option of sbatch", "write it without dashes before"
            )
    if runs_on_cpu(config, 0) and not config.training.use_cpu:
        yield warning(
            "launch.slurm_options",
            "asks for no GPU, so the job trains on CPUs",
            "set {gpus-per-node = 8}, or launch.num_processes",
            "launch.num_processes",
        )


def environment(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether the variables can be set."""
    for name, value in config.launch.env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or "\0" in value:
            yield error(
                "launch.env", f"{name!r} cannot be set in an environment", "use letters, digits and underscores"
            )


RULES = (processes, gpus, machines, sharding, deepspeed, batches, backend, slurm, environment)
