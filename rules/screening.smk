"""Step screening: score the synthetic images, accept or reject them, and measure the quality of those that were kept.

Inputs: <results>/{real,imbalance,plan,pilot}.parquet, <results>/shards/*.parquet, the models of the config's `screening`.
Outputs: <results>/scores/<shard>.parquet, scores and features of the images of a shard; <results>/real_scores.parquet,
those of the real images; <results>/scores.parquet and <results>/synthetic.parquet, one row per synthetic image, before and
after the verdict; <results>/quality.parquet, metrics of the kept images. With networks also <results>/features.parquet
and <results>/screener/model.safetensors. With a gate also <results>/gate.parquet, how much of a fill each class gets.

Scoring is expensive. The comparison of the images is cheaper, and the verdict costs nothing. Therefore each is a rule of
its own: a new shard scores only itself, and a changed threshold scores and compares nothing.
"""

from synaug.images.codec import LARGE
from synaug.screening.checkpoints import (
    classifier_file,
    local_model_files,
    screening_augmentation,
    screening_network,
)
from synaug.submissions import scoring_minutes

try:
    SCREENING_FILES = on_machine(local_model_files(CONFIG.screening))
except UserError as error:
    sys.exit(f"{ERROR_PREFIX}{error}")

SCREENING_NETWORKS = bool(CONFIG.screening.classifier or CONFIG.screening.text_image or CONFIG.screening.safety)
SCREENING_CLASSIFIER = {}
if CONFIG.screening.classifier:
    SCREENING_CLASSIFIER["classifier"] = (
        on_machine([classifier_file(CONFIG.screening.classifier.model)])[0]
        if CONFIG.screening.classifier.model
        else "<results>/screener/model.safetensors"
    )
SCREENING_NETWORK = screening_network(CONFIG.training)
# A file of the user: other weights make another network.
SCREENING_WEIGHTS = on_machine(file_of_weights((SCREENING_NETWORK or {}).get("pretrained")))
# A job with a small network spends most of its time starting, so such jobs run side by side.
SCORING_THREADS = 1 if screens_with_little_memory(CONFIG.screening, CONFIG.training, CONFIG.dataset.image_size) else 2
SCORING_MINUTES = scoring_minutes(CONFIG.generation.images_per_shard)
REAL_SCORES = {}
if CONFIG.screening.feature_space or CONFIG.screening.leakage:
    REAL_SCORES["real"] = "<results>/real_scores.parquet"
SCREENING_FEATURES = {"features": "<results>/features.parquet"} if CONFIG.screening.feature_space else {}


rule fit_screener:
    # Written although it is not an output: <results>/pixels/, as in rule train.
    input:
        real="<results>/real.parquet",
        images=real_images,
        pretrained=SCREENING_WEIGHTS,
    output:
        model="<results>/screener/model.safetensors",
    log:
        "<logs>/fit_screener.log",
    benchmark:
        "<benchmarks>/fit_screener.jsonl"
    conda:
        "../envs/torch.yaml"
    # A training has one thread, as in rule train; the other threads decode large images. The features of a pretrained
    # network have as many as there are.
    threads: 2 if SCREENING_NETWORK else 8 if CONFIG.dataset.image_size > LARGE else 1
    resources:
        gpu=whole_gpus(SCREENING_JOBS),
        gpu_share=gpu_share(SCREENING_JOBS),
    params:
        settings={
            **CONFIG.dataset.model_dump(include={"image_size", "color", "train_split"}),
            "network": SCREENING_NETWORK,
            **screening_augmentation(CONFIG.training),
            "steps": CONFIG.screening.classifier.steps if CONFIG.screening.classifier else 0,
            "seed": CONFIG.seed,
        },
        code=code("screening/fit_screener.py"),
    message:
        "Train the screening classifier"
    script:
        "../workflow_scripts/screening/fit_screener.py"


if not SHARDS_EXIST:

    rule score_shard:
        # The plan is `ancient`: the name of a shard is the hash of the ids of its images, and the ids decide everything
        # that is read from it. The shard is not. If it is made again on another device, its bytes may differ.
        input:
            **SCREENING_CLASSIFIER,
            plan=plan_of_shard,
            shard="<results>/shards/{shard}.parquet",
            models=SCREENING_FILES,
        output:
            scores="<results>/scores/{shard}.parquet",
        log:
            "<logs>/score_shard/{shard}.log",
        benchmark:
            "<benchmarks>/score_shard/{shard}.jsonl"
        group:
            share_submissions("scores", submissions_of_shards("scores"))
        conda:
            "../envs/torch.yaml" if SCREENING_NETWORKS else "../envs/data.yaml"
        threads: SCORING_THREADS
        resources:
            gpu=int(SCREENING_NETWORKS and whole_gpus(SCREENING_JOBS)),
            gpu_share=int(SCREENING_NETWORKS and gpu_share(SCREENING_JOBS)),
            runtime=lambda wildcards, attempt: attempt * SCORING_MINUTES,
        params:
            settings={
                "screening": CONFIG.screening.scoring(),
                "form": CONFIG.dataset.model_dump(include={"image_size", "color"}),
            },
            code=code("screening/score_shard.py"),
        message:
            "Score the images of shard {wildcards.shard}"
        script:
            "../workflow_scripts/screening/score_shard.py"


rule score_real:
    input:
        **SCREENING_CLASSIFIER,
        real="<results>/real.parquet",
        images=real_images,
        models=SCREENING_FILES,
    output:
        scores="<results>/real_scores.parquet",
    log:
        "<logs>/score_real.log",
    benchmark:
        "<benchmarks>/score_real.jsonl"
    conda:
        "../envs/torch.yaml" if SCREENING_NETWORKS else "../envs/data.yaml"
    threads: SCORING_THREADS
    resources:
        gpu=int(SCREENING_NETWORKS and whole_gpus(SCREENING_JOBS)),
        gpu_share=int(SCREENING_NETWORKS and gpu_share(SCREENING_JOBS)),
    params:
        settings={
            "screening": CONFIG.screening.scoring(),
            "form": CONFIG.dataset.model_dump(include={"image_size", "color"}),
            "splits": CONFIG.dataset.splits,
        },
        code=code("screening/score_real.py"),
    message:
        "Score the real images"
    script:
        "../workflow_scripts/screening/score_real.py"


if GATE:

    rule measure_gate:
        input:
            real="<results>/real_scores.parquet",
            plan="<results>/pilot.parquet" if PILOT else "<results>/plan.parquet",
            scores=pilot_scores if PILOT else shard_scores,
        output:
            gate="<results>/gate.parquet",
        log:
            "<logs>/measure_gate.log",
        conda:
            "../envs/data.yaml"
        params:
            validation_split=CONFIG.dataset.validation_split,
            code=code("screening/measure_gate.py"),
        message:
            "Decide how much of a fill each class gets"
        script:
            "../workflow_scripts/screening/measure_gate.py"


rule compare_images:
    input:
        **REAL_SCORES,
        plan="<results>/plan.parquet",
        scores=shard_scores,
    output:
        **SCREENING_FEATURES,
        scores="<results>/scores.parquet",
    log:
        "<logs>/compare_images.log",
    benchmark:
        "<benchmarks>/compare_images.jsonl"
    conda:
        "../envs/torch.yaml" if CONFIG.screening.feature_space else "../envs/data.yaml"
    # One job for all images. A few shards take less time than the start of the job, which must not wait for more cores.
    threads: lambda wildcards, input: min(8, 1 + len(input.scores) // 4)
    resources:
        gpu=int(bool(CONFIG.screening.feature_space)),
        gpu_share=WHOLE_DEVICE * int(bool(CONFIG.screening.feature_space)),
    params:
        settings={
            "train_split": CONFIG.dataset.train_split,
            "duplicates": CONFIG.screening.duplicates is not None,
            "leakage": CONFIG.screening.leakage is not None,
        },
        code=code("screening/compare_images.py"),
    message:
        "Find the nearest neighbours of the synthetic images"
    script:
        "../workflow_scripts/screening/compare_images.py"


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
        screening=CONFIG.screening.model_dump(exclude={"classifier": {"gate", "pilot"}}),
        code=code("screening/screen_synthetic.py"),
    message:
        "Accept or reject the synthetic images"
    script:
        "../workflow_scripts/screening/screen_synthetic.py"


rule measure_quality:
    input:
        **SCREENING_FEATURES,
        **GATE,
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
        balance=CONFIG.used_balance.model_dump(exclude={"oversample", "shortfall", "keep"}),
        code=code("screening/measure_quality.py"),
    message:
        "Measure the quality of the synthetic images"
    script:
        "../workflow_scripts/screening/measure_quality.py"
