"""Widgets: drawing and keys. They know data they are handed, no screen, no app, no file, no process."""
