"""The configuration: one pydantic model per block of `config.yaml`.

Threads, GPUs and folders are not part of it; they are set on the command line and in profiles.
"""

from synaug.config.adaptation import Adaptation
from synaug.config.balance import Balance
from synaug.config.base import Block
from synaug.config.dataset import Dataset, Faults
from synaug.config.evaluation import Evaluation
from synaug.config.experiment import Config, load_config
from synaug.config.files import check_config_file, read_config_file
from synaug.config.generation import Adapter, Generation
from synaug.config.generator import Generator
from synaug.config.imbalance import Imbalance
from synaug.config.prompts import Prompts
from synaug.config.screening import (
    SafetyClassifier,
    Screening,
    ScreeningClassifier,
    SimilarityThresholds,
    TextImageModel,
)
from synaug.config.training import (
    EMBEDDED_BACKBONE,
    JTT,
    CutMix,
    Fill,
    Loss,
    Mixup,
    RandAugment,
    Recipe,
    Stage1,
    Stage2,
)

__all__ = [
    "EMBEDDED_BACKBONE", "JTT", "Adaptation", "Adapter", "Balance", "Block", "Config", "CutMix", "Dataset",
    "Evaluation", "Faults", "Fill", "Generation", "Generator", "Imbalance", "Loss", "Mixup", "Prompts", "RandAugment",
    "Recipe", "SafetyClassifier", "Screening",
    "ScreeningClassifier", "SimilarityThresholds", "Stage1", "Stage2", "TextImageModel",
    "check_config_file", "load_config", "read_config_file",
]  # fmt: skip
