"""Bytes between the front end and its workers: JSON lines, with requests, streamed items, errors and cancellation."""
