"""How long the rows are: a histogram of tokens with a cutoff that moves, and what each cutoff would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui_trainer.tui import format as fmt

_BLOCKS = " ▁▂▃▄▅▆▇█"


class LengthChart(Widget, can_focus=True):
    """Bars of row lengths; `[` and `]` move the cutoff, enter takes it as max_length."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "left_square_bracket",
            "move(-1)",
            "Cutoff down",
            key_display="[",
            id="cutoff-down",
            tooltip="Move the cutoff down",
        ),
        Binding(
            "right_square_bracket",
            "move(1)",
            "Cutoff up",
            key_display="]",
            id="cutoff-up",
            tooltip="Move the cutoff up",
        ),
        Binding("enter", "take", "Take cutoff", id="cutoff-take", tooltip="Make the cutoff the new max_length"),
    ]
    DEFAULT_CSS = "LengthChart { padding: 0 1; }"

    class CutoffTaken(Message):
        """The cutoff is to become max_length."""

        def __init__(self, length: int) -> None:
            super().__init__()
            self.length = length

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lengths: Sequence[int] = ()
        self._cutoff = 0
        self._batch_size = 1
        self._is_judging = True

    def show(self, lengths: Sequence[int], cutoff: int, batch_size: int) -> None:
        """Show row lengths before any cut, sorted.

        Args:
            lengths: tokens of each row, in any order.
            cutoff: the present max_length.
            batch_size: rows a batch, for the padding they cost.
        """
        self._lengths = sorted(lengths)
        self._cutoff = cutoff
        self._batch_size = max(batch_size, 1)
        self._is_judging = False
        self.refresh()

    def wait(self) -> None:
        """The lengths are not known yet."""
        self._lengths, self._is_judging = (), True
        self.refresh()

    def action_move(self, direction: int) -> None:
        """Move the cutoff by about a twentieth, to a multiple of 8."""
        step = max(self._cutoff // 20 // 8, 1) * 8
        self._cutoff = max(8, (self._cutoff + direction * step) // 8 * 8)
        self.refresh()

    def action_take(self) -> None:
        """Ask for the cutoff to become max_length."""
        self.post_message(self.CutoffTaken(self._cutoff))

    def render(self) -> Content:
        """The histogram and the figures below it."""
        if not self._lengths:
            return Content.styled("counting tokens …" if self._is_judging else "no rows", "$text-disabled")
        width, height = self.size.width - 2, max(self.size.height - 4, 2)
        return Content("\n").join([*self._bars(width, height), *self._figures()])

    def _bars(self, width: int, height: int) -> list[Content]:
        longest = max(self._lengths[-1], 1)
        counts = [0] * max(width, 1)
        for length in self._lengths:
            counts[min(length * len(counts) // (longest + 1), len(counts) - 1)] += 1
        most = max(counts)
        at = min(self._cutoff * len(counts) // (longest + 1), len(counts))
        rows = []
        for row in range(height - 1, -1, -1):
            cells = [_BLOCKS[min(max(round(count / most * height * 8) - row * 8, 0), 8)] for count in counts]
            rows.append(Content.assemble(("".join(cells[:at]), "$primary"), ("".join(cells[at:]), "$error")))
        axis = f"0{fmt.count(longest):>{max(width - 1, 1)}}"
        return [*rows, Content.styled(axis, "$text-disabled")]

    def _figures(self) -> list[Content]:
        kept = [min(length, self._cutoff) for length in self._lengths]
        num_cut = sum(length > self._cutoff for length in self._lengths)
        num_batches = -(-len(kept) // self._batch_size)
        total = sum(kept)
        padded = _expected_padded(kept, self._batch_size)
        rows_packed = max(-(-total // max(self._cutoff, 1)), 1)
        middle, high = self._lengths[len(self._lengths) // 2], self._lengths[int(len(self._lengths) * 0.95)]
        return [
            Content(
                f"cutoff {fmt.count(self._cutoff)}: {num_cut} rows cut ({num_cut / len(kept):.1%}) · "
                f"median {middle} · 95 % {high} · longest {self._lengths[-1]}"
            ),
            Content(
                f"{num_batches} batches of {self._batch_size}, about {1 - total / max(padded, 1):.0%} padding "
                f"when shuffled · packed into at least {fmt.count(rows_packed)} rows"
            ),
        ]


def _expected_padded(lengths: Sequence[int], batch_size: int) -> float:
    """Expected tokens with padding when batches are drawn at random: batches x the mean greatest of `batch_size` draws.

    Args:
        lengths: sorted ascending.
        batch_size: rows a batch.
    """
    number = len(lengths)
    greatest = sum(
        length * (((rank + 1) / number) ** batch_size - (rank / number) ** batch_size)
        for rank, length in enumerate(lengths)
    )
    return greatest * batch_size * -(-number // batch_size)
