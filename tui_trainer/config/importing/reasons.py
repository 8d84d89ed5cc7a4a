"""Sentences that several tools share: why a key is not carried over, and the one that Alpaca prompts begin with."""

from __future__ import annotations

ALPACA_SYSTEM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
)
"""The sentence that the prompts of the Alpaca dataset begin with."""

NO_METHOD = "this method is not supported"
NO_STRANGERS_CODE = "it runs a stranger's code; if you trust it, set model.trust_remote_code yourself"
NO_GROWING = "no tokens are added to a tokenizer; name one that has them: model.tokenizer_name_or_path"
GO_ON_WITH_ADAPTER = "to go on with an adapter set model.name_or_path to its folder"
ONE_EVALUATION = "data.eval_split takes one file, one split of the same data, or a share"
OWN_TEMPLATE = "the model's own chat template is used; for another one set data.template to a name or a .jinja file"
