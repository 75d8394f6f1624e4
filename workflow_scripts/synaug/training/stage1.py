"""Stage 1: train a network on real and synthetic images: the whole of it, or what is not frozen."""

import dataclasses
import logging

import pandas as pd
import torch

from synaug.config import Stage1
from synaug.networks.arithmetic import gpu_arithmetic
from synaug.networks.classifier import Classifier, images_at_once
from synaug.networks.freezing import freeze
from synaug.networks.lora import add_lora, merge_lora
from synaug.runtime.errors import UserError
from synaug.training.checkpoint import Checkpoint
from synaug.training.data import TrainingSet
from synaug.training.label_mass import image_weights, phase_at, training_phases, without_impossible_phase
from synaug.training.loop import training_loop
from synaug.training.losses import GroupDROLoss
from synaug.training.mixing import mix
from synaug.training.optimizer import make_optimizer
from synaug.training.parallel import Process
from synaug.training.transfer import to_device

log = logging.getLogger(__name__)
WARM_UP = 0.1  # share of the steps


def train_stage1(
    data: TrainingSet,
    classes: list[str],
    settings: Stage1,
    seed: int,
    checkpoint: Checkpoint | None = None,
    process: Process | None = None,
) -> tuple[Classifier, pd.DataFrame]:
    """Train a network. Returns it, and rows of the manifest `history`.

    data: with `freeze: backbone` the features of the images; else the images. process: one of several processes that
    train the network together, and all return the same one; None: there is only one. The same seed, device, number of
    devices and number of threads give the same network, whether it was interrupted or not; on a GPU only with
    `deterministic`, otherwise the last bits of sums differ from run to run, and the networks with them.
    Raises UserError if a class has no image, if there are fewer than two images per device, if the loss is not finite,
    or if sync_batch_norm has no GPU.
    """
    if settings.sync_batch_norm and data.labels.device.type != "cuda":  # torch.nn.SyncBatchNorm has no code for CPUs
        raise UserError(
            f"sync_batch_norm: true needs NVIDIA GPUs, and this network is trained on {data.labels.device.type}",
            advice="set sync_batch_norm: false",
        )
    if process and process.world_size > 1 and len(data.labels) < 2 * process.world_size:
        raise UserError(
            f"devices: {process.world_size} devices cannot share {len(data.labels)} training images",
            advice="set devices to 1",
        )
    if missing := set(range(len(classes))) - set(data.labels.unique().tolist()):
        raise UserError(
            f"class {classes[min(missing)]!r} has no usable training image",
            advice="look at real.parquet and balanced.parquet",
        )
    possible = without_impossible_phase(data, settings)
    if possible.synthetic_first != settings.synthetic_first:
        log.warning(
            "synthetic_first: %d synthetic and %d real images are too few for steps of one kind; all steps use both",
            data.synthetic.sum(),
            (~data.synthetic).sum(),
        )
    settings = possible
    if settings.jtt:
        data = upweight_errors(data, classes, settings, seed, process)
    device = data.images.device
    process = process or Process(str(device))
    rng = process.random_generator(seed)
    torch.manual_seed(seed)  # for the initial weights, which are the same in every process
    channels, size, _ = data.image_shape or data.images.shape[1:]
    model = Classifier(settings.backbone, settings.width, classes, size, channels, settings.head)
    if settings.pretrained:
        model.load_pretrained(settings.pretrained)
    else:
        model.set_normalisation(data.images_for_statistics())
    if settings.lora:
        add_lora(model, settings.lora.rank)
    if settings.sync_batch_norm:
        from timm.layers import convert_sync_batchnorm  # that of torch would lose the activations in layers of timm

        model = convert_sync_batchnorm(model)
    model.to(device, memory_format=torch.channels_last).train()
    freeze(model, settings.freeze)
    network = process.wrap(model)
    torch.manual_seed(seed + process.rank)  # for dropout and RandAugment, which differ between the processes

    phases = training_phases(data, settings, len(classes))
    weight_of_image = image_weights(data, settings)
    synthetic = data.synthetic.cpu()
    group_dro = GroupDROLoss(len(data.cell_names), settings.group_dro, process) if settings.group_dro else None

    def compute_loss(positions: torch.Tensor, step: int) -> torch.Tensor:
        """The mean over the processes is the loss of the whole batch, because their gradients are averaged, too."""
        phase = phase_at(phases, step)
        positions = process.part_of(positions)
        images, on_device = data.augmented(positions, settings, rng), to_device(positions, device)
        labels = data.labels[on_device]
        weights = weight_of_image[on_device] * phase.weight_of_class[labels]
        if settings.mixup or settings.cutmix:
            images, partners, share = mix(images, synthetic[positions], settings.mixup, settings.cutmix, rng)
            logits = network(images).float()
            own_weights, partner_weights = share * weights, (1 - share) * weights[partners]
            own_losses = own_weights * phase.loss_per_image(logits, labels)
            partner_losses = partner_weights * phase.loss_per_image(logits, labels[partners])
            return (own_losses + partner_losses).sum() / process.mean((own_weights + partner_weights).sum())
        losses = phase.loss_per_image(network(images).float(), labels)
        if group_dro:
            if step == phase.first_step:
                group_dro.begin_anew(data.cells, phase.drawn)
            return group_dro(losses, data.cells[on_device], weights)
        return (weights * losses).sum() / process.mean(weights.sum())

    parameters = trained_parameters(model, settings.backbone_rate)
    with gpu_arithmetic(settings.precision, fixed_shapes=True, deterministic=settings.deterministic):
        history = training_loop(
            model,
            make_optimizer(parameters, settings.optimizer, settings.learning_rate, settings.weight_decay),
            data.make_sampler(settings, settings.crop_area, seed, rng, process),
            compute_loss,
            rng,
            steps=settings.steps,
            warm_up=WARM_UP,
            precision=settings.precision,
            ema=settings.ema,
            checkpoint=checkpoint,
            loss_state=group_dro.group_weights if group_dro else None,
            process=process,
        )
    process.copy_buffers_of_first(model)
    if settings.lora:
        merge_lora(model)
    model.eval()
    return model, history


def trained_parameters(model: Classifier, backbone_rate: float) -> list[dict]:
    """Groups of parameters that are not frozen, for `make_optimizer`: of the body with this factor, and of the head."""
    parts = [(model.body, backbone_rate), (model.head, 1.0)]
    groups = [([p for p in part.parameters() if p.requires_grad], factor) for part, factor in parts]
    return [{"params": parameters, "factor": factor} for parameters, factor in groups if parameters]


def upweight_errors(
    data: TrainingSet, classes: list[str], settings: Stage1, seed: int, process: Process | None
) -> TrainingSet:
    """JTT (Liu et al. 2021): `data` with a higher weight for the images that a first, short training gets wrong."""
    first_settings = settings.model_copy(update={"steps": settings.jtt.steps, "jtt": None})
    model, _ = train_stage1(data, classes, first_settings, seed, None, process)
    wrong = torch.empty(len(data), dtype=torch.bool, device=data.labels.device)
    with torch.inference_mode(), gpu_arithmetic(settings.precision, deterministic=settings.deterministic):
        for positions in torch.arange(len(data)).split(images_at_once(data.images.shape)):
            wrong[positions] = model(data.images[positions]).argmax(1) != data.labels[positions]
    log.info("the first network gets %d of %d images wrong", int(wrong.sum()), len(data))
    return dataclasses.replace(data, weights=torch.where(wrong, settings.jtt.weight, 1.0) * data.weights)
