"""How long the rows are: a histogram of tokens with a cutoff that moves, and what each cutoff would cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widget import Widget

from tui_trainer.tui import format as fmt
from tui_trainer.tui.lengths import LengthCosts, Lengths

_BLOCKS = " ▁▂▃▄▅▆▇█"


class LengthChart(Widget, can_focus=True):
    """Bars of row lengths and a cutoff that can be moved; enter takes it as max_length."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "take", "Take cutoff", id="cutoff-take", tooltip="Make the cutoff the new max_length"),
    ]
    DEFAULT_CSS = "LengthChart { padding: 0 1; }"

    class CutoffTaken(Message):
        """The cutoff is to become max_length."""

        def __init__(self, length: int) -> None:
            super().__init__()
            self.length = length

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lengths = Lengths(())
        self._cutoff = 0
        self._is_packed = False
        self._batch_size = 1
        self._num_steps: Callable[[int], int | None] = lambda _: None
        self._is_judging = True

    def show(
        self,
        counts: Sequence[tuple[int, int]],
        cutoff: int,
        batch_size: int,
        *,
        is_packed: bool = False,
        num_steps: Callable[[int], int | None] = lambda _: None,
    ) -> None:
        """Show row lengths before any cut.

        Args:
            counts: how many rows have how many tokens, as (tokens, rows).
            cutoff: the present max_length.
            batch_size: rows a batch, for the padding they cost.
            is_packed: whether rows are packed.
            num_steps: updates of an epoch that has so many rows or packed rows; None where that is not known.
        """
        self._lengths = Lengths(counts)
        self._cutoff, self._batch_size = cutoff, max(batch_size, 1)
        self._is_packed, self._num_steps = is_packed, num_steps
        self._is_judging = False
        self.refresh()

    def wait(self) -> None:
        """The lengths are not known yet."""
        self._lengths, self._is_judging = Lengths(()), True
        self.refresh()

    def move_cutoff(self, direction: int) -> None:
        """Move the cutoff by about a twentieth, to a multiple of 8."""
        step = max(self._cutoff // 20 // 8, 1) * 8
        self._cutoff = max(8, (self._cutoff + direction * step) // 8 * 8)
        self.refresh()

    def action_take(self) -> None:
        """Ask for the cutoff to become max_length."""
        self.post_message(self.CutoffTaken(self._cutoff))

    def render(self) -> Content:
        """The histogram and the figures below it."""
        if not self._lengths.num_rows:
            return Content.styled("counting tokens …" if self._is_judging else "no rows", "$text-disabled")
        figures = self._figures(self._lengths.costs(self._cutoff, self._batch_size))
        width, height = self.size.width - 2, max(self.size.height - len(figures) - 1, 2)
        return Content("\n").join([*self._bars(width, height), *figures])

    def _bars(self, width: int, height: int) -> list[Content]:
        longest = max(self._lengths.longest, 1)
        counts = self._lengths.histogram(max(width, 1), longest)
        most = max(counts)
        at = self._cutoff * len(counts) // (longest + 1)
        rows = []
        for row in range(height - 1, -1, -1):
            # a bar that stands for any row at all is never empty
            heights = [max(round(count / most * height * 8), bool(count)) for count in counts]
            cells = [_BLOCKS[min(max(number - row * 8, 0), 8)] for number in heights]
            rows.append(
                Content.assemble(
                    ("".join(cells[:at]), "$primary"),
                    ("│" if at < len(cells) else "", "$warning"),
                    ("".join(cells[at + 1 :]), "$error"),
                )
            )
        axis = f"0{fmt.count(longest):>{max(width - 1, 1)}}"
        if at >= len(counts):
            return [*rows, Content.styled(axis, "$text-disabled")]
        label = f"┴ {fmt.count(self._cutoff)}"
        place = min(at, max(width - len(label) - len(fmt.count(longest)) - 1, 1))
        return [*rows, Content.styled(f"{axis[:place]}{label}{axis[place + len(label) :]}", "$text-disabled")]

    def _figures(self, costs: LengthCosts) -> list[Content]:
        lengths = self._lengths
        plain, packed = self._num_steps(costs.num_rows), self._num_steps(costs.num_packed)
        marks = ("", "▸ ") if self._is_packed else ("▸ ", "")
        cut = Content.assemble(
            (f"cutoff {fmt.count(self._cutoff)}: ", "bold"),
            f"{fmt.count(costs.num_cut)} rows cut ({costs.num_cut / lengths.num_rows:.1%}), "
            f"{costs.share_lost:.1%} of the tokens lost",
        )
        spread = Content(
            f" · median {fmt.count(lengths.quantile(0.5))} · 95 % {fmt.count(lengths.quantile(0.95))} · "
            f"longest {fmt.count(lengths.longest)}"
        )
        return [
            Content.assemble(cut, spread if cut.cell_length + spread.cell_length < self.size.width - 1 else ""),
            Content(
                f"{marks[0]}padded: about {costs.padding:.0%} padding in random batches of {self._batch_size}"
                f"{_steps_text(plain)}"
            ),
            Content(
                f"{marks[1]}packed: {fmt.count(costs.num_packed)} rows, {costs.packing:.1%} full{_steps_text(packed)}"
            ),
        ]


def _steps_text(steps: int | None) -> str:
    return f" · {fmt.count(steps)} steps an epoch" if steps is not None else ""
