"""The colours of the workbench; any of Textual's themes can be chosen instead from the command palette."""

from textual.theme import Theme

WORKBENCH = Theme(
    name="workbench",
    primary="#5ab0f6",
    secondary="#7ee0c0",
    accent="#f2b866",
    success="#74d98c",
    warning="#f2b866",
    error="#f47067",
    foreground="#d6dde6",
    background="#0f1318",
    surface="#151b22",
    panel="#1d252e",
    dark=True,
    variables={
        "border": "#2f3b47",
        "border-blurred": "#2f3b47",
        "footer-background": "#151b22",
        "footer-key-foreground": "#f2b866",
        "footer-description-foreground": "#9aa7b4",
        "text-disabled": "#5d6b78",
        "block-cursor-background": "#27435c",
        "block-cursor-foreground": "#ffffff",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#1d2b38",
        "block-hover-background": "#1d2b38",
        "input-selection-background": "#27435c",
    },
)
