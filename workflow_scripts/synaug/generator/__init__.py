"""Training a small text-to-image model of one's own, from scratch, on labelled images."""

from synaug.generator.fit import train_generator

__all__ = ["train_generator"]
