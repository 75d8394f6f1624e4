"""Step 4, train: the whole network on the images of a recipe, then its last layer on a few real ones.

Inputs: <results>/balanced.parquet, <results>/real.parquet (test images), and the images they point at.
Outputs: <results>/{train,finetune}/<recipe>/<seed>/: model.safetensors, history.parquet, predictions.parquet.

The manifests are `ancient`, and the hash of what a recipe sees of them is a parameter: a manifest that is made again
with the same images trains nothing again.
"""

TRAINING_CODE = ("synaug/training/*.py", "synaug/images.py", "synaug/evaluation/predictions.py")


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
    # One, whatever the machine: another number of threads adds up in another order, and gives another network.
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
