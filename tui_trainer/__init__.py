"""tui-trainer: train a language model from one terminal, see what it is trained on, and talk to the result.

Imports nothing of its own, so that `tui_trainer.__version__` costs nothing.
"""

__version__ = "0.1.0"
