"""Step 4, train: the whole network on the images of a recipe, then its last layer on a few real ones.

Inputs: <results>/balanced.parquet, <results>/real.parquet (test images), and the images they point at.
Outputs: <results>/{train,finetune}/<recipe>/<seed>/: model.safetensors, history.parquet, predictions.parquet.

The manifests are `ancient`, and the hash of what a recipe sees of them is a parameter: a manifest that is made again
with the same images trains nothing again.
"""

TRAINING_CODE = ("synaug/training/*.py", "synaug/images.py", "synaug/evaluation/predictions.py")


def balanced_manifest(wildcards):
    """The balanced manifest, once it is made."""
    return ancient(checkpoints.build_balanced_manifest.get().output.balanced)


@lru_cache
def manifests_hash(balanced, data, changed_ns):
    """Hash of the training images with source `data` (real, or balanced for all) and of the test images."""
    from synaug.balance import images_digest, rows_of_recipe
    from synaug.manifests import read_manifest

    real = read_manifest("real", Path(balanced).with_name("real.parquet"))
    test = real[(real["split"] == CONFIG.dataset.test_split) & real["usable"]]
    return images_digest(rows_of_recipe(read_manifest("balanced", balanced), data)), images_digest(test)


def images_of(data):
    """manifests_hash of the manifests as they are now."""
    balanced = checkpoints.build_balanced_manifest.get().output.balanced
    return manifests_hash(balanced, data, Path(balanced).stat().st_mtime_ns)


def settings_of(recipe, *stages):
    """What of the config decides the networks of `recipe`: the images' form, its data, and its `stages`."""
    return {
        "image_size": CONFIG.dataset.image_size,
        "color": CONFIG.dataset.color,
        "test_split": CONFIG.dataset.test_split,
        "recipe": CONFIG.recipes[recipe].model_dump(include={"data", *stages}),
    }


rule train:
    input:
        balanced=balanced_manifest,
        real=ancient("<results>/real.parquet"),
        code=code("train.py", *TRAINING_CODE),
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
    # One thread: two networks side by side on two cores are done sooner than one after the other on both.
    threads: 1
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: settings_of(wildcards.recipe, "stage1"),
        images=lambda wildcards: images_of(CONFIG.recipes[wildcards.recipe].data),
    script:
        "../workflow_scripts/train.py"


rule finetune:
    input:
        model="<results>/train/{recipe}/{seed}/model.safetensors",
        balanced=balanced_manifest,
        real=ancient("<results>/real.parquet"),
        code=code("finetune.py", *TRAINING_CODE),
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
    threads: 1
    resources:
        gpu=1,
    params:
        settings=lambda wildcards: settings_of(wildcards.recipe, "stage1", "stage2"),
        images=lambda wildcards: images_of("real"),
    script:
        "../workflow_scripts/finetune.py"
