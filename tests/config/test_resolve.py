"""Layers, provenance, aliases, and every problem at once with file, line and the nearest name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tui_trainer.config.load import load_config
from tui_trainer.config.resolve import Layer, Resolved, Values, resolve, typed_values, values_from
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import dump_toml, parse_document
from tui_trainer.config.training import RESERVED
from tui_trainer.errors import ConfigurationError, Problem


def _file(text: str, layer: Layer = Layer.FILE) -> Values:
    return Values(layer, parse_document(text, f"{layer.value}.toml"))


def _problems(*layers: Values) -> list[Problem]:
    with pytest.raises(ConfigurationError) as caught:
        resolve(layers)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def _resolved(text: str) -> Resolved:
    return resolve([_file(text)])


def test_nothing_set_gives_the_defaults() -> None:
    resolved = resolve([])
    assert resolved.config == RunConfig()
    assert resolved.layer_of("training.learning_rate") is Layer.DEFAULT


def test_the_later_layer_wins_and_each_value_knows_its_layer() -> None:
    resolved = resolve(
        [
            _file("[training]\nlearning_rate = 1e-3\nmax_steps = 5\nseed = 1\n[lora]\nr = 4\n", Layer.PRESET),
            _file("[training]\nmax_steps = 6\nseed = 2\n"),
            typed_values(["training.seed=3"]),
        ]
    )
    training = resolved.config.training
    assert (training.learning_rate, training.max_steps, training.seed) == (1e-3, 6, 3)
    assert resolved.layer_of("training.learning_rate") is Layer.PRESET
    assert resolved.layer_of("training.max_steps") is Layer.FILE
    assert resolved.layer_of("training.seed") is Layer.TYPED
    assert resolved.layer_of("training.optim") is Layer.DEFAULT
    assert resolved.config.lora is not None
    assert resolved.config.lora.r == 4


def test_tables_that_are_values_are_replaced_whole() -> None:
    below = _file('[model]\nfrom_scratch = { model_type = "llama", hidden_size = 96 }\n', Layer.PRESET)
    above = _file('[model]\nfrom_scratch = { model_type = "gpt2" }\n')
    assert resolve([below, above]).config.model.from_scratch == {"model_type": "gpt2"}


def test_a_section_switched_off_by_a_later_layer_stays_off() -> None:
    off = values_from(Layer.TYPED, {"lora": None}, "typed")
    assert resolve([_file("[lora]\nr = 4\n"), off]).config.lora is None


def test_sources_are_read_in_order_with_the_names_of_their_own() -> None:
    config = _resolved('[[data.sources]]\npath = "a"\nweight = 2.0\n[[data.sources]]\npath = "b"\n').config
    assert [(source.path, source.weight) for source in config.data.sources] == [("a", 2.0), ("b", 1.0)]


def test_all_problems_are_reported_at_once_with_file_line_and_remedy() -> None:
    text = """\
name = "a b"
stag = "sft"
[training]
learning_rate = "2e-4"
max_step = 5
warmup_ratio = 1.5
[modle]
name_or_path = "x"
[[data.sources]]
path = "a"
[[data.sources]]
pth = "b"
weight = 0
[launch]
env = { A = 1 }
"""
    problems = {problem.key: problem for problem in _problems(_file(text))}
    assert {key: problem.where for key, problem in problems.items()} == {
        "name": "file.toml:1",
        "stag": "file.toml:2",
        "training.learning_rate": "file.toml:4",
        "training.max_step": "file.toml:5",
        "training.warmup_ratio": "file.toml:6",
        "modle": "file.toml:7",
        "data.sources.1.pth": "file.toml:12",
        "data.sources.1.weight": "file.toml:13",
        "launch.env": "file.toml:15",
    }
    messages = {key: problem.message for key, problem in problems.items()}
    assert messages["stag"] == "unknown key; did you mean stage?"
    assert messages["training.max_step"] == "unknown key; did you mean training.max_steps?"
    assert messages["modle"] == "unknown key; did you mean model?"
    assert messages["data.sources.1.pth"] == "unknown key; did you mean data.sources.path?"
    assert messages["training.learning_rate"] == 'must be a number above 0 and at most 10, not "2e-4"'
    assert messages["training.warmup_ratio"] == "must be a number at least 0 and below 1, not 1.5"
    assert messages["data.sources.1.weight"] == "must be a number above 0, not 0"
    assert messages["launch.env"].startswith("must be a table")
    assert messages["name"].endswith('a letter or digit first, not "a b"')


def test_the_message_of_an_error_has_a_line_for_each_problem() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _resolved("stag = 1\n[training]\nseed = -1\n")
    lines = str(caught.value).splitlines()
    assert lines == [
        "file.toml:3: training.seed: must be a whole number at least 0, not -1",
        "file.toml:1: stag: unknown key; did you mean stage?",
    ] or lines == [
        "file.toml:1: stag: unknown key; did you mean stage?",
        "file.toml:3: training.seed: must be a whole number at least 0, not -1",
    ]


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("learning_rate = 1\n", "learning_rate", "did you mean training.learning_rate?"),
        ("[model]\nlearning_rate = 1\n", "model.learning_rate", "did you mean training.learning_rate?"),
        ("[training]\nlerning_rate = 1\n", "training.lerning_rate", "did you mean training.learning_rate?"),
        ("[training]\ngradient_checkpoint = true\n", "training.gradient_checkpoint", "gradient_checkpointing?"),
        ("[lora]\nrank = 8\n", "lora.rank", "unknown key"),
        ("[xyzzy]\nplugh = 1\n", "xyzzy", "unknown key"),
    ],
)
def test_unknown_keys_name_the_nearest(text: str, key: str, message: str) -> None:
    problems = _problems(_file(text))
    assert [problem.key for problem in problems] == [key]
    assert message in problems[0].message


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_what_the_workbench_decides_says_why_it_cannot_be_set(name: str) -> None:
    problems = _problems(_file(f"[training]\n{name} = 1\n"))
    assert problems[0].message == f"cannot be set: {RESERVED[name]}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("training = 5\n", "training"),
        ("lora = true\n", "lora"),
        ("data = []\n", "data"),
        ("[model.dtype]\n", "model.dtype"),
    ],
)
def test_a_section_has_to_be_one(text: str, key: str) -> None:
    problems = _problems(_file(text))
    assert [problem.key for problem in problems] == [key]
    assert problems[0].message.startswith("must be ")


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("[training]\ngradient_checkpointing = true\n", "activation_checkpointing", True),
        ("[training]\ngradient_clipping = 0.5\n", "max_grad_norm", 0.5),
        ("[training]\nwarmup_ratio = 0.03\n", "warmup_steps", 0.03),
        ("[training]\nwarmup_ratio = 0\n", "warmup_steps", 0.0),
        ("[training]\ngroup_by_length = true\n", "train_sampling_strategy", "group_by_length"),
        ("[training]\ngroup_by_length = false\n", "train_sampling_strategy", "random"),
        ("[training]\nlr = 1e-3\n", "learning_rate", 1e-3),
    ],
)
def test_other_names_of_fields_are_understood(text: str, path: str, value: Any) -> None:
    resolved = _resolved(text)
    assert getattr(resolved.config.training, path) == value
    assert resolved.layer_of(f"training.{path}") is Layer.FILE


def test_other_names_in_other_sections_are_understood() -> None:
    text = "[data]\nmax_seq_length = 64\n[launch]\nnproc_per_node = 2\n[lora]\nlora_alpha = 8\nlora_dropout = 0.1\n"
    config = _resolved(text + "[sampling]\nmax_new_tokens = 5\n").config
    assert config.data.max_length == 64
    assert config.launch.num_processes == 2
    assert config.lora is not None
    assert (config.lora.alpha, config.lora.dropout) == (8.0, 0.1)
    assert config.sampling.max_tokens == 5


def test_a_name_and_its_other_name_are_not_both_taken() -> None:
    problems = _problems(_file("[training]\nlr = 1e-3\nlearning_rate = 2e-3\n"))
    assert (problems[0].key, problems[0].where) == ("training.lr", "file.toml:2")
    assert "another name for training.learning_rate" in problems[0].message


def test_a_wrong_value_of_an_alias_is_located() -> None:
    problems = _problems(_file('[training]\nseed = 1\ngroup_by_length = "yes"\n'))
    assert [(problem.key, problem.where) for problem in problems] == [("training.group_by_length", "file.toml:3")]
    problems = _problems(_file('[training]\nseed = 1\nlr = "fast"\n'))
    assert [problem.where for problem in problems] == ["file.toml:3"]


def test_an_alias_above_beats_the_name_below() -> None:
    resolved = resolve([_file("[training]\nlearning_rate = 1e-3\n", Layer.PRESET), typed_values(["lr=5e-4"])])
    assert resolved.config.training.learning_rate == 5e-4
    assert resolved.layer_of("training.learning_rate") is Layer.TYPED


ASSIGNMENTS: list[tuple[str, str, Any]] = [
    ("training.learning_rate=2e-4", "training.learning_rate", 2e-4),
    ("learning_rate = 2e-4", "training.learning_rate", 2e-4),
    ("warmup_ratio=0.1", "training.warmup_steps", 0.1),
    ("group_by_length=true", "training.train_sampling_strategy", "group_by_length"),
    ("data.path=a=b.jsonl", "data.path", "a=b.jsonl"),
    ("data.eval_split=0.1", "data.eval_split", 0.1),
    ("eval_split=test", "data.eval_split", "test"),
    ("quantization=nf4", "model.quantization", "nf4"),
    ('target_modules=["q_proj"]', "lora.target_modules", ["q_proj"]),
    ('env={ A = "1" }', "launch.env", {"A": "1"}),
    ("name=my-run", "name", "my-run"),
]


@pytest.mark.parametrize(("assignment", "key", "value"), ASSIGNMENTS)
def test_assignments(assignment: str, key: str, value: Any) -> None:
    resolved = resolve([typed_values([assignment])])
    found: Any = resolved.config
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert resolved.layer_of(key) is Layer.TYPED


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.learning_rate", "has no value"),
        ("lerning_rate=1", "did you mean training.learning_rate?"),
        ("seed=1", "unknown key"),
        ("training.learning_rate=fast", "must be a number"),
        ("warmup_ratio=2", "below 1"),
        ("group_by_length=maybe", "true or false"),
        ("=1", "unknown key"),
        ("training.output_dir=/x", "cannot be set"),
    ],
)
def test_bad_assignments(assignment: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve([typed_values([assignment])])
    assert message in str(caught.value)
    assert caught.value.problems[0].where.startswith("--set")


def test_all_bad_assignments_are_reported_with_the_problems_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("stag = 1\n")
    with pytest.raises(ConfigurationError) as caught:
        load_config(str(path), ["lerning_rate=1", "seed", "training.bf16=perhaps"])
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["stag", "lerning_rate", "seed", "training.bf16"]


def test_a_resolved_configuration_survives_its_file() -> None:
    text = """\
name = "round-trip"
stage = "pretrain"
[model]
from_scratch = { model_type = "llama", rope_parameters = { rope_type = "default", rope_theta = 1e4 } }
[data]
template_kwargs = { enable_thinking = false }
eval_split = 0.1
[[data.sources]]
path = "日本.jsonl"
columns = { prompt = "q.text" }
[[data.sources]]
path = "b"
weight = 0.5
[lora]
target_modules = ["q_proj", "v_proj"]
[training]
learning_rate = 1e-05
fsdp = "full_shard"
lr_scheduler_kwargs = { min_lr_rate = 0.1 }
[launch]
env = { A = "1", B = 'it "is"' }
gpu_ids = [0, 1]
[sampling]
prompts = ["line\\nbreak", 'quote "']
early_stopping = "never"
use_beam_search = true
"""
    config = _resolved(text).config
    again = _resolved(dump_toml(config.model_dump(mode="json"))).config
    assert again == config


def test_the_defaults_survive_their_file() -> None:
    assert _resolved(dump_toml(RunConfig().model_dump(mode="json"))).config == RunConfig()
