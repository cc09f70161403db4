"""A sweep on CIFAR-10 at 16x16 pixels: each is the mean of 2x2.

Takes the flags of `experiments.sweep`. The rules of `--hic_rewrite_residue`, ideal
devices and FP32, width 1, four epochs, two seeds, without converters:

    usual="--dataset=cifar10 --depth=8 --epochs=4 --seeds=2"
    rules="--grid=hic_rewrite_residue=dropped,kept,chance"
    run="python experiments/results/rewrite_residue/cifar10_16x16.py"
    $run $usual --workdir=runs/rules16 --algorithms=hic --noconverters $rules
    $run $usual --workdir=runs/ideal16 --algorithms=hic --noconverters --preset=ideal
    $run $usual --workdir=runs/fp32_16 --algorithms=fp32
"""

import dataclasses
import runpy

import numpy as np

from hic_jax import data

load = data.load


def halved(images):
    """uint8 images at half their height and width."""
    n, height, width, channels = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2, channels)
    return np.round(blocks.mean(axis=(2, 4), dtype=np.float32)).astype(np.uint8)


def load_halved(*args, **kwargs):
    """As `hic_jax.data.load`, with images of half the size."""
    full = load(*args, **kwargs)
    return dataclasses.replace(
        full,
        train_images=halved(full.train_images),
        test_images=halved(full.test_images),
    )


if __name__ == "__main__":
    data.load = load_halved
    runpy.run_module("experiments.sweep", run_name="__main__")
