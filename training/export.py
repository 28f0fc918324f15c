"""Writes a checkpoint as the two GGUF files that llama.cpp runs.

    python export.py --checkpoint RUN/checkpoint.pt --out ../models/p-nano [--type f16|f32]

Decoder: architecture `qwen3` (llama with RMSNorm on queries and keys). Encoder and projector:
projector type `lightonocr` (ViT with 2-D rotary positions, 2x2 patch merger, two-layer MLP).
"""

import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from model import Config
from tokenizer import Tokenizer

NAME, VERSION = "P-Nano", "0.1.0"
TEMPLATE = Path(__file__).with_name("chat_template.jinja")


def load(path):
    """(config, state dict in float32 numpy) of a checkpoint."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    fields = {**saved["config"], "dense": tuple(saved["config"]["dense"])}
    return Config(**fields), {k: v.float().numpy() for k, v in saved["model"].items()}


def add(writer, name, array, kind):
    """Matrices in the chosen type, vectors in float32."""
    wide = array.ndim > 1 and kind == "f16"
    writer.add_tensor(name, np.ascontiguousarray(array.astype(np.float16 if wide else np.float32)))


def describe(writer, what):
    writer.add_name(f"{NAME} {VERSION}")
    writer.add_description(what)
    writer.add_license("MIT")
    writer.add_author("polymind-native contributors")


def add_vocabulary(writer, tok):
    writer.add_tokenizer_model("llama")
    writer.add_token_list([row[0].encode("utf-8") for row in tok.rows])
    writer.add_token_scores(tok.scores)
    writer.add_token_types(tok.types)
    writer.add_add_space_prefix(False)
    writer.add_add_bos_token(False)  # the chat template writes it
    writer.add_add_eos_token(False)
    writer.add_bos_token_id(tok.ids["<bos>"])
    writer.add_eos_token_id(tok.ids["<|end|>"])
    writer.add_eot_token_id(tok.ids["<|end|>"])
    writer.add_pad_token_id(tok.ids["<pad>"])
    writer.add_unk_token_id(tok.ids["<unk>"])
    writer.add_chat_template(TEMPLATE.read_text().rstrip("\n"))


def write_decoder(cfg, state, tok, path, kind):
    writer = gguf.GGUFWriter(path, "qwen3")
    describe(writer, "Small multimodal model trained from scratch on generated data")
    writer.add_context_length(cfg.context)
    writer.add_embedding_length(cfg.dim)
    writer.add_block_count(cfg.layers)
    writer.add_feed_forward_length(cfg.ff)
    writer.add_head_count(cfg.heads)
    writer.add_head_count_kv(cfg.kv_heads)
    writer.add_key_length(cfg.head)
    writer.add_value_length(cfg.head)
    writer.add_rope_freq_base(cfg.theta)
    writer.add_layer_norm_rms_eps(cfg.eps)
    writer.add_vocab_size(cfg.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.ALL_F32)
    add_vocabulary(writer, tok)
    for name in ("token_embd", "output_norm", "output"):
        add(writer, f"{name}.weight", state[f"{name}.weight"], kind)
    parts = {
        "attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "out": "attn_output",
        "q_norm": "attn_q_norm", "k_norm": "attn_k_norm", "ffn_norm": "ffn_norm",
        "ffn.gate": "ffn_gate", "ffn.up": "ffn_up", "ffn.down": "ffn_down",
    }
    for i in range(cfg.layers):
        for ours, theirs in parts.items():
            add(writer, f"blk.{i}.{theirs}.weight", state[f"blk.{i}.{ours}.weight"], kind)
    finish(writer)


def write_encoder(cfg, state, path, kind):
    writer = gguf.GGUFWriter(path, "clip")
    describe(writer, "Vision encoder and projector of P-Nano")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "lightonocr")
    writer.add_bool("clip.use_silu", True)
    for key, value in {
        "image_size": cfg.patch * cfg.grid, "patch_size": cfg.patch, "embedding_length": cfg.v_dim,
        "feed_forward_length": cfg.v_ff, "block_count": cfg.v_layers, "projection_dim": cfg.dim,
        "attention.head_count": cfg.v_heads, "spatial_merge_size": 2,
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", cfg.eps)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.ALL_F32)

    def get(name):
        return state[f"vision.{name}"]

    kernel = get("patch_embd.weight").reshape(cfg.v_dim, 3, cfg.patch, cfg.patch)
    add(writer, "v.patch_embd.weight", kernel, kind)
    add(writer, "v.patch_embd.bias", get("patch_embd.bias"), kind)
    add(writer, "v.pre_ln.weight", get("pre_ln.weight"), kind)
    parts = {
        "ln1": "ln1", "ln2": "ln2", "q": "attn_q", "k": "attn_k", "v": "attn_v", "out": "attn_out",
        "q_norm": "attn_q_norm", "k_norm": "attn_k_norm",
        "ffn.gate": "ffn_gate", "ffn.up": "ffn_up", "ffn.down": "ffn_down",
    }
    for i in range(cfg.v_layers):
        for ours, theirs in parts.items():
            add(writer, f"v.blk.{i}.{theirs}.weight", get(f"blk.{i}.{ours}.weight"), kind)
    add(writer, "mm.input_norm.weight", get("input_norm.weight"), kind)
    add(writer, "mm.patch_merger.weight", get("patch_merger.weight"), kind)
    for i in (1, 2):
        add(writer, f"mm.{i}.weight", get(f"mm{i}.weight"), kind)
        add(writer, f"mm.{i}.bias", get(f"mm{i}.bias"), kind)
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--type", choices=["f16", "f32"], default="f16")
    args = p.parse_args()
    cfg, state = load(args.checkpoint)
    args.out.mkdir(parents=True, exist_ok=True)
    files = {"model": args.out / "p-nano.gguf", "mmproj": args.out / "p-nano-mmproj.gguf"}
    write_decoder(cfg, state, Tokenizer(), files["model"], args.type)
    write_encoder(cfg, state, files["mmproj"], args.type)
    manifest = {"name": NAME, "version": VERSION, "license": "MIT"}
    for key, path in files.items():
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest[key] = {"file": path.name, "bytes": path.stat().st_size, "sha256": digest}
    (args.out / "p-nano.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(json.dumps(manifest, indent=2))


if __name__ == "__main__":
    main()
