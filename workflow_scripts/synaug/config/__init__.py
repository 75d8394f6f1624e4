"""The configuration: pydantic models, one per block of `config.yaml`, and the JSON schema made from them.

Nothing here is about threads, GPUs or folders: those belong to the command line and to profiles.
"""

from synaug.config.balance import Balance
from synaug.config.base import Model
from synaug.config.dataset import Dataset
from synaug.config.evaluation import Evaluation
from synaug.config.experiment import Config, load_config
from synaug.config.generation import Adapter, Generation
from synaug.config.generator import GeneratorTraining
from synaug.config.imbalance import Imbalance
from synaug.config.prompts import Prompts
from synaug.config.screening import Nearness, Safety, Screener, Screening, TextImage
from synaug.config.training import JTT, CutMix, Loss, Mixup, RandAugment, Recipe, Stage1, Stage2

__all__ = [
    "JTT", "Adapter", "Balance", "Config", "CutMix", "Dataset", "Evaluation", "Generation", "GeneratorTraining",
    "Imbalance", "Loss", "Mixup", "Model", "Nearness", "Prompts", "RandAugment", "Recipe", "Safety",
    "Screener", "Screening", "Stage1", "Stage2", "TextImage", "load_config",
]  # fmt: skip
