"""What a run is on disk: layout, events, journal, control mailbox, status, and the snapshot a screen shows.

The run directory is the only truth. The trainer, the supervisor, the command line and the screens read and write these
files and share nothing else. Standard library only.
"""
