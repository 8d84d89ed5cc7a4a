"""The two workers of the front end, each a process that serves methods over its standard input and output."""
