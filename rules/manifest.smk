"""Step 3, screen and build: score the synthetic images, judge them, and join the best with all real training images.

Inputs: <results>/{real,imbalance,plan}.parquet, <results>/shards/*.parquet, the models of the config's `screening`.
Outputs: <results>/scores.parquet and <results>/synthetic.parquet, one row per synthetic image, before and after the
verdict; <results>/balanced.parquet, one row per training image; <results>/quality.parquet, figures of what was kept.
With networks also <results>/features.parquet and <results>/screener/model.safetensors.

Scoring is expensive, judging is not: another threshold scores nothing again.
"""

from synaug.screening.checkpoints import classifier_file, screening_files

try:
    SCREENING_FILES = on_machine(screening_files(CONFIG.screening))
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")

NETWORKS_ON = bool(CONFIG.screening.classifier or CONFIG.screening.text_image or CONFIG.screening.safety)
SCREENER = "<results>/screener/model.safetensors"
CLASSIFIER = {}
if CONFIG.screening.classifier:
    CLASSIFIER["classifier"] = (
        on_machine([classifier_file(CONFIG.screening.classifier.model)])
        if CONFIG.screening.classifier.model
        else SCREENER
    )
REAL = {"real": "<results>/real.parquet"} if NETWORKS_ON or CONFIG.screening.leakage else {}
FEATURES = {"features": "<results>/features.parquet"} if CONFIG.screening.feature_space else {}
MANIFEST_CODE = ("synaug/manifests.py", "synaug/schemas.py")


rule fit_screener:
    input:
        real="<results>/real.parquet",
        images=real_images,
        code=code(
            "fit_screener.py",
            "synaug/screening/fit.py",
            "synaug/training/backbones.py",
            "synaug/training/data.py",
            "synaug/images.py",
        ),
    output:
        model=SCREENER,
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
    script:
        "../workflow_scripts/screening/fit_screener.py"


rule score_synthetic:
    input:
        **CLASSIFIER,
        **REAL,
        plan="<results>/plan.parquet",
        shards=shards,
        images=real_images,
        models=SCREENING_FILES,
        code=code(
            "score_synthetic.py",
            "synaug/screening/scores.py",
            "synaug/screening/hashing.py",
            "synaug/images.py",
            *MANIFEST_CODE,
            *(
                ("synaug/screening/models.py", "synaug/screening/similarity.py", "synaug/training/backbones.py")
                if NETWORKS_ON
                else ()
            ),
        ),
    output:
        **FEATURES,
        scores="<results>/scores.parquet",
    log:
        "<logs>/score_synthetic.log",
    benchmark:
        "<benchmarks>/score_synthetic.jsonl"
    conda:
        "../envs/torch.yaml" if NETWORKS_ON else "../envs/data.yaml"
    threads: 2
    resources:
        gpu=int(NETWORKS_ON),
    params:
        settings={
            "screening": CONFIG.screening.scoring(),
            "form": CONFIG.dataset.model_dump(
                include={"image_size", "color", "train_split", "test_split", "validation_split"}
            ),
        },
    script:
        "../workflow_scripts/screening/score_synthetic.py"


rule screen_synthetic:
    input:
        scores="<results>/scores.parquet",
        code=code("screen_synthetic.py", "synaug/screening/judge.py", *MANIFEST_CODE),
    output:
        synthetic="<results>/synthetic.parquet",
    log:
        "<logs>/screen_synthetic.log",
    conda:
        "../envs/data.yaml"
    params:
        screening=CONFIG.screening.model_dump(),
    script:
        "../workflow_scripts/screening/screen_synthetic.py"


checkpoint build_balanced_manifest:
    input:
        real="<results>/real.parquet",
        synthetic="<results>/synthetic.parquet",
        imbalance="<results>/imbalance.parquet",
        code=code("build_balanced_manifest.py", "synaug/balance.py", "synaug/plan.py", *MANIFEST_CODE),
    output:
        balanced="<results>/balanced.parquet",
    log:
        "<logs>/build_balanced_manifest.log",
    conda:
        "../envs/data.yaml"
    params:
        train_split=CONFIG.dataset.train_split,
        balance=CONFIG.balance.model_dump(exclude={"oversample"}),
    script:
        "../workflow_scripts/balance/build_balanced_manifest.py"


rule measure_quality:
    input:
        **FEATURES,
        synthetic="<results>/synthetic.parquet",
        balanced="<results>/balanced.parquet",
        imbalance="<results>/imbalance.parquet",
        code=code(
            "measure_quality.py",
            "synaug/screening/quality.py",
            "synaug/screening/metrics.py",
            "synaug/plan.py",
            *MANIFEST_CODE,
        ),
    output:
        quality="<results>/quality.parquet",
    log:
        "<logs>/measure_quality.log",
    conda:
        "../envs/data.yaml"
    params:
        balance=CONFIG.balance.model_dump(exclude={"oversample", "shortfall"}),
    script:
        "../workflow_scripts/screening/measure_quality.py"
