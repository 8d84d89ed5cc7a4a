"""`tui-trainer chat`: questions from options, files and pipes, the knobs as options, a conversation on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import save_tiny
from tui_trainer.cli.app import run
from tui_trainer.cli.chat_conversation import Talk
from tui_trainer.cli.chat_local import LocalModels
from tui_trainer.cli.chat_loop import take_line
from tui_trainer.config.catalogue import shown
from tui_trainer.config.knob_presets import find_knob_preset, save_knob_preset
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.runs.store import create, find_run
from tui_trainer.tui.chat.asking import Manner

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def call(tiny_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs `chat` on the tiny model; returns exit code, stdout and stderr."""

    def caller(*options: str, stdin: str = "", model: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = run(["chat", model or str(tiny_folder), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return caller


def documents(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_one_line_of_json_a_prompt(call: Call) -> None:
    code, out, _ = call("--prompt", "one", "--prompt", "two", "--json", "--max-tokens", "4", "--seed", "1")
    first, second = documents(out)
    assert code == 0
    assert (first["prompt"], second["prompt"]) == ("one", "two")
    for document in (first, second):
        assert document["version"] == 1
        assert {"text", "ids", "finish_reason", "cumulative_logprob", "logprobs"} <= set(document["candidates"][0])
        assert set(document["usage"]) >= {"prompt_tokens", "completion_tokens"}
        assert {"prompt_ids", "prompt_logprobs", "seconds_to_first_token", "tokens_per_second", "ignored_knobs"} <= set(
            document
        )


def test_an_answer_for_people_streams_to_stdout_and_the_talk_goes_to_stderr(call: Call) -> None:
    code, out, err = call("--prompt", "hi", "--max-tokens", "6", "--temperature", "0", "--top-p", "0.5")
    _, json_out, _ = call("--prompt", "hi", "--max-tokens", "6", "--temperature", "0", "--json")
    assert code == 0
    assert out == documents(json_out)[0]["candidates"][0]["text"] + "\n"
    assert "ignored: top_p (temperature 0" in err
    assert "/6 tokens" in err


def test_every_knob_is_an_option_and_arrives(call: Call) -> None:
    given = {
        "n": 2,
        "best_of": 3,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.1,
        "temperature": 0.9,
        "top_p": 0.95,
        "top_k": 40,
        "min_p": 0.01,
        "seed": 3,
        "max_tokens": 3,
        "min_tokens": 1,
        "stop": ["zzz", "q q"],
        "stop_token_ids": [5, 6],
        "allowed_token_ids": [100, 101, 102],
        "logit_bias": {"100": -1.5},
        "bad_words": ["q"],
        "include_stop_str_in_output": True,
        "ignore_eos": True,
        "logprobs": 1,
        "prompt_logprobs": 0,
        "skip_special_tokens": False,
    }
    options: list[str] = []
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            options.append(option if value else "--no-" + option[2:])
        elif isinstance(value, dict):
            options += [option, shown(value)]
        else:
            for each in value if isinstance(value, list) else [value]:
                options += [option, str(each)]
    code, out, err = call("--prompt", "x", "--json", *options)
    assert code == 0, err
    knobs = documents(out)[0]["knobs"]
    assert {name: knobs[name] for name in given} == {
        name: {"value": value, "source": "you"} for name, value in given.items()
    }


def test_a_beam_width_asks_for_beam_search(call: Call) -> None:
    options = ("--beam-width", "3", "--length-penalty", "0.5", "--early-stopping", "never", "--max-new-tokens", "3")
    _, out, _ = call("--prompt", "x", "--json", *options)
    knobs = documents(out)[0]["knobs"]
    assert knobs["use_beam_search"]["value"] is True
    assert knobs["early_stopping"]["value"] == "never"
    assert knobs["max_tokens"]["value"] == 3


def test_the_help_names_every_knob(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["chat", "--help"]) == 0
    out = capsys.readouterr().out
    for name in SamplingParams.model_fields:
        assert "--" + name.replace("_", "-") in out


WRONG: list[tuple[list[str], list[str]]] = [
    (["--temperature", "3"], ["--temperature", "at most 2"]),
    (["--top-k", "many", "--min-p", "2"], ["--top-k", "--min-p"]),
    (["--stop-token-ids", "a"], ["--stop-token-ids", "token ids"]),
    (["--n", "2", "--temperature", "0"], ["same answer"]),
    (["--best-of", "1", "--n", "2"], ["best_of"]),
    (["--colour", "red"], ["--colour"]),
    (["--device", "tpu"], ["no device 'tpu'"]),
    (["--prompts", "gone.txt"], ["gone.txt", "cannot be read"]),
    (["--adapter", "./gone"], ["no model './gone'"]),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
def test_wrong_usage_is_told_with_exit_code_2(call: Call, options: list[str], words: list[str]) -> None:
    code, out, err = call("--prompt", "x", *options)
    assert (code, out) == (2, "")
    for word in words:
        assert word in err
    assert "Traceback" not in err


def test_a_wrong_knob_is_told_before_anything_is_loaded(call: Call) -> None:
    code, _, err = call("--prompt", "x", "--n", "2", "--temperature", "0", model="nowhere/at-all")
    assert code == 2
    assert "nowhere" not in err


def test_a_missing_model_is_told_as_json_when_json_is_asked_for(call: Call) -> None:
    code, out, err = call("--prompt", "x", "--json", model="owner/name")
    assert (code, out) == (3, "")
    assert json.loads(err.splitlines()[-1])["error"]["kind"] == "MachineError"


def test_questions_from_a_pipe_a_text_file_and_json_lines(call: Call, tmp_path: Path) -> None:
    _, out, _ = call("--json", "--max-tokens", "1", stdin="line one\nline two\n")
    assert [document["prompt"] for document in documents(out)] == ["line one\nline two"]
    (tmp_path / "set.txt").write_text("one\n\n two \n", "utf-8-sig")
    _, out, _ = call("--json", "--max-tokens", "1", "--prompts", "set.txt", "--prompt", "zero")
    assert [document["prompt"] for document in documents(out)] == ["zero", "one", " two "]
    lines = ['{"prompt": "p"}', '{"messages": [{"role": "user", "content": "m"}]}', '"s"']
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    _, out, _ = call("--json", "--max-tokens", "1", "--prompts", "set.jsonl")
    assert [document["prompt"] for document in documents(out)] == ["p", "m", "s"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": }\n', "a.jsonl:2"),
        ("a.jsonl", '{"text": "x"}\n', "asks nothing"),
        ("a.jsonl", '{"prompt": ""}\n', "asks nothing"),
        ("a.txt", "\n\n", "holds no question"),
    ],
)
def test_a_file_without_questions_is_told_with_the_line(
    call: Call, tmp_path: Path, name: str, content: str, words: str
) -> None:
    (tmp_path / name).write_text(content)
    code, _, err = call("--prompts", name)
    assert code == 2
    assert words in err


def test_a_file_that_is_no_text_is_told(call: Call, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9\n")
    code, _, err = call("--prompts", "a.txt")
    assert code == 2
    assert "UTF-8" in err


def test_an_empty_pipe_is_told(call: Call) -> None:
    assert call(stdin=" \n")[0] == 2


def test_a_template_is_chosen_in_options_and_in_a_conversation(
    call: Call, tiny_folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "own.jinja").write_text("{{ mood }}:{{ messages[-1].content }}>")
    options = ("--template", "own.jinja", "--template-kwargs", '{mood = "calm"}')
    _, out, _ = call("--prompt", "x", *options, "--json", "--max-tokens", "1")
    assert documents(out)[0]["rendered"] == "calm:x>"
    code, _, err = call("--prompt", "x", "--template", "chatmk")
    assert (code, "did you mean chatml" in err) == (2, True)
    code, _, err = call("--prompt", "x", "--template", "nope")
    assert (code, "did you mean" in err, "or a .jinja file" in err) == (2, False, True)
    assert call("--prompt", "x", "--template-kwargs", "[")[0] == 2
    models = LocalModels()
    models.load("a", str(tiny_folder), {"device": "cpu"})
    talking = Talk(models, Manner({"max_tokens": 1}), {})
    for line in ("/template own.jinja {mood = 'wild'}", "x", "/raw", "/template", "/template none", "/template"):
        take_line(talking, line)
    err = capsys.readouterr().err
    assert "'w'" in err
    assert "in use: own (file)" in err
    assert "in use: none" in err
    assert talking.manner.takes_messages is False
    take_line(talking, "/template usual")
    assert talking.manner.template is None


def test_a_system_message_and_no_template(call: Call) -> None:
    _, out, _ = call("--prompt", "x", "--system", "Be kind.", "--json", "--max-tokens", "1")
    assert documents(out)[0]["rendered"].startswith("<|im_start|>system\nBe kind.<|im_end|>")
    _, out, _ = call("--prompt", "x", "--no-template", "--json", "--max-tokens", "1")
    assert documents(out)[0]["rendered"] == "x"


def test_several_answers_are_numbered(call: Call) -> None:
    code, out, err = call("--prompt", "x", "--n", "3", "--max-tokens", "2", "--seed", "0", "--stop", "\n")
    assert code == 0
    assert out.count("\n") == 3
    assert "[3]" in err


def test_a_reply_begins_with_what_was_asked_for(call: Call) -> None:
    _, out, _ = call("--prompt", "x", "--prefill", "Sure", "--max-tokens", "2", "--temperature", "0")
    assert out.startswith("Sure")


def test_knobs_under_a_name_are_taken_and_options_go_above_them(call: Call) -> None:
    save_knob_preset("mine", {"temperature": 0.25, "top_k": 3})
    _, out, _ = call("--prompt", "x", "--preset", "mine", "--top-k", "4", "--json", "--max-tokens", "1")
    knobs = documents(out)[0]["knobs"]
    assert (knobs["temperature"]["value"], knobs["top_k"]["value"]) == (0.25, 4)
    code, _, err = call("--prompt", "x", "--preset", "gredy")
    assert code == 2
    assert "Did you mean greedy" in err


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("other"), num_hidden_layers=1)


def test_two_models_are_asked_the_same(call: Call, other_folder: Path) -> None:
    options = ("--prompt", "x", "--against", str(other_folder), "--max-tokens", "6", "--seed", "3")
    code, out, _ = call(*options, "--json")
    (document,) = documents(out)
    assert code == 0
    assert document["prompt"] == document["against"]["prompt"] == "x"
    assert document["seed"] == document["against"]["seed"] == 3
    assert document["same_prompt"] is True
    assert {part["kind"] for part in document["diff"]} <= {"same", "changed", "only_a", "only_b"}
    assert document["candidates"][0]["ids"] != document["against"]["candidates"][0]["ids"]
    code, _, err = call(*options)
    assert code == 0
    assert "[A1]" in err
    assert "[B1]" in err


def test_two_models_are_scored_over_a_set(call: Call, other_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"prompt": "2+2?", "reply": "4"}\n{"prompt": "3+3?", "reply": "six"}\n')
    options = ("--prompts", "set.jsonl", "--score", "--against", str(other_folder))
    code, out, _ = call(*options, "--json")
    (document,) = documents(out)
    assert code == 0
    assert [row["text"] for row in document["rows"]] == ["2+2?", "3+3?"]
    assert document["kl"] > 0
    assert document["a"]["perplexity"] != document["b"]["perplexity"]
    code, out, _ = call(*options)
    assert "perplexity A" in out
    assert "all of it" in out


def _run_with_checkpoints(folder: Path, *steps: int) -> None:
    layout = create("tiny", 'name = "tiny"\n[model]\nname_or_path = "x"\n[data]\npath = "x"\n', {})
    for step in steps:
        shutil.copytree(folder, layout.checkpoints / f"step-{step:06d}")


def test_a_set_is_asked_at_every_checkpoint_of_a_run(call: Call, tiny_folder: Path, tmp_path: Path) -> None:
    _run_with_checkpoints(tiny_folder, 100, 200)
    (tmp_path / "set.jsonl").write_text('{"prompt": "a", "exact": "nothing of that kind"}\n{"prompt": "b"}\n')
    options = ("--prompts", "set.jsonl", "--max-tokens", "2")
    code, out, err = call(*options, "--checkpoints", "all", "--json", model="tiny")
    assert code == 0, err
    (document,) = documents(out)
    assert [line["step"] for line in document["table"]] == [100, 200]
    assert [line["exact"] for line in document["table"]] == [0.0, 0.0]
    assert len(document["rows"]) == 4
    code, out, _ = call(*options, "--checkpoints", "200", model="tiny")
    assert code == 0
    assert "repeating" in out
    assert "100" not in out.replace("100%", "")
    code, _, err = call(*options, "--checkpoints", "300", model="tiny")
    assert code == 2
    assert "it has 100, 200" in err


@pytest.mark.parametrize("option", [["--json"], ["--score"], ["--checkpoints", "all"]])
def test_what_needs_questions_says_so(
    option: list[str], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert run(["chat", str(tiny_folder), *option]) == 2
    assert f"{option[0]} needs questions" in capsys.readouterr().err


Talking = Callable[..., Talk]


@pytest.fixture
def talking(tiny_folder: Path) -> Talking:
    """Takes lines as a conversation on the tiny model does."""
    models = LocalModels()
    models.load("a", str(tiny_folder), {})
    talk = Talk(models, Manner({"max_tokens": 4, "ignore_eos": True, "seed": 0}), {})

    def take(*lines: str) -> Talk:
        for line in lines:
            take_line(talk, line)
        return talk

    return take


def test_slash_commands_grow_and_walk_the_tree(talking: Talking, capsys: pytest.CaptureFixture[str]) -> None:
    talk = talking("one", "/retry", "/continue")
    question = talk.conversation.path[0]
    assert len(question.children) == 3
    assert talk.conversation.tip.text.startswith(question.children[1].text)
    talking("/left")
    assert talk.conversation.tip is question.children[1]
    talking("/edit two", "/tree")
    assert [turn.text for turn in talk.conversation.root.children] == ["one", "two"]
    talking("/undo", "three")
    assert len(talk.conversation.root.children) == 3
    assert "● user: two" in capsys.readouterr().err


def test_slash_commands_for_knobs(talking: Talking, capsys: pytest.CaptureFixture[str]) -> None:
    talk = talking("/set temperature 0.5", "/set top-k 5", "/preset save mine", "/neutral")
    assert talk.manner.params == {"max_tokens": 4, "seed": 0}
    assert find_knob_preset("mine").values["top_k"] == 5
    talking("/preset mine", "/set n 2", "/set temperature 0", "/set temperature 9", "/knobs", "/preset")
    assert talk.manner.params["temperature"] == 0.5
    err = capsys.readouterr().err
    assert "same answer each time" in err
    assert "at most 2" in err
    assert "sampling with top-k 5" in err
    assert "greedy" in err


def test_slash_commands_look_into_answers(
    talking: Talking, other_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    talking("/tokens", "/raw", "/save", "one", "/raw", "/tokens", "/tokens difference", f"/against {other_folder}")
    talk = talking("two", "/tokens difference", "/against")
    err = capsys.readouterr().err
    assert "there is no answer yet" in err
    assert "same: all" in err
    assert "log-probability: over 50 %" in err
    assert "there is no second model" in err
    assert "KL" in err
    assert [turn.reply.slot for turn in talk.conversation.tip.siblings if turn.reply] == ["a", "b"]
    assert not talk.models.has_other


def test_an_answer_without_a_whole_character_is_an_answer(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = LocalModels()
    models.load("a", str(tiny_folder), {})
    manner = {"max_tokens": 1, "seed": 0, "ignore_eos": True, "allowed_token_ids": [0xC3]}
    talk = Talk(models, Manner(manner), {})
    take_line(talk, "one")
    take_line(talk, "/tokens")
    assert talk.conversation.tip.reply is not None
    assert talk.conversation.tip.reply.text == ""
    assert "log-probability: over 50 %" in capsys.readouterr().err


def test_slash_follow_takes_the_newest_checkpoint(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run_with_checkpoints(tiny_folder, 100)
    models = LocalModels()
    models.load("a", "tiny@100", {})
    talk = Talk(models, Manner({"max_tokens": 2}), {})
    take_line(talk, "/follow")
    take_line(talk, "one")
    assert models.slots["a"].about["step"] == 100
    shutil.copytree(tiny_folder, find_run("tiny").checkpoints / "step-000200")
    take_line(talk, "two")
    assert models.slots["a"].about["step"] == 200
    assert "step 200: weights in place" in capsys.readouterr().err


def test_slash_save_adds_rows_and_replaces_nothing_unasked(
    talking: Talking, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chat.md").write_text("mine")
    talking(
        "one", "/save messages rows.jsonl", "/save messages rows.jsonl", "/save markdown chat.md", "/save nothing x"
    )
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "chat.md").read_text() == "mine"
    assert "stays as it is" in capsys.readouterr().err


# --- the process and the terminal

PROGRAM = [sys.executable, "-m", "tui_trainer", "chat"]


@pytest.mark.e2e
def test_an_interrupt_stops_the_answer_prints_what_there_is_and_ends_with_130(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "endless", max_position_embeddings=100_000)
    command = [*PROGRAM, str(folder), "--prompt", "x", "--json", "--ignore-eos", "--max-tokens", "90000"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as chat:
        assert chat.stderr is not None
        assert any("parameters" in line for line in chat.stderr)
        chat.send_signal(signal.SIGINT)
        assert chat.stdout is not None
        (candidate,) = json.loads(chat.stdout.read())["candidates"]
    assert chat.returncode == 130
    assert candidate["finish_reason"] == "cancelled"


class Terminal:
    """The command on a terminal of its own, which controls it: ctrl+c is a signal."""

    def __init__(self, *arguments: str) -> None:
        self._pid, self._master = pty.fork()
        if self._pid == 0:
            os.execv(sys.executable, [*PROGRAM, *arguments])
        self.seen = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 120
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            try:
                self.seen += os.read(self._master, 4096).decode("utf-8", "replace")
            except OSError:
                break
        assert text in self.seen, self.seen
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def exit_code(self) -> int:
        """Wait for its end, which a terminal does not let come before all is read."""
        with contextlib.suppress(OSError):
            while os.read(self._master, 4096):
                pass
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._pid = 0
        return code

    def close(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._master)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    folder = save_tiny(tmp_path / "endless", max_position_embeddings=100_000)
    opened = Terminal(str(folder), "--device", "cpu", "--max-tokens", "8", "--ignore-eos")
    yield opened
    opened.close()


@pytest.mark.e2e
def test_a_conversation_on_a_terminal(terminal: Terminal) -> None:
    terminal.wait_for("Say something")
    terminal.type("hello\n")
    terminal.wait_for("8/8 tokens")
    terminal.type("/set temperature 9\n")
    terminal.wait_for("at most 2")
    terminal.type("/set max_tokens 3\n/retry\n")
    terminal.wait_for("3/3 tokens")
    terminal.type("/knobs\n")
    terminal.wait_for("max_tokens")
    terminal.wait_for("you")
    terminal.wait_for("skip_special_tokens")  # the last of them: the prompt comes next
    terminal.wait_for("> ")
    terminal.type("/set warmth 1\n")
    terminal.wait_for("no such knob")
    terminal.type("/set max_tokens 90000\n")
    terminal.wait_for("> ")
    terminal.type("long\n")
    terminal.wait_for("long\r\n")
    terminal.wait_for("\ufffd")
    terminal.type("\x03")
    terminal.wait_for("stopped by you")
    terminal.wait_for("> ")
    terminal.type("\x03")
    terminal.type("\n")  # while a prompt is being set up, Python sees the signal with the next key only
    terminal.wait_for("> ")
    terminal.type("/help\n")
    terminal.wait_for("ctrl+c stops an answer")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.exit_code() == 0
