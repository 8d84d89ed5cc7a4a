"""No credential passes the checks, whatever field it is put into, and no message repeats one."""

from __future__ import annotations

from typing import Any

import pytest

from tui_trainer.config.checks import Facts, check_config
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem

# put together here so that no scanner takes this file for a leak
CREDENTIALS = {
    "hugging face": "hf_" + "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "openai": "sk-" + "proj-abcdefghijklmnopqrstuvwxyz",
    "github": "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "aws": "AKIA" + "ABCDEFGHIJKLMNOP",
    "slack": "xoxb-" + "123456789012-abcdefghijkl",
    "google": "AIza" + "SyA-abcdefghijklmnopqrstuvwxyz01234",
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0NTY3ODkwIn0.signature",
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "in an address": "https://user:pass" + "word@example.org/data.jsonl",
    "assigned": "api_key=" + "0123456789abcdef0123456789abcdef",
}


def _secrets(tree: dict[str, Any]) -> list[Problem]:
    problems = check_config(RunConfig.model_validate(tree), Facts())
    return [
        problem for problem in problems if "written into files" in problem.message or "name of a" in problem.message
    ]


@pytest.mark.parametrize("credential", CREDENTIALS.values(), ids=CREDENTIALS.keys())
@pytest.mark.parametrize(
    ("place", "key"),
    [
        (lambda secret: {"data": {"path": secret}}, "data.path"),
        (lambda secret: {"data": {"sources": [{"path": "a"}, {"path": secret}]}}, "data.sources.path"),
        (lambda secret: {"data": {"template_kwargs": {"deep": [{"er": secret}]}}}, "data.template_kwargs"),
        (lambda secret: {"sampling": {"prompts": ["fine", f"before {secret} after"]}}, "sampling.prompts"),
        (lambda secret: {"launch": {"env": {"HARMLESS": secret}}}, "launch.env"),
        (lambda secret: {"launch": {"env": {secret: "value"}}}, "launch.env"),
        (lambda secret: {"training": {"deepspeed": {"monitor": {"x": secret}}}}, "training.deepspeed"),
        (lambda secret: {"launch": {"slurm_options": {"comment": secret}}}, "launch.slurm_options"),
    ],
)
def test_a_credential_is_found_anywhere_and_never_repeated(place: Any, key: str, credential: str) -> None:
    problems = _secrets(place(credential))
    assert [problem.severity for problem in problems] == ["error"]
    assert problems[0].keys == (key,)
    everything = check_config(RunConfig.model_validate(place(credential)), Facts())
    for problem in everything:
        if "data.path" not in problem.key and "launch.env" not in problem.key:
            assert credential not in str(problem)
    assert credential not in str(problems[0])


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "WANDB_API_KEY", "MY_SECRET", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH", "my_key"]
)
def test_variables_that_smell_are_refused(name: str) -> None:
    problems = _secrets({"launch": {"env": {name: "short"}}})
    assert [(problem.key, problem.keys) for problem in problems] == [("launch.env", ("launch.env",))]
    assert name in problems[0].message
    assert "short" not in str(problems[0])


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "NCCL_DEBUG", "KEYBOARD", "OMP_NUM_THREADS", "MONKEY"])
def test_harmless_variables_pass(name: str) -> None:
    assert _secrets({"launch": {"env": {name: "1"}}}) == []


@pytest.mark.parametrize("value", [CREDENTIALS["hugging face"], "$HF_TOKEN", "a b", ""])
def test_the_variable_of_the_token_is_a_name(value: str) -> None:
    assert [problem.key for problem in _secrets({"data": {"token_env": value}})] == ["data.token_env"]
    source = {"data": {"sources": [{"path": "a", "token_env": value}]}}
    assert [problem.key for problem in _secrets(source)] == ["data.sources.0.token_env"]


def test_a_setting_named_like_a_secret_is_refused() -> None:
    problems = _secrets({"training": {"deepspeed": {"wandb": {"password": "x"}}}})
    assert [problem.key for problem in problems] == ["training.deepspeed.wandb.password"]


@pytest.mark.parametrize(
    "tree",
    [
        {"data": {"token_env": "HF_TOKEN", "pad_token": "<|endoftext|>"}},
        {"model": {"from_scratch": {"model_type": "llama", "pad_token_id": 0}, "revision": "a" * 40}},
        {"sampling": {"prompts": ["What is a token? And a password: what makes a good one?"], "stop": ["key:"]}},
        {"data": {"path": "https://example.org/data.jsonl", "columns": {"prompt": "secret"}}},
        {"training": {"hub_model_id": "me/risk-averse-model"}},
    ],
)
def test_ordinary_words_pass(tree: dict[str, Any]) -> None:
    assert _secrets(tree) == []
