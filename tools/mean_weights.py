"""Averages the features and the gates of two states of the network that were trained from the same start (model soups,
arXiv 2203.05482): the mean is often better than both.

    python tools/mean_weights.py FIRST SECOND OUTPUT.pt [--parts ife,lce,dafi]

FIRST and SECOND are checkpoints or weights files; everything else comes from FIRST. OUTPUT is a checkpoint for `start`
in a config and for `panini export`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from panini.training.config import RestorerConfig
from panini.training.restorer import prior_of, starting_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("output", type=Path)
    parser.add_argument("--parts", default="ife,lce,dafi")
    arguments = parser.parse_args()
    prior = prior_of("")
    first, second = (
        starting_network(RestorerConfig(start=start), prior).state_dict()
        for start in (arguments.first, arguments.second)
    )
    averaged = tuple(f"{part}." for part in arguments.parts.split(","))
    for name, tensor in first.items():
        if name.startswith(averaged) and tensor.is_floating_point():
            tensor.lerp_(second[name], 0.5)
    torch.save(first, arguments.output)


if __name__ == "__main__":
    main()
