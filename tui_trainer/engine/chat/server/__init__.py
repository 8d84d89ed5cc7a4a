"""Models behind an OpenAI-compatible server: vLLM, SGLang, llama-server, ollama, and others that speak the same.

`address` reads what the user types, `http` talks, `dialect` translates knobs, `session` answers like a local session.
Loads neither torch nor transformers.
"""
