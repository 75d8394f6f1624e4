"""Step training: the whole network on the images of a recipe (stage 1), then its last layer on a few real images (stage 2).

Inputs: <results>/balanced.parquet, <results>/real.parquet (evaluation images), and the images they point at.
With a frozen backbone, the features of all images are computed once, into <results>/backbone_features/<network>.parquet,
and only the last layer is trained on them. Otherwise large images are first copied into one file,
<results>/packed/images.bin, and small ones are decoded once, into <results>/pixels/, which is no output of a rule: it may be
deleted at any time. extract_features, fit_screener and the probes use it too.
Outputs: <results>/{train,finetune}/<recipe>/<seed>/: model.safetensors, history.parquet, predictions.parquet.

The manifests are `ancient`, and the hash of the rows that a recipe uses is a parameter: a manifest that is made again with
the same images trains nothing again.
"""

from synaug.images.codec import LARGE
from synaug.submissions import short_training_minutes

STAGE1 = stage1_owners(CONFIG)
LIBRARY_NETWORKS = {recipe.stage1.backbone for recipe in CONFIG.recipes.values() if "/" in recipe.stage1.backbone}

if LIBRARY_NETWORKS and workflow.is_main_process:  # the libraries take seconds to import
    from synaug.networks.pretrained import check_backbone

    try:
        for backbone in sorted(LIBRARY_NETWORKS):
            check_backbone(backbone)
    except UserError as error:
        sys.exit(f"{ERROR_PREFIX}{error}")

# Recipe -> minutes that are enough for each of its networks on a cluster, if they are small.
SHORT_MINUTES = {
    name: short_training_minutes(CONFIG.recipes[owner].stage1, CONFIG.dataset.image_size)
    for name, owner in STAGE1.items()
}
# The same for large networks, which have a submission of their own. A job that ran out of time resumes with twice as much.
LONG_MINUTES = {"train": 480, "finetune": 120}

if FEATURES:

    # A checkpoint, as pack_images: its output is `ancient` to the networks, so they are compared with what they were trained on
    # once it has ended.
    checkpoint extract_features:
        input:
            balanced=balanced_manifest,
            pretrained=lambda wildcards: weights_of(recipe_with(wildcards.network)),
            real=ancient("<results>/real.parquet"),
            images=all_images,
        output:
            features="<results>/backbone_features/{network}.parquet",
        log:
            "<logs>/extract_features-{network}.log",
        benchmark:
            "<benchmarks>/extract_features-{network}.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: 4
        resources:
            gpu=1,
            gpu_share=WHOLE_DEVICE,
        params:
            settings=lambda wildcards: CONFIG.dataset.model_dump(include={"image_size", "color"})
            | {"held_out": CONFIG.dataset.held_out, "data": images_with_features(wildcards.network)}
            | CONFIG.recipes[recipe_with(wildcards.network)].stage1.model_dump(include={"backbone", "pretrained"}),
            images=lambda wildcards: images_of(images_with_features(wildcards.network)),
            code=code("training/extract_features.py"),
        message:
            "Compute the features of all images by {wildcards.network}"
        script:
            "../workflow_scripts/training/extract_features.py"


PACKED = {}

if CONFIG.dataset.image_size > LARGE and FEATURES.keys() != CONFIG.recipes.keys():

    # Its files are not `temp`: if they were gone, one network that has to be trained would train all others with it.
    checkpoint pack_images:
        input:
            balanced=balanced_manifest,
            real=ancient("<results>/real.parquet"),
            images=all_images,
        output:
            images="<results>/packed/images.bin",
            index="<results>/packed/index.parquet",
        log:
            "<logs>/pack_images.log",
        conda:
            "../envs/data.yaml"
        params:
            settings={"held_out": CONFIG.dataset.held_out},
            images=lambda wildcards: images_of("balanced"),
            code=code("training/pack_images.py"),
        message:
            "Pack the images into one file"
        script:
            "../workflow_scripts/training/pack_images.py"

    PACKED = {
        "index": lambda wildcards: for_networks(checkpoints.pack_images, "packed/index.parquet"),
        "packed": lambda wildcards: for_networks(checkpoints.pack_images, "packed/images.bin"),
    }


# Stage -> recipe -> the part of the config that decides its networks: the form of the images, its data, its stages so far.
SETTINGS = {
    stage: {
        name: CONFIG.dataset.model_dump(include={"image_size", "color"})
        | {"held_out": CONFIG.dataset.held_out, "recipe": recipe.model_dump(include={"data", "fill", *stages})}
        for name, recipe in CONFIG.recipes.items()
    }
    for stage, stages in (("train", ["stage1"]), ("finetune", ["stage1", "stage2"]))
}


# Recipe -> threads for each device. A network on a CPU computes with one, because its result depends on their number; the
# others decode large images.
THREADS = {name: 8 if PACKED and name not in FEATURES else 1 for name in CONFIG.recipes}


rule train:
    # Written although it is not an output: <results>/checkpoints/<recipe>-<seed>.pt, where an interrupted training continues.
    # Snakemake would delete an output when the job is killed; the file goes when the network is finished. Also
    # <results>/pixels/, small images that a job has decoded: as an output, it would train all networks if one image changed.
    input:
        **PACKED,
        balanced=balanced_of_recipe,
        features=features_of,
        pretrained=lambda wildcards: weights_of(wildcards.recipe),
        real=ancient("<results>/real.parquet"),
        images=images_of_recipe,
    output:
        model="<results>/train/{recipe}/{seed}/model.safetensors",
        history="<results>/train/{recipe}/{seed}/history.parquet",
        predictions="<results>/train/{recipe}/{seed}/predictions.parquet",
    log:
        "<logs>/train/{recipe}-{seed}.log",
    benchmark:
        "<benchmarks>/train/{recipe}-{seed}.jsonl"
    # Behind all other jobs that can start: they lead to more jobs, and networks without synthetic images can wait.
    priority: -1
    group:
        share_submissions_of("train")
    conda:
        "../envs/torch.yaml"
    threads: threads_of_network
    resources:
        gpu=lambda wildcards: whole_gpus(TRAINING_JOBS, devices_of_network(wildcards)),
        gpu_share=lambda wildcards: gpu_share(TRAINING_JOBS, devices_of_network(wildcards)),
        runtime=minutes_of_network("train"),
    params:
        settings=lambda wildcards: SETTINGS["train"][wildcards.recipe],
        images=lambda wildcards: images_of(*data_of(wildcards.recipe)),
        train_split=CONFIG.dataset.train_split,
        code=code("training/train.py"),
    message:
        "Train {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/training/train.py"


rule finetune:
    input:
        **PACKED,
        balanced=balanced_of_recipe,
        features=features_of,
        model=lambda wildcards: f"<results>/train/{STAGE1[wildcards.recipe]}/{wildcards.seed}/model.safetensors",
        real=ancient("<results>/real.parquet"),
        images=real_images,
    output:
        model="<results>/finetune/{recipe}/{seed}/model.safetensors",
        history="<results>/finetune/{recipe}/{seed}/history.parquet",
        predictions="<results>/finetune/{recipe}/{seed}/predictions.parquet",
    log:
        "<logs>/finetune/{recipe}-{seed}.log",
    benchmark:
        "<benchmarks>/finetune/{recipe}-{seed}.jsonl"
    # Behind rule train: at the end, short jobs keep all cores busy longer than long ones.
    priority: -2
    group:
        share_submissions_of("finetune")
    conda:
        "../envs/torch.yaml"
    threads: lambda wildcards: THREADS[wildcards.recipe]
    resources:
        gpu=whole_gpus(TRAINING_JOBS),
        gpu_share=gpu_share(TRAINING_JOBS),
        runtime=minutes_of_network("finetune"),
    params:
        settings=lambda wildcards: SETTINGS["finetune"][wildcards.recipe],
        images=lambda wildcards: images_of("real"),
        train_split=CONFIG.dataset.train_split,
        code=code("training/finetune.py"),
    message:
        "Fine-tune {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/training/finetune.py"


if CONFIG.evaluation.choose_by:

    rule train_final:
        # Written although it is not an output: see rule train.
        input:
            **PACKED,
            balanced=balanced_of_recipe,
            features=features_of,
            pretrained=lambda wildcards: weights_of(recipe_of(wildcards)),
            real=ancient("<results>/real.parquet"),
            images=images_of_recipe,
        output:
            model="<results>/final/{seed}/model.safetensors",
            history="<results>/final/{seed}/history.parquet",
            predictions="<results>/final/{seed}/predictions.parquet",
        log:
            "<logs>/final/{seed}.log",
        benchmark:
            "<benchmarks>/final/{seed}.jsonl"
        conda:
            "../envs/torch.yaml"
        threads: threads_of_network
        resources:
            gpu=lambda wildcards: whole_gpus(TRAINING_JOBS, devices_of_network(wildcards)),
            gpu_share=lambda wildcards: gpu_share(TRAINING_JOBS, devices_of_network(wildcards)),
            runtime=minutes_of_network("train"),
        params:
            chosen=lambda wildcards: chosen(),
            settings=lambda wildcards: SETTINGS["finetune"][recipe_of(wildcards)],
            splits={
                "train": CONFIG.dataset.train_split,
                "validation": CONFIG.dataset.validation_split,
                "test": CONFIG.dataset.test_split,
            },
            images=lambda wildcards: images_of(*data_of(recipe_of(wildcards))),
            code=code("training/train_final.py"),
        message:
            "Train the chosen recipe on training and validation images, seed {wildcards.seed}"
        script:
            "../workflow_scripts/training/train_final.py"
