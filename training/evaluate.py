"""Held-out figures of an export, through llama.cpp's own server with the stock projector.

    python evaluate.py --model ../models/p-nano --server llama-server --count 500 [--seed 0] --json OUT

Greedy decoding. A tool call is answered as the engine does it: the result goes back as one line of
JSON and generation goes on in the same turn.
"""

import argparse
import base64
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from data import ROOT

MARKER = "<__media__>"
CALL = re.compile(r"<tool_call>(.*?)</tool_call>", re.S)


def items(count, seed, task=""):
    """Evaluation items of the generator (see items.ts)."""
    bundled = os.environ.get("NANO_ITEMS")
    command = ["node", bundled] if bundled else ["npx", "tsx", str(ROOT / "training" / "items.ts")]
    command += ["--count", str(count), "--seed", str(seed)] + (["--task", task] if task else [])
    out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    return [json.loads(line) for line in out.splitlines()]


def picture(item):
    """The item's image as a PIL image."""
    return Image.frombytes("RGB", (128, 128), base64.b64decode(item["rgb"]))


def png(item):
    buffer = io.BytesIO()
    picture(item).save(buffer, "PNG")
    return buffer.getvalue()


def prompt(item):
    """The item as the chat template renders it, with the media marker."""
    system = f"<|system|>tools: {', '.join(item['tools'])}<|end|>" if item["tools"] else ""
    media = MARKER if "rgb" in item else ""
    first = item["order"] == "image-first"
    body = media + item["question"] if first else item["question"] + media
    return f"<bos>{system}<|user|>{body}<|end|><|assistant|>"


def round2(value):
    """Two decimals, half away from zero, as lib/eval/nano/tools.ts does it."""
    sign = -1 if value < 0 else 1
    rounded = sign * int(abs(value) * 100 + 1e-9 + 0.5) / 100
    return int(rounded) if rounded == int(rounded) else rounded


def run_tool(call):
    """The tool's result; raises for wrong arguments."""
    a = call["args"]
    if call["tool"] == "slope":
        return round2((a["y2"] - a["y1"]) / (a["x2"] - a["x1"]))
    if call["tool"] == "calculator":
        x, y = a["a"], a["b"]
        work = {"add": lambda: x + y, "sub": lambda: x - y, "mul": lambda: x * y, "div": lambda: x / y}
        return round2(work[a["op"]]())
    raise ValueError(f"no tool {call['tool']}")


class Server:
    """llama-server on a free port, one instance for a whole evaluation."""

    def __init__(self, binary, model, threads=1, parallel=1):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        command = [
            binary, "-m", str(model / "p-nano.gguf"), "--mmproj", str(model / "p-nano-mmproj.gguf"),
            "--port", str(self.port), "-t", str(threads), "-np", str(parallel), "-c", str(1024 * parallel),
        ]
        env = {**os.environ, "LLAMA_MEDIA_MARKER": MARKER}
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            if self.process.poll() is not None:
                raise RuntimeError(f"{binary} ended with code {self.process.returncode}")
            try:
                self.call("/health")
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the server did not become ready")

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.loads(response.read())

    def complete(self, text, image=None, limit=120):
        """Greedy continuation of `text` up to the end of the turn."""
        what = {"prompt_string": text, "multimodal_data": [base64.b64encode(image).decode()]} if image else text
        body = {"prompt": what, "temperature": 0, "n_predict": limit, "top_k": 1, "cache_prompt": False}
        return self.call("/completion", body)["content"]

    def close(self):
        self.process.terminate()
        self.process.wait()


def answer(server, item, rounds=3):
    """(words of the whole answer, list of calls as text); tools run between the rounds."""
    text, image = prompt(item), png(item) if "rgb" in item else None
    words, calls = "", []
    for _ in range(rounds):
        new = server.complete(text, image)
        found = CALL.search(new)
        words += CALL.sub("", new)
        if not found:
            break
        calls.append(found.group(1))
        try:
            result = {"ok": True, "result": run_tool(json.loads(found.group(1)))}
        except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
            result = {"ok": False, "error": str(error)[:40]}
        line = json.dumps(result, separators=(",", ":"))
        text += new[: found.end()] + f"<tool_result>{line}</tool_result>"
    return words, calls


def last_number(text):
    found = re.findall(r"-?\d+(?:\.\d+)?", text)
    return float(found[-1]) if found else None


def valid_call(text, allowed):
    try:
        call = json.loads(text)
    except ValueError:
        return False
    return call.get("tool") in allowed and isinstance(call.get("args"), dict)


def grade(item, words, calls):
    """Named outcomes of one item; `main` is the figure the targets speak of."""
    out = {"exact": words == item["answer"]}
    task = item["task"]
    if task in ("caption", "ocr"):
        out["main"] = out["exact"]
    if task == "chart_value":
        got, want = last_number(words), item["value"]
        out["main"] = got is not None and abs(got - want) <= 0.05 * abs(want)
    if task == "slope":
        got = last_number(words)
        out["main"] = bool(calls) and got is not None and abs(got - item["value"]) < 1e-6
    if task == "tool_call":
        out["main"] = len(calls) == 1 and valid_call(calls[0], item["tools"])
        out["call_exact"] = out["main"] and json.loads(calls[0]) == item["call"]
    return out


def summarise(results):
    """Shares by task and by group of a list of (item, words, calls, grades)."""
    table = {}
    for item, _, _, grades in results:
        entry = table.setdefault(item["task"], {"n": 0, "groups": defaultdict(lambda: [0, 0])})
        entry["n"] += 1
        for key, value in grades.items():
            entry[key] = entry.get(key, 0) + value
        group = entry["groups"][item["group"]]
        group[0] += grades["main"]
        group[1] += 1
    for entry in table.values():
        for key in ("main", "exact", "call_exact"):
            if key in entry:
                entry[key] = round(entry[key] / entry["n"], 4)
        entry["groups"] = {k: f"{a}/{b}" for k, (a, b) in sorted(entry["groups"].items())}
    return table


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--server", default="llama-server")
    p.add_argument("--count", type=int, default=500)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--task", default="")
    p.add_argument("--parallel", type=int, default=1)
    p.add_argument("--json", type=Path)
    p.add_argument("--errors", type=int, default=0, help="wrong answers to print for each task")
    args = p.parse_args()
    todo = items(args.count, args.seed, args.task)
    server = Server(args.server, args.model, parallel=args.parallel)
    try:
        with ThreadPoolExecutor(args.parallel) as pool:
            answers = list(pool.map(lambda item: answer(server, item), todo))
    finally:
        server.close()
    results = [(item, *said, grade(item, *said)) for item, said in zip(todo, answers)]
    table = summarise(results)
    print(json.dumps(table, indent=2))
    shown = defaultdict(int)
    for item, words, calls, grades in results:
        if not grades["main"] and shown[item["task"]] < args.errors:
            shown[item["task"]] += 1
            print(item["task"], item["seed"], item["group"], "| want", item["answer"], "| got", words, calls, file=sys.stderr)
    if args.json:
        args.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
