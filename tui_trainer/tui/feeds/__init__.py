"""What flows into the screens: the files of a run, the dataset behind the data worker. No widgets here."""
