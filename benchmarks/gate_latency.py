"""Rate at which the gate's comparison of latencies refuses a model against itself, while other processes use the CPU.

    python -m benchmarks.gate_latency --model artifacts/model.onnx --judgements 200 --load 4

Each judgement opens the file twice and compares both as `make promote` does, with the bounds of params.yaml except
`min_latency_ms`, which alone would let a small model pass.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from adaptformer.config.params import load
from adaptformer.evaluation.intervals import wilson
from adaptformer.gate import rules
from adaptformer.prediction.latency import compared_ms
from adaptformer.prediction.predictor import Predictor


def busy() -> None:
    """Keep one core busy until the process is ended."""
    values = np.random.default_rng(0).random((200, 200))
    while True:
        values = np.tanh(values @ values.T / 100)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print how many judgements were refused, and the range of the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=Path("artifacts/model.onnx"))
    parser.add_argument("--judgements", type=int, default=200)
    parser.add_argument(
        "--load", type=int, default=4, help="processes that use the CPU meanwhile (default %(default)s)"
    )
    given = parser.parse_args(arguments)
    bounds = load(Path("params.yaml")).gate.model_copy(update={"min_latency_ms": 0.0})
    others = [multiprocessing.Process(target=busy, daemon=True) for _ in range(given.load)]
    for other in others:
        other.start()
    ratios, refused = [], 0
    try:
        for _ in range(given.judgements):
            one, other_one = (Predictor(given.model, device="cpu", threads=1) for _ in range(2))
            latencies = compared_ms(one, other_one, partial(rules.too_slow, bounds=bounds))
            refused += rules.too_slow(*latencies, bounds=bounds)
            ratios.append(latencies[0] / latencies[1])
    finally:
        for other in others:
            other.terminate()
    rate = wilson(refused, given.judgements)
    print(
        f"{refused} of {given.judgements} judgements refused ({rate.low:.1%} to {rate.high:.1%}); "
        f"ratio {min(ratios):.2f} to {max(ratios):.2f}, median {np.median(ratios):.2f}; {latencies[0]:.2f} ms an image"
    )


if __name__ == "__main__":
    main()
