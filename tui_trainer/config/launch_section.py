"""The section `[launch]`: how many processes run, and where."""

from __future__ import annotations

from typing import ClassVar, Literal

from tui_trainer.config.section import Section, knob


class LaunchConfig(Section):
    """What is handed to `accelerate launch`."""

    group: ClassVar[str] = "Parallel"

    num_processes: int | None = knob(
        None,
        "Processes in all, one a GPU. Without it: every visible GPU, or one process on a CPU. The effective "
        "batch grows with it.",
        ge=1,
        le=65536,
    )
    num_machines: int = knob(1, "Machines that train together.", ge=1, le=8192)
    machine_rank: int = knob(0, "Number of this machine, 0 on the one that leads.", ge=0)
    main_process_ip: str | None = knob(None, "Address of machine 0.")
    main_process_port: int = knob(
        0,
        "Port on machine 0; 0 takes a free one, which several machines cannot agree on.",
        ge=0,
        le=65535,
    )
    mixed_precision: Literal["no", "bf16", "fp16"] | None = knob(
        None,
        "Precision of the computation, the weights stay as they are. Without it what training.bf16 and "
        "training.fp16 say.",
    )
    gpu_ids: list[int] | None = knob(
        None, "Which GPUs of this machine to use, [0, 1]. Without it all that are visible."
    )
    num_cpu_threads_per_process: int | None = knob(
        None,
        "Threads a process computes with on the CPU. Without it the cores divided by the processes.",
        ge=1,
        expert=True,
    )
    backend: Literal["local", "slurm"] = knob(
        "local",
        "local starts on this machine; slurm submits a batch job that does the same on num_machines nodes.",
    )
    slurm_options: dict[str, str | int] = knob(
        factory=dict,
        help='Lines for the batch script: {partition = "gpu", time = "12:00:00", gres = "gpu:8"}.',
        expert=True,
    )
    env: dict[str, str] = knob(
        factory=dict,
        help=(
            "Environment variables for the training processes. Tokens and passwords are refused here: export "
            "them instead."
        ),
        expert=True,
    )
    max_restarts: int = knob(
        0,
        "How often a run that failed is started again by itself, from its last good checkpoint; 0 never. Only for "
        "reasons that may pass (killed, lost processes, GPU or driver errors, errors inside a library), and no more "
        "after three restarts in a row that came no further.",
        ge=0,
        le=1000,
    )
    restart_delay: float = knob(
        10.0,
        "Pause before the first restart; it doubles with each one that brings no progress, up to 10 minutes.",
        unit="s",
        ge=0,
        le=600,
        expert=True,
    )
    grace_seconds: float = knob(
        30.0,
        "How long a stopping run may take to save before it is killed.",
        unit="s",
        ge=0,
        le=3600,
        expert=True,
    )
