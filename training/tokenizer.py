"""P-Nano's tokenizer: SentencePiece-style score merges with byte fallback.

The algorithm is llama.cpp's "llama" (SPM) tokenizer: the text is split at special tokens, spaces
become U+2581, characters are merged pair by pair, highest score first, and what is not in the
vocabulary falls back to bytes. `verify_export.py` checks that llama.cpp gives the same ids.
"""

import heapq
import json
import re
from functools import lru_cache
from pathlib import Path

VOCAB_FILE = Path(__file__).with_name("vocab.json")

CONTROL = [
    "<pad>", "<bos>", "<eos>", "<image>", "</image>", "<audio>", "</audio>", "<video>", "</video>",
    "<scratch>", "<tool_result>", "</tool_result>", "<|system|>", "<|user|>", "<|assistant|>",
    "<|end|>", "<|im_start|>", "<|im_end|>",
]
# User-defined tokens are rendered by every client, so that a tool call can be seen in the text.
USER_DEFINED = ["<tool_call>", "</tool_call>"]

# Chains are merged character by character; a later class wins over an earlier one.
JSON_CHAINS = [
    '{"tool":"slope","args":{"x1":',
    *(f'{{"tool":"calculator","args":{{"op":"{op}","a":' for op in ("add", "sub", "mul", "div")),
    '{"ok":true,"result":',
    '{"ok":false,"error":"',
]
PAIR_CHAINS = [',"y1":', ',"x2":', ',"y2":', ',"b":', "}}", '".']
SPACE_CHAINS = [",\u2581", "\u2581("]

TYPE_NORMAL, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_BYTE = 1, 2, 3, 4, 6


def build_vocab(words):
    """List of [text, score, type] rows; `words` are whole words, a leading space where they have one."""
    rows = [["<unk>", 0.0, TYPE_UNKNOWN]]
    rows += [[text, 0.0, TYPE_CONTROL] for text in CONTROL]
    rows += [[text, 0.0, TYPE_USER] for text in USER_DEFINED]
    rows += [[f"<0x{b:02X}>", 0.0, TYPE_BYTE] for b in range(256)]
    seen = {row[0] for row in rows}

    def add(text, score):
        if text not in seen:
            seen.add(text)
            rows.append([text, score, TYPE_NORMAL])

    for char in ["\u2581", "\n", *map(chr, range(33, 127))]:
        add(char, -10000.0)
    chains = [(3, JSON_CHAINS), (2, sorted(w.replace(" ", "\u2581") for w in words))]
    chains += [(1, PAIR_CHAINS), (0, SPACE_CHAINS)]
    for level, texts in chains:
        for text in texts:
            for end in range(2, len(text) + 1):
                add(text[:end], float(level * 1000 - 5000 + end))
    return rows


class Tokenizer:
    """Encodes text to ids and back. `encode` parses special tokens written in the text."""

    def __init__(self, rows=None):
        self.rows = rows if rows is not None else json.loads(VOCAB_FILE.read_text())
        self.ids = {row[0]: i for i, row in enumerate(self.rows)}
        self.scores = [row[1] for row in self.rows]
        self.types = [row[2] for row in self.rows]
        self.normal = {row[0]: i for i, row in enumerate(self.rows) if row[2] == TYPE_NORMAL}
        special = [row[0] for row in self.rows if row[2] in (TYPE_CONTROL, TYPE_USER)]
        special.sort(key=len, reverse=True)
        self.splitter = re.compile("(" + "|".join(map(re.escape, special)) + ")")
        self._word = lru_cache(maxsize=200_000)(self._encode_piece)

    def __len__(self):
        return len(self.rows)

    def encode(self, text):
        """Ids of `text`; special tokens are recognised."""
        out = []
        for piece in self.splitter.split(text):
            if piece == "":
                continue
            if self.splitter.fullmatch(piece):
                out.append(self.ids[piece])
            else:
                out.extend(self._encode_text(piece))
        return out

    def _encode_text(self, text):
        # No token has a space inside except ",▁", so cutting before other spaces changes nothing.
        out = []
        for word in re.split(r"(?<=[^,])(?= )", text):
            out.extend(self._word(word))
        return out

    def _encode_piece(self, text):
        symbols = list(text.replace(" ", "\u2581"))
        prev = list(range(-1, len(symbols) - 1))
        nxt = [*range(1, len(symbols)), -1]
        heap = []

        def push(left, right):
            if left < 0 or right < 0:
                return
            token = self.normal.get(symbols[left] + symbols[right])
            if token is not None:
                size = len(symbols[left]) + len(symbols[right])
                heapq.heappush(heap, (-self.scores[token], left, right, size))

        for i in range(1, len(symbols)):
            push(i - 1, i)
        while heap:
            _, left, right, size = heapq.heappop(heap)
            if not symbols[left] or not symbols[right]:
                continue
            if len(symbols[left]) + len(symbols[right]) != size:
                continue
            symbols[left] += symbols[right]
            symbols[right] = ""
            nxt[left] = nxt[right]
            if nxt[right] >= 0:
                prev[nxt[right]] = left
            push(prev[left], left)
            push(left, nxt[left])
        out = []
        for symbol in filter(None, symbols):
            token = self.normal.get(symbol)
            if token is not None:
                out.append(token)
            else:
                out.extend(self.ids[f"<0x{b:02X}>"] for b in symbol.encode("utf-8"))
        return tuple(out)

    def decode(self, ids):
        """Text of `ids`, special tokens included."""
        data = b""
        for i in ids:
            text, _, kind = self.rows[i]
            if kind == TYPE_BYTE:
                data += bytes([int(text[3:5], 16)])
            elif kind == TYPE_NORMAL:
                data += text.replace("\u2581", " ").encode("utf-8")
            else:
                data += text.encode("utf-8")
        return data.decode("utf-8", errors="replace")


def collect_words(records):
    """Whole words of the generator's sentences (with their leading space), for `build_vocab`."""
    words = set()
    for record in records:
        for segment in [*record["after"], *record["alone"]]:
            text = "".join(part["text"] for part in segment["parts"])
            text = re.sub(r"<tool_result>.*?</tool_result>|<tool_call>.*?</tool_call>", "<s>", text)
            text = re.sub(r'"[^"]*"', '""', text)
            words.update(re.findall(r"(?:(?<=>)|(?<=\n)| )[A-Za-z][a-z]+(?:-[A-Z][a-z]+)?", text))
        words.update(re.findall(r" [a-z]{2,}", record["before"]))
    return {w for w in words if len(w.strip()) > 1}


def main():
    """Rebuild vocab.json from a stream of records on stdin (see README)."""
    import sys

    from data import read_records

    records = [meta for _, _, meta in read_records(sys.stdin.buffer)]
    rows = build_vocab(collect_words(records))
    VOCAB_FILE.write_text("[\n" + ",\n".join(json.dumps(r, ensure_ascii=False) for r in rows) + "\n]\n")
    print(f"{len(rows)} tokens from {len(records)} records")


if __name__ == "__main__":
    main()
