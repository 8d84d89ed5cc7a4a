"""Opening a dataset: files of every common kind, folders, saved datasets, the hub; `opening.open_data` is the door."""
