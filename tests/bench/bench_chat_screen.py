"""What streaming to the Chat screen costs: tokens a second with the screen and without, and the screen's CPU time.

Run it with `python tests/bench/bench_chat_screen.py [--model demo:smollm2] [--rounds 7] [--tokens 96]`. In each round
the same question is asked of the same worker process once with a transcript that is drawn and once with nobody looking;
the ratio is the median of the ratios within a round. The screen's share is the CPU time of its process over the time
that the answer took.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tui_trainer.config.draft import Draft
from tui_trainer.procs.worker import Worker
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.chat import ChatScreen
from tui_trainer.tui.services import real_services
from tui_trainer.tui.target import Opening
from tui_trainer.tui.widgets.prompt_line import PromptLine
from tui_trainer.tui.widgets.transcript import Transcript

QUESTION = "Tell me a long story about a lighthouse keeper."


async def bare(worker: Worker, num_tokens: int) -> float:
    """Tokens a second with nobody looking."""
    params = {"temperature": 0.0, "max_tokens": num_tokens, "ignore_eos": True, "logprobs": 0}
    request = {"messages": [{"role": "user", "content": QUESTION}], "params": params, "slot": "a"}
    document: dict[str, Any] = await worker.call("generate", request, lambda item: None)
    return float(document["tokens_per_second"])


async def on_screen(app: WorkbenchApp, pilot: Any, num_tokens: int) -> tuple[float, float]:
    """Tokens a second while the answer is drawn, and the share of a core that drawing took."""
    screen = app.screen
    assert isinstance(screen, ChatScreen)
    transcript = screen.query_one(Transcript)
    await screen.action_new()
    screen.query_one(PromptLine).fill(QUESTION)
    began, cpu = time.perf_counter(), time.process_time()
    await pilot.press("enter")
    while not transcript.said or transcript.is_waiting or len(transcript.said) < 2:
        await asyncio.sleep(0.02)
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    reply = transcript.conversation.tip.reply
    assert reply is not None
    assert len(reply.tokens) == num_tokens, reply.note()
    return float(reply.tokens_per_second or 0.0), share


async def measure(model: str, rounds: int, num_tokens: int) -> None:
    """Measure in turns and print."""
    services = real_services([])
    draft = Draft()
    draft.set("model.name_or_path", model)
    app = WorkbenchApp(services, Opening("chat", draft), Path(tempfile.mkdtemp()))
    ratios, shares, speeds = [], [], []
    async with app.run_test(size=(120, 36)) as pilot:
        knobs = app.screen.query_one("#knobs")
        for name, text in (("temperature", "0"), ("max_tokens", str(num_tokens)), ("ignore_eos", "true")):
            knobs.set_text(name, text)  # type: ignore[attr-defined]
        await on_screen(app, pilot, num_tokens)
        worker = services.chat
        assert isinstance(worker, Worker)
        for _ in range(rounds):
            drawn, share = await on_screen(app, pilot, num_tokens)
            alone = await bare(worker, num_tokens)
            ratios.append(drawn / alone)
            shares.append(share)
            speeds.append(alone)
        await services.close()
    print(f"{model}, {num_tokens} tokens, {rounds} rounds in turns")
    print(f"  nobody looking          {statistics.median(speeds):8.1f} tokens/s")
    print(f"  with the screen         {statistics.median(ratios):8.3f} of it  (all: {_all(ratios)})")
    print(f"  the screen's CPU share  {statistics.median(shares):8.3f} of a core")


def _all(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo:smollm2")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=96)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.model, arguments.rounds, arguments.tokens))


if __name__ == "__main__":
    main()
