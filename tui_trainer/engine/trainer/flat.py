"""Batches without padding: all sequences of a batch in one row, each attending only to itself.

Exact, and two to three times faster than padded batches of uneven length: nothing is computed for padding, attention
needs no mask, and logits are made only where a label asks for them. `is_exact` decides whether a model may be trained
so; where it may not, the padded collator of `engine.data` is used. Called by `engine.trainer.trainer`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from tui_trainer.engine.data.example import IGNORED
from tui_trainer.engine.data.packing import joined_weights

SPLIT_SDPA = "split_sdpa"
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference of a logit, as a share of the largest logit."""


class FlatCollator:
    """Puts the sequences of several rows after one another.

    A row holds `input_ids` and `labels`, and `position_ids` where it is packed from several examples: each position 0
    begins a sequence. The result holds tensors of shape (1, num_tokens) - `input_ids`, `labels`, `position_ids`,
    `attention_mask` (all ones) -, the indices `target_positions` of the tokens whose successor has a label, and the
    list `sequence_lengths`; where a row has `loss_weights`, `target_weights` too, one weight a target. The first label
    of a sequence is ignored: nothing precedes it.
    """

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The batch of `rows`."""
        parts = [part for row in rows for part in _sequences(row)]
        lengths = [len(ids) for ids, _ in parts]
        input_ids = np.concatenate([ids for ids, _ in parts])
        labels = np.concatenate([labels for _, labels in parts])
        starts = np.cumsum([0, *lengths[:-1]])
        labels[starts] = IGNORED
        position_ids = np.arange(len(input_ids)) - np.repeat(starts, lengths)
        targets = np.flatnonzero(labels[1:] != IGNORED)
        weights = joined_weights(rows)
        return {
            **({} if weights is None else {"target_weights": torch.from_numpy(weights[targets + 1])}),
            "input_ids": torch.from_numpy(input_ids)[None],
            "labels": torch.from_numpy(labels)[None],
            "position_ids": torch.from_numpy(position_ids)[None],
            "attention_mask": torch.ones((1, len(input_ids)), dtype=torch.long),
            "target_positions": torch.from_numpy(targets),
            "sequence_lengths": lengths,
        }


def _sequences(row: dict[str, Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids and labels of each sequence in a row."""
    input_ids = np.asarray(row["input_ids"], dtype=np.int64)
    labels = np.array(row["labels"], dtype=np.int64)
    positions = row.get("position_ids")
    borders = np.flatnonzero(np.asarray(positions)[1:] == 0) + 1 if positions is not None else ()
    edges = [0, *borders, len(input_ids)]
    for start, stop in pairwise(edges):
        yield input_ids[start:stop], labels[start:stop]


def split_sdpa(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sequence_lengths: list[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """One causal attention call a sequence, in place of a mask of num_tokens x num_tokens.

    Args:
        module: the attention layer.
        query: shape (1, num_heads, num_tokens, head_dim).
        key: the same with num_key_value_heads.
        value: as `key`.
        attention_mask: used only without `sequence_lengths`, as when text is generated.
        dropout: share of attention weights left out.
        scaling: factor on the scores.
        sequence_lengths: tokens of each sequence, num_tokens in all; None: an ordinary padded batch.
        kwargs: handed on to the ordinary attention.

    Returns:
        The mixed values, shape (1, num_tokens, num_heads, head_dim), and no attention weights.
    """
    if sequence_lengths is None:
        mixed, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return mixed, None
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    parts = zip(*(torch.split(part, sequence_lengths, dim=2) for part in (query, key, value)), strict=True)
    attended = [
        functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling, is_causal=True)
        for q, k, v in parts
    ]
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(SPLIT_SDPA, split_sdpa)
AttentionMaskInterface.register(SPLIT_SDPA, sdpa_mask)


def why_not_flat(model: PreTrainedModel, max_length: int) -> str:
    """What in a model's configuration forbids flat batches; empty if nothing does.

    Args:
        model: the causal language model itself, without an adapter around it.
        max_length: longest sequence, in tokens.
    """
    config = model.config.get_text_config()
    parameters = inspect.signature(model.forward).parameters
    if "logits_to_keep" not in parameters or "position_ids" not in parameters:
        return "the model computes logits for all positions"
    if reason := own_loss(model):
        return reason
    if config._attn_implementation not in ("sdpa", SPLIT_SDPA):
        return f"attention is computed by {config._attn_implementation}"
    window = getattr(config, "sliding_window", None) or getattr(config, "attention_chunk_size", None)
    if window and window < max_length:
        return f"attention sees only {window} tokens back"
    return ""


def own_loss(model: PreTrainedModel) -> str:
    """What makes the loss of a model other than the mean over the labels; empty if nothing does."""
    if LOSS_MAPPING.get(getattr(model, "loss_type", None) or "") is not ForCausalLMLoss:
        return "the model has a loss of its own"
    if getattr(model.config.get_text_config(), "output_router_logits", False):
        return "the loss has a term for the experts"
    return ""


@torch.no_grad()
def is_exact(model: PreTrainedModel, device: torch.device, *, split: bool = True) -> bool:
    """Whether two sequences in one row give the logits that each gives alone, measured on the model itself.

    Catches what no configuration tells: layers that carry a state along the row, positions that are not handed down.

    Args:
        model: the causal language model itself, without an adapter around it.
        device: where it lies.
        split: measure with `split_sdpa`, which the model keeps if the answer is yes; else with its own attention,
            which finds the borders by `position_ids`.
    """
    before = model.config._attn_implementation
    was_training = model.training
    model.train(False)
    generator = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    rows = [torch.randint(vocabulary, (length,), generator=generator).tolist() for length in (7, 11)]
    batch = FlatCollator()([{"input_ids": row, "labels": row} for row in rows])
    names = ("input_ids", "position_ids", "attention_mask")[: 3 if split else 2]
    inputs = {name: batch[name].to(device) for name in names}
    alone = [model(input_ids=torch.tensor([row], device=device), use_cache=False).logits[0] for row in rows]
    expected = torch.cat(alone).float()
    try:
        if split:
            model.set_attn_implementation(SPLIT_SDPA)
            inputs["sequence_lengths"] = batch["sequence_lengths"]
        together = model(**inputs, use_cache=False).logits[0].float()
    except (TypeError, ValueError, RuntimeError):
        together = torch.full_like(expected, torch.inf)
    tolerance = _TOLERANCE[alone[0].dtype] * expected.abs().max()
    is_same = bool((together - expected).abs().max() <= tolerance)
    if split and not is_same:
        model.set_attn_implementation(before)
    model.train(was_training)
    return is_same
