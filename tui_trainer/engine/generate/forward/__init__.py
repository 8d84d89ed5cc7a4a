"""From tokens to logits: the library's own forward pass, which every model has, and a lean one for the Llama family.

`choose` decides which of the two a model gets; `runner` works with either through `interface`.
"""
