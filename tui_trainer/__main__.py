"""`python -m tui_trainer` is the command `tui-trainer`."""

from tui_trainer.cli import main

if __name__ == "__main__":
    main()
