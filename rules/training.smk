"""Step training: the whole network on the images of a recipe (stage 1), then its last layer on a few real images (stage 2).

Inputs: <results>/balanced.parquet, <results>/real.parquet (evaluation images), and the images they point at.
Large images are first copied into one file, <results>/packed/images.bin, which is deleted when all networks are trained.
Small ones are decoded once, into <results>/pixels/, which is no output of a rule: it may be deleted at any time.
Outputs: <results>/{train,finetune}/<recipe>/<seed>/: model.safetensors, history.parquet, predictions.parquet.

The manifests are `ancient`, and the hash of the rows that a recipe uses is a parameter: a manifest that is made again with
the same images trains nothing again.
"""

from synaug.images.codec import LARGE

# Recipe -> the recipe whose stage-1 networks it takes, which is itself or another.
STAGE1 = {name: recipe.stage1_of or name for name, recipe in CONFIG.recipes.items()}
# Recipe -> file of the weights that it starts from, if it has one.
WEIGHTS = {
    name: recipe.stage1.pretrained
    for name, recipe in CONFIG.recipes.items()
    if isinstance(recipe.stage1.pretrained, str)
}
LIBRARY_NETWORKS = {recipe.stage1.backbone for recipe in CONFIG.recipes.values() if "/" in recipe.stage1.backbone}

if LIBRARY_NETWORKS and workflow.is_main_process:  # the libraries take seconds to import
    from synaug.networks.pretrained import check_backbone

    try:
        for backbone in sorted(LIBRARY_NETWORKS):
            check_backbone(backbone)
    except UserError as error:
        sys.exit(f"{ERROR_PREFIX}{error}")

PACKED = {}

if CONFIG.dataset.image_size > LARGE:

    rule pack_images:
        input:
            balanced=balanced_manifest,
            real=ancient("<results>/real.parquet"),
            images=all_images,
        output:
            images=temp("<results>/packed/images.bin"),
            index=temp("<results>/packed/index.parquet"),
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

    PACKED = {"index": ancient("<results>/packed/index.parquet"), "packed": ancient("<results>/packed/images.bin")}


# Stage -> recipe -> the part of the config that decides its networks: the form of the images, its data, its stages so far.
SETTINGS = {
    stage: {
        name: CONFIG.dataset.model_dump(include={"image_size", "color"})
        | {"held_out": CONFIG.dataset.held_out, "recipe": recipe.model_dump(include={"data", *stages})}
        for name, recipe in CONFIG.recipes.items()
    }
    for stage, stages in (("train", ["stage1"]), ("finetune", ["stage1", "stage2"]))
}


rule train:
    # Written although it is not an output: <results>/checkpoints/<recipe>-<seed>.pt, where an interrupted training continues.
    # Snakemake would delete an output when the job is killed; the file goes when the network is finished. Also
    # <results>/pixels/, small images that a job has decoded: as an output, it would train all networks if one image changed.
    input:
        **PACKED,
        balanced=balanced_manifest,
        pretrained=lambda wildcards: on_machine([WEIGHTS[wildcards.recipe]] if wildcards.recipe in WEIGHTS else []),
        real=ancient("<results>/real.parquet"),
        images=real_images if PACKED else all_images,
    output:
        model="<results>/train/{recipe}/{seed}/model.safetensors",
        history="<results>/train/{recipe}/{seed}/history.parquet",
        predictions="<results>/train/{recipe}/{seed}/predictions.parquet",
    log:
        "<logs>/train/{recipe}-{seed}.log",
    benchmark:
        "<benchmarks>/train/{recipe}-{seed}.jsonl"
    conda:
        "../envs/torch.yaml"
    # Networks on CPUs use one thread, because the result depends on the number; the other threads decode large images.
    threads: 8 if PACKED else 1
    resources:
        gpu=lambda wildcards: CONFIG.recipes[wildcards.recipe].stage1.devices,
    params:
        settings=lambda wildcards: SETTINGS["train"][wildcards.recipe],
        images=lambda wildcards: images_of(CONFIG.recipes[wildcards.recipe].data),
        code=code("training/train.py"),
    message:
        "Train {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/training/train.py"


rule finetune:
    input:
        **PACKED,
        balanced=balanced_manifest,
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
    conda:
        "../envs/torch.yaml"
    threads: 8 if PACKED else 1
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: SETTINGS["finetune"][wildcards.recipe],
        images=lambda wildcards: images_of("real"),
        code=code("training/finetune.py"),
    message:
        "Fine-tune {wildcards.recipe}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/training/finetune.py"
