"""Training on rows that are read as it goes.

`order` says which row comes when, `stream` makes items of them, `judging` says of the first rows what `verdict` says of
all of a set.

What comes as item n follows from the configuration alone, so every rank, every loader process and every resumed run
sees the same stream, and none of them has to remember where it was.
"""
