"""The look of what lies over a screen: a bordered box in its middle, as high as what it holds."""

from __future__ import annotations

from textual.screen import ModalScreen, ScreenResultType


class Sheet(ModalScreen[ScreenResultType]):
    """A box over the screen. What derives from it says how wide it is, and what is in it."""

    DEFAULT_CSS = """
    Sheet {
        align: center middle;
        & > Vertical, & > VerticalScroll {
            height: auto; max-height: 90%;
            background: $surface; border: round $primary; padding: 0 1;
        }
        & Static { width: 100%; height: auto; }
    }
    """


class Dialog(Sheet[ScreenResultType]):
    """A sheet with a question: a line to type into or a list to pick from, its error (`ask--error`), its help."""

    DEFAULT_CSS = """
    Dialog {
        & > Vertical { width: 90%; max-width: 78; }
        & .ask--error { color: $error; }
        & .ask--help { color: $text-muted; }
        & Input { border: tall $border; height: 3; }
        & OptionList, & OptionList:focus { border: none; padding: 0; background: $surface; }
        & OptionList { height: auto; max-height: 16; }
    }
    """
