"""Configurations of other training tools, carried over to ours.

`reading` opens the file, `importer` finds out which tool it is for and makes the configuration, `carrying` keeps the
books: what was carried over, what was not, and why. Each tool's field names are data in the module of its name.
"""
