"""Step screening: score the synthetic images, accept or reject them, and measure the quality of those that were kept.

Inputs: <results>/{real,imbalance,plan}.parquet, <results>/shards/*.parquet, the models of the config's `screening`.
Outputs: <results>/scores.parquet and <results>/synthetic.parquet, one row per synthetic image, before and after the
verdict; <results>/quality.parquet, metrics of the kept images. With networks also <results>/features.parquet and
<results>/screener/model.safetensors.

Scoring is expensive, the verdict is not: a changed threshold scores nothing again.
"""

from synaug.screening.checkpoints import classifier_file, local_model_files

try:
    SCREENING_FILES = on_machine(local_model_files(CONFIG.screening))
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")

SCREENING_NETWORKS = bool(CONFIG.screening.classifier or CONFIG.screening.text_image or CONFIG.screening.safety)
SCREENING_CLASSIFIER = {}
if CONFIG.screening.classifier:
    SCREENING_CLASSIFIER["classifier"] = (
        on_machine([classifier_file(CONFIG.screening.classifier.model)])
        if CONFIG.screening.classifier.model
        else "<results>/screener/model.safetensors"
    )
COMPARED_REAL = {"real": "<results>/real.parquet"} if SCREENING_NETWORKS or CONFIG.screening.leakage else {}
FEATURES = {"features": "<results>/features.parquet"} if CONFIG.screening.feature_space else {}


rule fit_screener:
    input:
        real="<results>/real.parquet",
        images=real_images,
    output:
        model="<results>/screener/model.safetensors",
    log:
        "<logs>/fit_screener.log",
    benchmark:
        "<benchmarks>/fit_screener.jsonl"
    conda:
        "../envs/torch.yaml"
    # One, as in rule train: another number of threads gives another network.
    threads: 1
    resources:
        gpu=1,
    params:
        settings={
            **CONFIG.dataset.model_dump(include={"image_size", "color", "train_split"}),
            "steps": CONFIG.screening.classifier.steps if CONFIG.screening.classifier else 0,
            "seed": CONFIG.seed,
        },
        code=code("screening/fit_screener.py"),
    message:
        "Train the screening classifier"
    script:
        "../workflow_scripts/screening/fit_screener.py"


rule score_synthetic:
    input:
        **SCREENING_CLASSIFIER,
        **COMPARED_REAL,
        plan="<results>/plan.parquet",
        shards=shards,
        images=real_images,
        models=SCREENING_FILES,
    output:
        **FEATURES,
        scores="<results>/scores.parquet",
    log:
        "<logs>/score_synthetic.log",
    benchmark:
        "<benchmarks>/score_synthetic.jsonl"
    conda:
        "../envs/torch.yaml" if SCREENING_NETWORKS else "../envs/data.yaml"
    threads: 2
    resources:
        gpu=int(SCREENING_NETWORKS),
    params:
        settings={
            "screening": CONFIG.screening.scoring(),
            "form": CONFIG.dataset.model_dump(
                include={"image_size", "color", "train_split", "test_split", "validation_split"}
            ),
        },
        code=code("screening/score_synthetic.py"),
    message:
        "Score the synthetic images"
    script:
        "../workflow_scripts/screening/score_synthetic.py"


rule screen_synthetic:
    input:
        scores="<results>/scores.parquet",
    output:
        synthetic="<results>/synthetic.parquet",
    log:
        "<logs>/screen_synthetic.log",
    conda:
        "../envs/data.yaml"
    params:
        screening=CONFIG.screening.model_dump(),
        code=code("screening/screen_synthetic.py"),
    message:
        "Accept or reject the synthetic images"
    script:
        "../workflow_scripts/screening/screen_synthetic.py"


rule measure_quality:
    input:
        **FEATURES,
        synthetic="<results>/synthetic.parquet",
        balanced="<results>/balanced.parquet",
        imbalance="<results>/imbalance.parquet",
    output:
        quality="<results>/quality.parquet",
    log:
        "<logs>/measure_quality.log",
    conda:
        "../envs/data.yaml"
    params:
        balance=CONFIG.balance.model_dump(exclude={"oversample", "shortfall"}),
        code=code("screening/measure_quality.py"),
    message:
        "Measure the quality of the synthetic images"
    script:
        "../workflow_scripts/screening/measure_quality.py"
