"""Small checks of the recipe: `python -m unittest test_recipe` in this folder."""

import unittest

import numpy as np
import torch

from data import ALONE, IMAGE_TOKENS, Packer, fetch
from evaluate import round2
from model import Config, Nano, block_mask
from muon import orthogonalise
from tokenizer import Tokenizer


def records(count, start=1, seed=5):
    return fetch(seed, start, 1, count)


class TokenizerTest(unittest.TestCase):
    def setUp(self):
        self.tok = Tokenizer()

    def test_round_trip_and_cutting_at_spaces(self):
        for text in ["A red circle, 10 (3, 4)", "  two  spaces\n", "Zürich 😀 ▁", '{"tool":"slope","args":{"x1":1']:
            ids = self.tok.encode(text)
            self.assertEqual(self.tok.decode(ids), text.replace("▁", " "))
            self.assertEqual(ids, list(self.tok._encode_piece(text)))

    def test_special_tokens_are_single(self):
        for text in ["<bos>", "<tool_call>", "</tool_call>", "<|end|>", "<image>", "<scratch>"]:
            self.assertEqual(len(self.tok.encode(text)), 1)

    def test_digits_are_single_tokens(self):
        self.assertEqual(len(self.tok.encode("1234567890")), 10)


class PackingTest(unittest.TestCase):
    def test_stream_is_reproducible_and_resumable(self):
        whole, tail = records(6, start=1), records(3, start=4)
        for a, b in zip(whole[3:], tail):
            np.testing.assert_array_equal(a[0], b[0])
            self.assertEqual(a[2], b[2])

    def test_targets_follow_the_text_and_a_call_ends_the_turn(self):
        tok = Tokenizer()
        packer = Packer(tok, 1, 104, 60)
        parts = [
            {"text": "Q<|end|><|assistant|>", "loss": False},
            {"text": "<tool_call>}}</tool_call>", "loss": True},
            {"text": "<tool_result>5</tool_result>", "loss": False},
            {"text": "Yes.<|end|>", "loss": True},
        ]
        ids, targets = packer.encode_parts(parts)
        at = ids.index(tok.ids["</tool_call>"])
        self.assertEqual(targets[at], tok.ids["<|end|>"])
        self.assertEqual(targets[at + 1], -1)
        self.assertEqual(targets[ids.index(tok.ids["<|assistant|>"])], tok.ids["<tool_call>"])

    def test_mask_separates_dialogs(self):
        seg = torch.tensor([[0, 0, 0, 1, 1, 2, ALONE, ALONE, -1]])
        pos = torch.tensor([[0, 1, 2, 3, 4, 3, 0, 1, 0]])
        mask = block_mask(seg, pos)[0, 0]
        self.assertEqual(mask[4].tolist(), [True, True, True, True, True, False, False, False, False])
        self.assertEqual(mask[5].tolist(), [True, True, True, False, False, True, False, False, False])
        self.assertEqual(mask[7].tolist(), [False] * 6 + [True, True, False])

    def test_packed_row_equals_separate_dialogs(self):
        torch.manual_seed(0)
        tok = Tokenizer()
        packer = Packer(tok, 1, 160, 80)
        model = Nano(Config(vocab=len(tok)))
        for p in model.parameters():
            if p.ndim == 2:
                torch.nn.init.normal_(p, std=0.05)
        pixels, dense, meta = next(r for r in records(40) if len(r[2]["after"]) > 2)

        def run(after):
            batch, _ = packer.collate([(pixels, dense, {**meta, "after": after, "alone": []})])
            tensors = [torch.from_numpy(batch[k]) for k in ("pixels", "ids", "seg", "pos", "where")]
            tensors[1], tensors[4] = tensors[1].long(), tensors[4].long()
            used = int((batch["target"] >= 0).sum())
            with torch.no_grad():
                return model(*tensors)[0][:used]

        together = run(meta["after"][:2])
        apart = torch.cat([run([segment]) for segment in meta["after"][:2]])
        torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)

    def test_row_layout(self):
        packer = Packer(Tokenizer(), 2, 104, 96)
        batch, rows = packer.collate(records(2))
        self.assertEqual(batch["seg"].shape, (2, IMAGE_TOKENS + 104))
        self.assertEqual(len(rows), 2)
        self.assertTrue((batch["target"][: len(rows)] >= 0).all())


class NumbersTest(unittest.TestCase):
    def test_round2_is_half_away_from_zero(self):
        self.assertEqual([round2(x) for x in (0.125, -0.125, 2.0, 10 / 3)], [0.13, -0.13, 2, 3.33])

    def test_orthogonalise(self):
        torch.manual_seed(0)
        values = torch.linalg.svdvals(orthogonalise(torch.randn(2, 16, 40)).float())
        self.assertTrue(bool(((values > 0.5) & (values < 1.4)).all()))


if __name__ == "__main__":
    unittest.main()
