"""Changing what a widget shows without laying out the whole screen anew, which costs more than all else a key does."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.widget import Widget
from textual.widgets import Static


def set_content_size(view: ScrollView, size: Size) -> None:
    """Set the `virtual_size` of a view; the screen is laid out anew only if that changes the view or its scroll bar.

    A view that is not shown is laid out when it is.
    """
    height = view.scrollable_content_region.height
    if view.styles.is_auto_height or (height and view.show_vertical_scrollbar != (size.height > height)):
        view.virtual_size = size
        return
    view.set_reactive(Widget.virtual_size, size)
    if view.show_vertical_scrollbar:
        view.vertical_scrollbar.window_virtual_size = size.height
    view.scroll_to(y=min(view.scroll_offset.y, view.max_scroll_y), animate=False, immediate=True)
    view.refresh()


def show_line(line: Static, content: Content) -> None:
    """Change the content of a line of fixed height; what stands there already is not drawn again."""
    if line.content != content:
        line.update(content, layout=False)


def show_text(text: Static, content: Content) -> None:
    """Change the content of a text whose height may follow it; what stands there already is not laid out again."""
    if text.content != content:
        text.update(content)
