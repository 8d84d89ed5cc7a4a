"""A picture of the screen as SVG, every cell on its grid; used by `capture` for the README.

Textual's own export leaves glyph widths to the viewer's font. Here each word is placed by its column, wide glyphs one
by one, and braille, which few monospaced fonts have, is drawn as dots. A cell is as wide as a glyph of the fonts named
(0.602 of their size).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from rich.cells import cell_len
from rich.color import Color
from rich.style import Style
from rich.terminal_theme import DIMMED_MONOKAI
from textual.app import App
from textual.strip import Strip

CELL_WIDTH, CELL_HEIGHT = 9, 19
_FONTS = "'DejaVu Sans Mono', 'JetBrains Mono', Menlo, Consolas, monospace"
_WIDE_FONTS = "'Noto Sans Mono CJK SC', 'Noto Sans Mono CJK JP', monospace"
_WIDE = 3
_MAX_WORD = 12
"""Glyphs drawn in one go: what a viewer rounds at each of them adds up."""
_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))


def screen_svg(app: App[Any]) -> str:
    """The app's screen as it stands now."""
    screen = app.screen
    lines = screen._compositor.render_strips()
    width, height = app.size.width * CELL_WIDTH, app.size.height * CELL_HEIGHT
    ground = screen.styles.background.rich_color if screen.styles.background.a else Color.parse("#000000")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}">',
        f'<rect width="100%" height="100%" fill="{_hex(ground)}"/>',
        f'<g font-family="{_FONTS}" font-size="14.95" xml:space="preserve">',
    ]
    cells = [cell for row, strip in enumerate(lines) for cell in _row(row, strip)]
    parts.extend(sorted(cells, key=lambda cell: not cell.startswith("<rect")))
    return "\n".join([*parts, "</g>", "</svg>"])


def _hex(color: Color | None, *, is_ground: bool = False) -> str:
    if color is None or color.is_default:
        return "#101418" if is_ground else "#d8dee4"
    return color.get_truecolor(DIMMED_MONOKAI, foreground=not is_ground).hex


def _row(row: int, strip: Strip) -> Iterator[str]:
    column = 0
    top = row * CELL_HEIGHT
    for text, style, control in strip:
        if control:
            continue
        style = style or Style()
        width = cell_len(text)
        colors = (style.color, style.bgcolor)
        fore, ground = (colors[1], colors[0]) if style.reverse else colors
        if style.reverse or (ground and not ground.is_default):
            fill = _hex(ground, is_ground=not style.reverse)
            left, size = column * CELL_WIDTH, width * CELL_WIDTH
            yield f'<rect x="{left:.1f}" y="{top}" width="{size + 0.3:.1f}" height="{CELL_HEIGHT}" fill="{fill}"/>'
        yield from _text(column, top, text, _attributes(style, _hex(fore, is_ground=style.reverse or False)))
        column += width


def _attributes(style: Style, fill: str) -> str:
    decorations = [name for name, on in (("underline", style.underline), ("line-through", style.strike)) if on]
    return "".join(
        (
            f' fill="{fill}"',
            ' font-weight="bold"' if style.bold else "",
            ' font-style="italic"' if style.italic else "",
            ' opacity="0.6"' if style.dim else "",
            f' text-decoration="{" ".join(decorations)}"' if decorations else "",
        )
    )


def _text(column: int, top: int, text: str, attributes: str) -> Iterator[str]:
    """Words where their columns are; braille as dots."""
    for start, word in _words(text):
        left = (column + start) * CELL_WIDTH
        if 0x2800 < ord(word[0]) <= 0x28FF:
            yield from _braille(left, top, word, attributes)
        else:
            font = f' font-family="{_WIDE_FONTS}"' if cell_len(word[0]) > 1 else ""
            yield f'<text x="{left:.1f}" y="{top + 15}"{font}{attributes}>{escape(word)}</text>'


def _words(text: str) -> Iterable[tuple[int, str]]:
    """Runs of one kind (braille, wide or neither) without blanks, with the cell at which each begins."""
    column, word, start, kind = 0, "", 0, 0
    for glyph in text:
        this = 0 if glyph in " \u2800" else 2 if 0x2800 < ord(glyph) <= 0x28FF else 1 + 2 * (cell_len(glyph) > 1)
        if word and (this != kind or this == _WIDE or len(word) == _MAX_WORD):
            yield start, word
            word = ""
        if this:
            start = start if word else column
            word += glyph
        kind = this
        column += cell_len(glyph)
    if word:
        yield start, word


def _braille(left: float, top: int, word: str, attributes: str) -> Iterator[str]:
    dots = [
        f"M{left + (at * 2 + x) * CELL_WIDTH / 2 + 1.3:.1f},{top + y * CELL_HEIGHT / 4 + 2.2:.1f}h0.1"
        for at, glyph in enumerate(word)
        for bit, (x, y) in enumerate(_DOTS)
        if ord(glyph) - 0x2800 >> bit & 1
    ]
    stroke = attributes.replace(" fill=", " stroke=")
    yield f'<path d="{"".join(dots)}" stroke-width="2.4" stroke-linecap="round"{stroke}/>'
