"""What the data worker found and judged, in words: for the Data screen."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from textual.content import Content

from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.dataset import DatasetState
from tui_trainer.tui.widgets.sample import Sample

_MOST_ADDED = 120

_FIGURES = {
    "num_rows": "rows",
    "num_usable": "usable",
    "num_tokens": "tokens",
    "num_trained_tokens": "trained",
}


def verdict_line(state: DatasetState, has_model: bool, room: int) -> Content:
    """The judgement over the whole set in one sentence.

    Args:
        state: the dataset.
        has_model: whether a model is chosen.
        room: characters there is room for; kinds of problems that find none are counted.
    """
    verdict = state.verdict or {}
    rows, trained = verdict.get("num_rows") or 0, verdict.get("num_trained_tokens") or 0
    tokens = verdict.get("num_tokens") or 0
    words = [f"{fmt.count(rows)} rows", f"{fmt.count(tokens)} tokens", f"{trained / max(tokens, 1):.0%} trained"]
    problems = verdict.get("problems") or ()
    counts = [f"{fmt.count(problem.get('count') or 0)} {title(problem)}" for problem in problems]
    fingerprint = str(verdict.get("fingerprint") or state.info.get("fingerprint") or "")[:8]
    head = ("⚑", "bold $warning") if problems else ("✔", "bold $success")
    if verdict.get("blocks_launch"):
        head = (f"✘ cannot be trained on: {safe_line(str(verdict.get('reason') or ''))} ·", "bold $error")
    elif not has_model:
        head = ("no model is chosen, bytes stand in for tokens ·", "bold $warning")
    line = Content.assemble(
        (" ", ""),
        head,
        (f" {' · '.join(words)}", "$text"),
        (safe_line(f" · judged: {verdict['scope']}") if verdict.get("scope") else "", "$warning"),
    )
    more = " · {} more, i shows all"
    for at, count in enumerate(counts):
        part = safe_line(f" · {count}")
        if line.cell_length + cell_len(part) > room - (len(more) if counts[at + 1 :] else 0):
            return Content.assemble(line, (more.format(len(counts) - at), "$warning"))
        line = Content.assemble(line, (part, "$warning"))
    mark = f" · fingerprint {safe_line(fingerprint)}" if fingerprint else ""
    return Content.assemble(line, (mark, "$text-disabled")) if line.cell_length + len(mark) <= room else line


def title(problem: dict[str, Any]) -> str:
    """A problem in a few words that follow a number of rows."""
    return str(problem.get("title") or problem.get("code"))


def verdict_figures(verdict: dict[str, Any]) -> str:
    """The figures of the verdict, and why nothing can be trained on if so."""
    counts = [f"{fmt.count(verdict.get(name) or 0)} {words}" for name, words in _FIGURES.items()]
    lines = [" · ".join(counts)]
    if scope := verdict.get("scope"):
        lines.append(f"judged: {scope}")
    if verdict.get("blocks_launch"):
        lines.append(f"✘ cannot be trained on: {verdict.get('reason')}")
    if fingerprint := verdict.get("fingerprint"):
        lines.append(f"fingerprint {fingerprint}")
    return "\n".join(lines)


def verdict_text(verdict: dict[str, Any]) -> str:
    """The whole verdict as text: figures, then each problem with its remedy."""
    lines = [verdict_figures(verdict)]
    for problem in verdict.get("problems") or ():
        lines += [
            "",
            f"{problem.get('severity')} · {title(problem)} ({problem.get('code')})",
            str(problem.get("message")),
            str(problem.get("remedy")),
        ]
    if not verdict.get("problems"):
        lines += ["", "nothing is wrong with it"]
    return "\n".join(lines)


def progress_words(state: DatasetState) -> str:
    """How far the judging is; empty if none is going on."""
    if state.verdict_progress is None:
        return ""
    done, total = state.verdict_progress
    share = f" of {fmt.count(total)}" if total else ""
    return f"judging the whole set: {fmt.count(done)}{share} rows …"


def found_pairs(info: dict[str, Any], has_model: bool, sample: Sample | None = None) -> list[tuple[str, str]]:
    """What was found out about the rows: sources, format, columns, template and what it adds, tokenizer.

    Args:
        info: the data worker's answer to `open`.
        has_model: whether a model is chosen.
        sample: a row as it is trained on, None before the first.
    """
    if not info:
        return []
    pairs = []
    if len(sources := info.get("sources") or ()) > 1:
        for source in sources:
            pairs.append((f"x{source.get('weight', 1):g}", f"{_name_of(source)}, {source.get('format')}"))
            pairs += _mapping_pairs(source)
    else:
        pairs.append(("format", str(info.get("format") or "unknown")))
        pairs += _mapping_pairs(info)
    if sample is not None and sample.template:
        pairs.append(("template", sample.template))
        if added := sample.added_text:
            pairs.append(("it adds", added[:_MOST_ADDED] + ("…" if len(added) > _MOST_ADDED else "")))
    if not has_model:
        pairs.append(("tokens", "one a byte: m chooses a model"))
    return pairs


def _mapping_pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    """How sure the format is, if not wholly, and the roles with their columns."""
    sureness = found.get("confidence")
    is_unsure = isinstance(sureness, float) and sureness < 1
    doubt = [("", f"{sureness:.0%} sure; c corrects it")] if is_unsure else []
    return [*doubt, *((str(role), f"← {column}") for role, column in (found.get("columns") or {}).items())]


def _name_of(source: dict[str, Any]) -> str:
    """The last part of a source's path."""
    return str(source.get("path")).rstrip("/").rpartition("/")[2]
