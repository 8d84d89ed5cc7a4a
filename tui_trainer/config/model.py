"""The sections `[model]` and `[lora]`: which model is trained, and which of its weights."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tui_trainer.config.section import Section, knob


class ModelConfig(Section):
    """Which model is trained and how it is loaded."""

    group: ClassVar[str] = "Model"

    name_or_path: str | None = knob(
        None,
        "Hub id, folder, .gguf file, run (RUN, RUN@STEP, RUN@best) or demo:smollm2. With from_scratch it may be "
        "left out.",
    )
    tokenizer_name_or_path: str | None = knob(
        None,
        "Tokenizer, if it is not the model's own: hub id, folder, or builtin:bytes (one token a byte and 3 "
        "special tokens).",
    )
    revision: str | None = knob(None, "Branch, tag or commit of the hub repository.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = knob(
        "auto",
        "Type of the weights in memory. auto: float32 on a CPU and for full training, bfloat16 for LoRA on a GPU "
        "that has it. "
        "Half the size is half the weight memory, but full training in pure bfloat16 loses small updates.",
    )
    attn_implementation: Literal["auto", "sdpa", "eager", "flash_attention_2", "flex_attention"] = knob(
        "auto",
        "How attention is computed. auto: flash_attention_2 where it is installed and fits the GPU, else sdpa.",
    )
    quantization: Literal["nf4", "int8"] | None = knob(
        None,
        "Load the frozen weights in 4 (nf4) or 8 bits by bitsandbytes (QLoRA). Needs a GPU and [lora].",
    )
    trust_remote_code: bool = knob(
        False,
        "Run the Python code of the model's repository. Asked for once per repository and revision; a preset "
        "alone never grants it.",
    )
    cache_dir: str | None = knob(None, "Folder of the hub's cache, if not the usual one.", expert=True)
    from_scratch: dict[str, Any] | None = knob(
        None,
        'Train a new model with random weights: {model_type = "llama", hidden_size = 256, num_hidden_layers = 6, …}, '
        "the fields of that architecture's configuration.",
    )


class LoraConfig(Section):
    """Train small low-rank matrices beside the frozen weights (LoRA). The section's presence turns it on."""

    group: ClassVar[str] = "LoRA"

    r: int = knob(16, "Rank. Doubling it doubles the trained parameters; 8 to 64 is usual.", ge=1, le=4096)
    alpha: float = knob(
        32.0,
        "Scale: the update is multiplied by alpha / r. Twice the rank is a usual start.",
        gt=0,
    )
    dropout: float = knob(0.0, "Dropout before the low-rank matrices.", ge=0, lt=1)
    target_modules: str | list[str] = knob(
        "all-linear",
        'Which layers get an adapter: all-linear, a regular expression, or a list of names as in ["q_proj", "v_proj"].',
    )
    modules_to_save: list[str] | None = knob(
        None,
        "Layers trained in full beside the adapter, as embed_tokens and lm_head after new tokens were added.",
    )
    use_dora: bool = knob(False, "Weight-decomposed LoRA (DoRA): often better at low rank, slower.")
    use_rslora: bool = knob(False, "Scale by alpha / sqrt(r) instead: keeps high ranks stable.")
    bias: Literal["none", "all", "lora_only"] = knob("none", "Which bias terms are trained too.", expert=True)
    init_lora_weights: Literal["default", "gaussian", "pissa", "olora"] = knob(
        "default",
        "How the matrices start. default: no change to the model at step 0.",
        expert=True,
    )
