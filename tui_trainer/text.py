"""Text from data, models, logs and files made safe for a terminal, and short; used wherever foreign text is shown.

A control sequence in a data row can rewrite the screen, set the clipboard or fake a prompt. `safe` makes every such
character visible instead of sending it. The bytes that are trained on are never touched: this is for display only.
"""

from __future__ import annotations

import re

_CONTROL_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
_DELETE = {0x7F: "\u2421"}
_C1_CONTROLS = dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_BIDI_CONTROLS = dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\u2426")
_LINE_SEPARATORS = dict.fromkeys((0x2028, 0x2029), "\n")
_INVISIBLE = dict.fromkeys((0x00AD, 0x200B, 0x2060, 0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)), "\u00b7")
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")

_TABLE: dict[int, str] = {
    **_CONTROL_PICTURES,
    **_DELETE,
    **_C1_CONTROLS,
    **_BIDI_CONTROLS,
    **_LINE_SEPARATORS,
    **_INVISIBLE,
    **_SURROGATES,
}
_UNSAFE = re.compile("[" + "".join(f"\\U{code:08x}" for code in sorted(_TABLE)) + "]")


def safe(text: str) -> str:
    """`text` with every control, bidirectional and invisible character replaced by a visible one.

    Tabs and newlines stay. ESC becomes U+241B, 8-bit controls U+FFFD, bidirectional controls U+2426.
    """
    return text.translate(_TABLE) if _UNSAFE.search(text) else text


def safe_line(text: str) -> str:
    """`safe(text)` on one line: newlines become U+23CE, tabs a space."""
    return safe(text).replace("\n", "\u23ce").replace("\t", " ")


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` characters: what is longer loses its end, and says so by "…"."""
    return text if len(text) <= most else text[: most - 1] + "…"


def shortened_front(text: str, most: int) -> str:
    """As `shortened`, for a path or a name, whose end tells more than its beginning."""
    return text if len(text) <= most else "…" + text[1 - most :]


def strip_unsafe(text: str) -> str:
    """`text` without the characters that `safe` would replace; the last net before the terminal."""
    return _UNSAFE.sub("", text) if _UNSAFE.search(text) else text


def is_unsafe(text: str) -> bool:
    """Whether `safe` would change `text`."""
    return _UNSAFE.search(text) is not None
