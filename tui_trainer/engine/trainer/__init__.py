"""The training loop of a run: `transformers.Trainer` with our data path, events, control and checkpoints.

Used by `engine.train` only. Importing this package alone loads nothing heavy.
"""
