"""Talking to models: prompts, answers, comparisons; used by the chat worker and by the command `chat`.

`session` answers with one local model, `server` with one behind an OpenAI-compatible address.
"""
