"""Processes: the supervisor of a run, starting and stopping runs, the front end's workers, what the machine has.

Called by the screens and the command line. Everything here talks to a run through its directory, never through a pipe,
so that whoever started it may go away.
"""
