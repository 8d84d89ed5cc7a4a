"""The workbench in the terminal: an app of five screens over the run directory and two workers.

Imports nothing heavy: torch and its relatives live in the workers and in the trainer.
"""
