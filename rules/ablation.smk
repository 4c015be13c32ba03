"""What the parts of the unrolled and of the refined network buy: the same scans and scores, some parts left out."""


rule take_apart:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
        model=f"{CONDITION}/unrolled/model.keras",
    output:
        collect(f"{CONDITION}/{{split}}/unrolled/ingredients/{{part}}.npz", part=PARTS["unrolled"], allow_missing=True),
    log:
        f"{LOGS}/take_apart/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="4GiB",
        runtime="1h",
    params:
        code=code("take_apart"),
    script:
        "../scripts/take_apart.py"


rule score_ingredients:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
        region=f"{RESULTS}/{OBJECT}region/{{split}}.json",
        objects=list(INGREDIENTS.values()),
    output:
        metrics=f"{CONDITION}/{{split}}/ingredients_metrics.csv",
        arrays=f"{CONDITION}/{{split}}/ingredients.npz",
        frc=f"{CONDITION}/{{split}}/ingredients_frc.csv",
    log:
        f"{LOGS}/score_ingredients/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="2GiB",
        runtime="30m",
    params:
        methods=list(INGREDIENTS),
        code=code("compare"),
    script:
        "../scripts/compare.py"


rule tabulate_ingredients:
    input:
        ingredients_of,
    output:
        metrics=f"{RESULTS}/ingredients.csv",
        table=f"{RESULTS}/ingredients.txt",
        provenance=f"{RESULTS}/ingredients.provenance.json",
    log:
        f"{LOGS}/tabulate_ingredients.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("tabulate_ingredients"),
    script:
        "../scripts/tabulate_ingredients.py"
