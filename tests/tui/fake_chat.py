"""A chat worker with canned answers, in the shapes of the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from textual.content import Content

from tui_trainer.errors import CancelledError, UsageError, WorkbenchError
from tui_trainer.tui.widgets.transcript import Said, Transcript
from tui_trainer.tui.widgets.turn_text import Looks, turn_text

OnItem = Callable[[Any], None] | None
END = 2
LOGPROBS = (-0.1, -1.0, -3.0, -8.0)
"""In turn, so that every band of colour occurs."""


def text_shown(transcript: Transcript) -> Content:
    """All turns of a transcript as they are shown, one below the other."""
    return Content("\n").join(
        turn_text(said.turn, Looks(transcript.mode, id(said.turn) in transcript.unfolded))
        for said in transcript.query(Said)
    )


def id_of(text: str) -> int:
    """A token id that tells the text."""
    return 100 + sum(map(ord, text)) % 900


class FakeChatWorker:
    """Answers every question with its last words, a piece at a time; B says one word more."""

    def __init__(self) -> None:
        self.pid: int | None = 1
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.has_template = True
        self.load_error: WorkbenchError | None = None
        self.generate_error: WorkbenchError | None = None
        self.is_endless = False
        self.reply: str | None = None
        self.thinking: str | None = None
        self.tool_calls: list[dict[str, Any]] = []
        self.problems: list[dict[str, Any]] = []
        self.follow_items: list[dict[str, Any]] = []

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The parameters of all calls of a method."""
        return [params for name, params in self.calls if name == method]

    async def call(self, method: str, params: dict[str, Any], on_item: OnItem = None) -> Any:
        self.calls.append((method, params))
        await asyncio.sleep(0)
        return await getattr(self, f"_{method}")(params, on_item)

    async def _load(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        if self.load_error is not None:
            raise self.load_error
        return {
            "name": params["model"],
            "slot": params.get("slot", "a"),
            "kind": "local",
            "num_parameters": 134_515_008,
            "device": "cpu",
            "dtype": "float32",
            "context_length": 8192,
            "has_template": self.has_template,
            "defaults": {"temperature": 0.7},
            "decode": {"kind": "fused", "note": ""},
        }

    async def _templates(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        name = params.get("template")
        if name == "gone":
            raise UsageError("the chat template 'gone' cannot be had: there is no such file")
        known = [{"name": "chatml", "source": "builtin"}, {"name": "plain", "source": "builtin"}]
        known += [{"name": "none", "source": "none"}]
        source = "builtin" if name else "model"
        return {"known": known, "template": {"name": name or "tiny", "source": source, "hash": "ab", "kwargs": {}}}

    async def _unload(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        return {}

    async def _knobs(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        values = {"temperature": (0.7, "model"), "top_p": (1.0, "default")}
        values |= {name: (value, "you") for name, value in params["params"].items()}
        is_greedy = values["temperature"][0] == 0
        return {
            "knobs": {name: {"value": value, "source": source} for name, (value, source) in values.items()},
            "ignored": {"top_p": "temperature 0 always takes the most probable token"} if is_greedy else {},
            "notes": [],
            "strategy": "greedy" if is_greedy else "sampling",
            "problems": self.problems,
        }

    def _words(self, params: dict[str, Any], slot: str) -> list[str]:
        if self.reply is not None:
            return [self.reply]
        question = params["messages"][-1]["content"] if "messages" in params else params["prompt"]
        return ["You said: ", *(f"{word} " for word in question.split()), *(["indeed "] if slot == "b" else [])]

    async def _generate(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        if self.generate_error is not None:
            raise self.generate_error
        slot = params.get("slot", "a")
        words, many = self._words(params, slot), params["params"].get("n", 1)
        assert on_item is not None
        for candidate in range(many):
            for place, word in enumerate(words):
                logprob = LOGPROBS[place % len(LOGPROBS)]
                item = {"candidate": candidate, "text": word, "id": id_of(word), "logprob": logprob, "slot": slot}
                on_item(item | {"rank": 1 + 4 * (place % 3)})
                await asyncio.sleep(0)
        if self.is_endless:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise CancelledError("cancelled") from None
        return self._document(params, words, many)

    def _document(self, params: dict[str, Any], words: list[str], many: int) -> dict[str, Any]:
        thinking = {"text": self.thinking, "is_closed": True} if self.thinking is not None else None
        candidate = {
            "text": "".join(words),
            "ids": [id_of(word) for word in words],
            "finish_reason": "stop",
            "thinking": thinking,
            "answer": "".join(words),
            "tool_calls": self.tool_calls,
        }
        ids = params.get("prefill_ids") or [id_of(word) for word in params.get("prefill", "").split()]
        return {
            "version": 1,
            "prompt_ids": [1, 2, 3],
            "candidates": [candidate | {"index": number} for number in range(many)],
            "prefill": {"text": params.get("prefill", ""), "ids": ids} if ids else None,
            "usage": {"prompt_tokens": 3, "completion_tokens": len(words)},
            "knobs": {"max_tokens": {"value": 256, "source": "default"}},
            "seconds_to_first_token": 0.125,
            "tokens_per_second": 50.0,
            "ignored_knobs": [],
            "seed": 7,
            "rendered": "<|im_start|>user\n…",
        }

    async def _compare(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        documents = {slot: await self._generate(params | {"slot": slot}, on_item) for slot in ("a", "b")}
        length = len(documents["a"]["candidates"][0]["ids"])
        diff = [
            {"kind": "same", "a": [0, length], "b": [0, length]},
            {"kind": "only_b", "a": [length, length], "b": [length, length + 1]},
        ]
        return {**documents, "same_prompt": True, "in_one_batch": True, "seconds": 0.5, "diff": diff}

    async def _tokens(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        tokens = [
            {
                "id": token,
                "text": f"t{token} ",
                "special": token == END,
                "a": {"logprob": LOGPROBS[place % 4], "rank": 1 + place, "top": self._top(params.get("top", 5))},
                "b": {"logprob": LOGPROBS[place % 4] + place - 1, "rank": 1, "top": []},
                "difference": float(place - 1),
                "kl": 0.1 * place,
            }
            for place, token in enumerate(params["reply_ids"])
        ]
        return {
            "prompt_tokens": 3,
            "tokens": tokens,
            "a": {"mean_logprob": -1.2, "perplexity": 3.32},
            "b": {"mean_logprob": -0.4, "perplexity": 1.49},
            "mean_kl": 0.25,
        }

    def _top(self, many: int) -> list[dict[str, Any]]:
        return [{"id": 500 + n, "text": f" other{n}", "logprob": -0.5 - n} for n in range(many)]

    async def _alternatives(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        rows = [
            {
                "id": 500 + n,
                "text": f" other{n}",
                "logprob": -0.5 - n,
                "probability": 0.6 / (n + 1),
                "rank": n + 1,
                "processed": 0.7 if n == 0 else 0.3 if n == 1 else 0.0,
            }
            for n in range(params.get("top", 20))
        ]
        return {"position": params["position"], "chosen": params["reply_ids"][params["position"]], "a": rows, "b": None}

    async def _render(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        prompt = ["<|im_start|>", "user", "\n", "hi", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n"]
        tokens = [{"id": id_of(text), "text": text, "special": text.startswith("<|")} for text in prompt]
        trained = [*({**token, "trained": False} for token in tokens)]
        trained += [
            {"id": id_of(text), "text": text, "special": text == "<|im_end|>", "trained": True}
            for text in ("ho", "<|im_end|>")
        ]
        return {
            "text": "".join(prompt),
            "tokens": tokens,
            "template": {"name": "chatml", "source": "model", "hash": "abcd", "kwargs": {}},
            "training": {"tokens": trained, "num_trained": 2, "problems": []},
            "parity": {"same": True, "first_difference": None, "message": "the prompt is what training rendered"},
        }

    async def _follow(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        assert on_item is not None
        for item in self.follow_items:
            on_item(item)
            await asyncio.sleep(0)
        await asyncio.Event().wait()
        return {}

    async def _servers(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        return {
            "url": params["url"],
            "dialect": "vllm",
            "models": ["small", "large"],
            "untranslatable": {"best_of": "gone"},
        }

    async def _read_prompts(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        return {"prompts": [{"prompt": "2+2?", "exact": "4"}, {"prompt": "Who?", "regex": "Sm.*"}]}

    async def _prompt_set(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        assert on_item is not None
        rows, table = [], []
        for step in (100, 200):
            for number, prompt in enumerate(params["prompts"]):
                row = {
                    "model": f"dates@{step}",
                    "step": step,
                    "prompt": number,
                    "text": f"reply {number} at {step}",
                    "num_tokens": step // 10,
                    "finish_reason": "stop",
                    "mean_logprob": -0.5,
                    "distinct_2": 0.9,
                    "repeats": step == 100,
                    "exact": (step == 200) if "exact" in prompt else None,
                    "regex": True if "regex" in prompt else None,
                    "kl": 0.1,
                }
                rows.append(row)
                on_item({"row": row})
                on_item({"task": f"dates@{step}", "done": number + 1, "total": len(params["prompts"])})
                await asyncio.sleep(0)
            table.append(
                {
                    "model": f"dates@{step}",
                    "step": step,
                    "num_prompts": 2,
                    "mean_tokens": step / 10,
                    "stopped": 1.0,
                    "repeating": 1.0 if step == 100 else 0.0,
                    "exact": 0.0 if step == 100 else 1.0,
                    "regex": 1.0,
                    "mean_logprob": -0.5,
                    "distinct_2": 0.9,
                    "kl": 0.1,
                }
            )
        if self.is_endless:
            await asyncio.Event().wait()
        return {"rows": rows, "table": table}

    async def _score(self, params: dict[str, Any], on_item: OnItem) -> dict[str, Any]:
        rows = [
            {"text": "4", "num_tokens": 2, "a": 3.0, "b": 1.5, "kl": 0.2},
            {"text": "I am", "num_tokens": 3, "a": 9.0, "b": 2.5, "kl": 0.4},
        ]
        whole = {"a": {"perplexity": 5.0, "bits_per_token": 2.3}, "b": {"perplexity": 2.0, "bits_per_token": 1.0}}
        return {"rows": rows, **whole, "kl": 0.32, "num_tokens": 5}

    async def close(self) -> None:
        self.calls.append(("close", {}))
