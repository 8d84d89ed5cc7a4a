"""The preview as text for people: rows with the mask laid over them, and the verdict."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from tui_trainer.cli.output import counted
from tui_trainer.text import safe, safe_line

_ROLE_STYLES = {"template": "dim", "system": "yellow", "user": "", "assistant": "cyan", "tool": "magenta", "text": ""}
_TRAINED = "bold underline green"
_MAX_CHARACTERS = 20_000


def show_preview(console: Console, document: dict[str, Any]) -> None:
    """Print a preview document."""
    show_heading(console, document)
    for row in document["rows"]:
        console.print()
        _show_row(console, row)
    console.print()
    show_verdict(console, document["verdict"])


def show_heading(console: Console, document: dict[str, Any]) -> None:
    """Print sources, format, template and fingerprint; of several sources the format of each."""
    sources = document["sources"]
    for source in sources:
        splits = " · ".join(f"{name} {_number_of_rows(info)}" for name, info in source["splits"].items())
        mixed = f" · {_format_words(source)}" if len(sources) > 1 else ""
        console.print(Text(safe_line(f"{source['path']}: {splits}{mixed}"), "bold"))
    template = document["template"]
    words = [
        *([_format_words(document)] if len(sources) == 1 else []),
        f"template {template['name']} ({template['source']})" if template else "no template",
        f"fingerprint {document['fingerprint'][:8]}",
    ]
    console.print(Text(safe_line(" · ".join(words)), "dim"))


def _format_words(found: dict[str, Any]) -> str:
    """The format, and which column plays which role."""
    columns = ", ".join(f"{role} = {column}" for role, column in found["columns"].items())
    return f"format {found['format']}" + (f" ({columns})" if columns else "")


def _number_of_rows(split: dict[str, Any]) -> str:
    number = split["num_rows"]
    return f"{number:,} rows" if number is not None else "streamed, not counted"


def _show_row(console: Console, row: dict[str, Any]) -> None:
    share = row["num_trained"] / max(row["num_tokens"], 1)
    heading = f"row {row['row']} · {row['num_tokens']:,} tokens · {row['num_trained']:,} trained ({share:.1%})"
    marks = (" · cut" if row["truncated"] else "") + ("" if row["usable"] else " · left out")
    console.print(Text(safe_line(heading + marks), "bold"))
    for problem in row["problems"]:
        console.print(Text(safe_line(f"  {problem['code']}: {problem['message']}"), severity_style(problem)))
    console.print(_masked(row["spans"], with_marks=not console.is_terminal))


def _masked(spans: list[dict[str, Any]], *, with_marks: bool) -> Text:
    """The text of a row, trained spans set off."""
    text = Text(overflow="fold")
    for span in spans:
        shown = safe(span["text"])
        if span["trained"]:
            text.append(f"▌{shown}▐" if with_marks else shown, _TRAINED)
        else:
            text.append(shown, _ROLE_STYLES.get(span["role"], ""))
        if len(text) > _MAX_CHARACTERS:
            text.append(" … (the rest is in --json)", "dim")
            break
    return text


def show_verdict(console: Console, verdict: dict[str, Any]) -> None:
    """Print a verdict."""
    share = verdict["num_trained_tokens"] / max(verdict["num_tokens"], 1)
    words = [
        f"{counted(verdict['num_rows'], 'row')} judged",
        f"{verdict['num_usable']:,} usable",
        f"{verdict['num_tokens']:,} tokens",
        f"{verdict['num_trained_tokens']:,} trained ({share:.1%})",
    ]
    console.print(Text(" · ".join(words), "bold"))
    if verdict.get("scope"):
        console.print(Text(safe_line(f"judged: {verdict['scope']}"), "yellow"))
    for problem in verdict["problems"]:
        console.print(
            Text(
                safe_line(f"{problem['severity']}: {problem['message']}. {problem['remedy']}"), severity_style(problem)
            )
        )
    if verdict["blocks_launch"]:
        console.print(Text(safe_line(f"cannot be trained on: {verdict['reason']}"), "bold red"))


def severity_style(problem: dict[str, Any]) -> str:
    """The style of a problem: errors red, warnings yellow; the word is there too."""
    return "red" if problem["severity"] == "error" else "yellow"
