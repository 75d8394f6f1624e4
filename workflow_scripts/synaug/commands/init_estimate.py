"""How long the config of `synaug init` takes: the decisions in it, and an estimate of the minutes."""

from dataclasses import dataclass

# Seconds of one core without a GPU: an optimiser step of the two parts of the small generator, and one of its
# images, all at 32 pixels; a step of a network from scratch, and of the screening classifier if there are no pretrained
# weights, relative to 32 x 32 pixels; the features of an image, relative to 112 x 112 pixels; start and end of the job
# of a network. `constant`: all other jobs. From the runs of benchmarks/own_folders.py on two cores, commit fb7404b: the
# generator took 255 s (clothing, 400 and 600 steps) and 466 s (openclipart, 700 and 1,100), a network of 1,500 steps
# 85 s (clothing), one on features 7 to 8 s (openclipart), and 4,512 images of 32 pixels 133 s (openclipart).
CPU_SECONDS = {
    "autoencoder": 0.24, "denoiser": 0.72, "image": 0.032, "step": 0.053, "screening": 0.15, "features": 0.022,
    "job": 7.0, "constant": 90,
}  # fmt: skip
# The same on a GPU with 24 GB. It has not been measured: a step of the adapter with 8 images of 512 pixels, an image
# of 512 pixels in 20 steps with guidance, a step with 64 images of 224 pixels, and the features of an image, which
# take most of their time to decode it.
GPU_SECONDS = {
    "adaptation": 1.6, "autoencoder": 0.03, "denoiser": 0.03, "image": 0.005, "public_image": 1.2, "step": 0.12,
    "features": 0.001, "job": 6.0, "constant": 90,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The decisions.

    gpu: name of a GPU that is large enough, or None. cores: CPU cores that jobs may use. public_model: whether the
    public model makes the images, after `adaptation_steps` on the training images; otherwise the small generator is
    trained. backbone: None: the small network from scratch. target: images of every class after filling. oversample:
    images generated per image wanted. fills: names; empty: there is one, without a name. recipes: names of the
    candidates, of the portfolio. halving: whether validation images decide which of them are trained with more than one
    seed. find_faults: whether faults in the data are looked for. usable_images: of all splits. synthetic_images: of one
    fill; 0: there is no generator.
    budget: minutes. reasons: of the decisions, one sentence each. given_up: what was given up for the budget.
    """

    gpu: str | None
    cores: int
    public_model: bool
    adaptation_steps: int
    backbone: str | None
    frozen: bool
    image_size: int
    generator_size: int
    autoencoder_steps: int
    denoiser_steps: int
    training_steps: int
    screening_steps: int
    batch_size: int
    seeds: int
    target: int
    oversample: float
    fills: tuple[str, ...]
    recipes: tuple[str, ...]
    halving: bool
    find_faults: bool
    usable_images: int
    training_images: int
    synthetic_images: int
    budget: float
    reasons: tuple[str, ...] = ()
    given_up: tuple[str, ...] = ()

    @property
    def minutes(self) -> dict[str, float]:
        """Part of the run -> estimated minutes."""
        return estimate_minutes(self)

    @property
    def total_minutes(self) -> float:
        """Estimated minutes from the start to the report."""
        return sum(self.minutes.values())


def networks_trained(recipes: int, seeds: int, halving: bool) -> int:
    """Networks of stage 1: of the recipes, and last of the chosen one with every seed. Each is fine-tuned by a job.

    halving: whether after each seed only the better half goes on to the next one, with at least the baseline, and the
    best recipes with and without synthetic images.
    """
    left = trained = recipes
    for _ in range(1, seeds):
        left = min(left, max(3, (left + 1) // 2)) if halving else left
        trained += left
    return trained + seeds


def fault_seconds(images: int, cores: int) -> float:
    """Estimate for the search for faults in so many images: for their features. It uses no GPU."""
    return CPU_SECONDS["features"] * images / min(cores, 2)


def feature_seconds(settings: Settings) -> tuple[float, float]:
    """Estimate for the features of a pretrained network: for the screening, and for the training if it is frozen."""
    seconds, cores = (GPU_SECONDS, 1) if settings.gpu else (CPU_SECONDS, min(settings.cores, 2))
    image = seconds["features"] * (settings.image_size / 112) ** 2
    screening, training = (image * read / cores for read in _images_read(settings))
    return screening, training * settings.frozen


def estimate_minutes(settings: Settings) -> dict[str, float]:
    """Part of the run -> rough estimate of its minutes. Parts that the settings do not have take 0."""
    seconds = GPU_SECONDS if settings.gpu else CPU_SECONDS
    # A GPU has one job at a time. Without one, a network has a core, and a job of another kind has two of them.
    jobs_at_once, cores_of_a_job = (1, 1) if settings.gpu else (settings.cores, min(settings.cores, 2))
    generates = settings.synthetic_images > 0
    generated = settings.synthetic_images * max(1, len(settings.fills)) * settings.oversample

    adaptation, generator, area = 0.0, 0.0, (settings.generator_size / 32) ** 2
    if settings.public_model:
        images = generated * seconds["public_image"]
        adaptation = generates and seconds["adaptation"] * settings.adaptation_steps
    else:
        images = generated * area * seconds["image"]
        steps = seconds["autoencoder"] * settings.autoencoder_steps + seconds["denoiser"] * settings.denoiser_steps
        generator = generates * area * steps

    count = networks_trained(len(settings.recipes), settings.seeds, settings.halving)
    network, features, screening = 2 * seconds["job"], 0.0, 0.0
    if not settings.frozen:
        network += seconds["step"] * settings.training_steps
    if settings.backbone:
        screening, features = feature_seconds(settings)
    else:
        screening = generates * seconds["screening"] * settings.screening_steps * (settings.image_size / 32) ** 2
    # The final network waits for the others, so that two follow one another however many cores there are.
    networks = features + max(count * network / jobs_at_once, 2 * network)
    of_parts = {
        "search for faults": settings.find_faults * fault_seconds(settings.usable_images, settings.cores),
        "adaptation": adaptation,
        "generator": generator / cores_of_a_job,
        "synthetic images": images / cores_of_a_job,
        "screening": screening,
        "networks": networks,
        "the rest": seconds["constant"],
    }
    return {part: value / 60 for part, value in of_parts.items()}


def _images_read(settings: Settings) -> tuple[float, float]:
    """How many images a pretrained network reads for the screening, and a frozen one for the training."""
    generates = settings.synthetic_images > 0
    synthetic = settings.synthetic_images * max(1, len(settings.fills))
    screened = settings.training_images + settings.usable_images + settings.oversample * synthetic
    return screened * generates, settings.usable_images + synthetic
