"""The section `[data]`: where the rows come from and how they become tokens and labels."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tui_trainer.config.section import Section, knob

DataFormat = Literal[
    "auto",
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "text",
    "tokenized",
    "preference",
    "kto",
]


class SourceFields(Section):
    """The fields that say where one dataset lies; the names are those of `datasets.load_dataset`."""

    group: ClassVar[str] = "Data"

    path: str | None = knob(
        None,
        "File, folder, hub id, or one of the shipped samples (demo:dates, demo:identity, demo:chat, demo:stories).",
    )
    name: str | None = knob(None, 'Configuration of the hub dataset, as "main" for gsm8k.', expert=True)
    data_files: str | list[str] | None = knob(None, "Files inside path, with wildcards.", expert=True)
    split: str = knob("train", "Split to train on; slices as in train[:10%] are understood.")
    revision: str | None = knob(None, "Branch, tag or commit of the hub dataset.", expert=True)
    token_env: str | None = knob(
        None,
        "Name of the environment variable that holds the hub token. The token itself is never stored.",
        expert=True,
    )


class SourceConfig(SourceFields):
    """One of several datasets that are mixed, `[[data.sources]]`."""

    weight: float = knob(
        1.0,
        "How often this source's rows are used: 1 once an epoch, 2 twice, 0.5 every second row. When streaming: its "
        "share of the rows, in proportion to the other weights.",
        gt=0,
    )
    format: DataFormat = knob("auto", "Format of this source's rows; auto detects it.")
    columns: dict[str, str] = knob(factory=dict, help="Which column plays which role in this source.")


class DataConfig(SourceFields):
    """The dataset and the way from a row to `input_ids` and `labels`."""

    sources: list[SourceConfig] = knob(factory=list, help="Several datasets to mix, instead of path.")
    format: DataFormat = knob(
        "auto",
        "What a row holds. auto looks at the first rows and says how sure it is.",
    )
    columns: dict[str, str] = knob(
        factory=dict,
        help=(
            'Which column plays which role: {prompt = "question", completion = "answer.text"}; '
            "dots reach into nested columns."
        ),
    )
    template: str | None = knob(
        None,
        "Chat template: a name as chatml, a .jinja file, or none for no template. Without it, the model's own.",
    )
    template_kwargs: dict[str, Any] = knob(
        factory=dict,
        help="Variables handed to the chat template, as {enable_thinking = false}.",
        expert=True,
    )
    system: str | None = knob(None, "System message for rows that have none.")
    train_on: Literal["assistant", "last", "all"] = knob(
        "assistant",
        "Which tokens count in the loss: every assistant turn, only the last one, or all tokens.",
    )
    keep_reasoning: bool = knob(True, "Keep the reasoning of assistant turns where the rows have it.")
    max_length: int = knob(
        1024,
        "Longest example. Memory grows with it; what is longer is handled as truncation says.",
        unit="tokens",
        ge=8,
    )
    truncation: Literal["right", "left", "drop", "split", "error"] = knob(
        "right",
        "What happens to longer examples: cut on the right or left, dropped, split into pieces (text only), or "
        "an error.",
    )
    packing: bool = knob(
        False,
        "Put several examples into one row of max_length tokens, without any of them seeing another. Faster on "
        "uneven lengths.",
    )
    padding: Literal["longest", "max_length"] = knob(
        "longest",
        "Pad a batch to its longest example, or always to max_length.",
    )
    pad_to_multiple_of: int | None = knob(
        None,
        "Round the padded length up to a multiple of this; 8 suits tensor cores.",
        unit="tokens",
        ge=1,
        expert=True,
    )
    padding_side: Literal["right", "left"] = knob("right", "On which side padding goes.", expert=True)
    pad_token: str | None = knob(
        None,
        "Token used as padding when the tokenizer has none; without it the end token, which is masked by length, "
        "never by id.",
        expert=True,
    )
    add_special_tokens: bool = knob(
        True,
        "Let plain text begin and end with the tokenizer's own special tokens. Templated text carries its own.",
        expert=True,
    )
    eval_split: float | str | None = knob(
        None,
        "Rows to evaluate on: a split's name, a share of the rows as 0.1, or a file. Without it no evaluation data.",
    )
    max_samples: int | None = knob(None, "Use only the first rows, for a trial.", unit="rows", ge=1)
    shuffle: bool = knob(True, "Shuffle the rows before a share is cut off for evaluation.", expert=True)
    streaming: bool = knob(
        False,
        "Read rows as training goes instead of preparing all first. Needs training.max_steps.",
    )
    shuffle_buffer: int = knob(
        10_000,
        "Rows from which the next is drawn at random when streaming; they are held in memory.",
        unit="rows",
        ge=1,
        expert=True,
    )
    num_proc: int | None = knob(None, "Processes that prepare the data; without it as many as fit.", ge=1, expert=True)
    cache_dir: str | None = knob(None, "Folder for prepared data, if not the usual one.", expert=True)
    allow_preference_as_sft: bool = knob(
        False,
        "Train on the chosen side of preference rows as if they were plain examples.",
        expert=True,
    )
