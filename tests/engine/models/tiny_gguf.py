"""A GGUF file of a tiny Llama with a byte-level vocabulary, written with llama.cpp's own library."""

from __future__ import annotations

from pathlib import Path

import gguf
import torch
from tokenizers.models import BPE
from transformers import LlamaForCausalLM

from tui_trainer.engine.models.bytes_tokenizer import SPECIAL_TOKENS, bytes_tokenizer

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, model: LlamaForCausalLM) -> Path:
    """Write a model over the vocabulary of `builtin:bytes` and one token more as float32."""
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(_gguf_name(name), _permuted(name, tensor, config).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    tokenizer = bytes_tokenizer()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    assert isinstance(tokenizer.backend_tokenizer.model, BPE)
    writer.add_tokenizer_model("gpt2")
    tokens = [*(token for token, _ in vocabulary), "ab"]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in SPECIAL_TOKENS else normal for token in tokens])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(258)
    writer.add_pad_token_id(256)
    writer.add_chat_template(str(tokenizer.chat_template))


def _gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    parts = stem.split(".", 3)
    if parts[:2] == ["model", "layers"]:
        return f"blk.{parts[2]}.{_NAMES[parts[3]]}.weight"
    return f"{_NAMES[stem]}.weight"


def _permuted(name: str, tensor: torch.Tensor, config: object) -> torch.Tensor:
    """llama.cpp turns the halves of each head of queries and keys into pairs."""
    heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
    attribute = next((value for key, value in heads.items() if key in name), None)
    if attribute is None:
        return tensor.float().contiguous()
    count = getattr(config, attribute)
    rows, columns = tensor.shape
    return tensor.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()
