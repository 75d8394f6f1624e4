"""Step training: the whole network on the images of a recipe (stage 1), then its last layer on a few real images (stage 2).

Inputs: <results>/balanced.parquet, <results>/real.parquet (evaluation images), and the images they point at.
All images are first put into one file, <results>/packed/images.bin: images of up to 64 pixels decoded, once for all
networks; larger ones encoded, and then the file is deleted when all networks are trained.
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

LARGE_IMAGES = CONFIG.dataset.image_size > LARGE
# Large images are as many bytes as the data set. Small ones are kept, so that another training key decodes nothing again.
packed_file = temp if LARGE_IMAGES else str


rule pack_images:
    input:
        balanced=balanced_manifest,
        real=ancient("<results>/real.parquet"),
        images=all_images,
    output:
        images=packed_file("<results>/packed/images.bin"),
        index=packed_file("<results>/packed/index.parquet"),
    log:
        "<logs>/pack_images.log",
    conda:
        "../envs/data.yaml"
    threads: 8
    params:
        settings=CONFIG.dataset.model_dump(include={"image_size", "color"}) | {"held_out": CONFIG.dataset.held_out},
        images=lambda wildcards: images_of("balanced"),
        code=code("training/pack_images.py"),
    message:
        "Put the images into one file"
    script:
        "../workflow_scripts/training/pack_images.py"


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
    # Snakemake would delete an output when the job is killed; the file goes when the network is finished.
    input:
        packed=ancient("<results>/packed/images.bin"),
        index=ancient("<results>/packed/index.parquet"),
        balanced=balanced_manifest,
        pretrained=lambda wildcards: on_machine([WEIGHTS[wildcards.recipe]] if wildcards.recipe in WEIGHTS else []),
        real=ancient("<results>/real.parquet"),
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
    threads: 8 if LARGE_IMAGES else 1
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
        packed=ancient("<results>/packed/images.bin"),
        index=ancient("<results>/packed/index.parquet"),
        balanced=balanced_manifest,
        model=lambda wildcards: f"<results>/train/{STAGE1[wildcards.recipe]}/{wildcards.seed}/model.safetensors",
        real=ancient("<results>/real.parquet"),
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
    threads: 8 if LARGE_IMAGES else 1
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
