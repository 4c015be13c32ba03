"""Phase E: networks, one per condition: PINN, Baseline and unrolled."""


rule train:
    input:
        scan=f"{DATA}/train.npz",
        view=f"{CONDITION}/train.npz",
    output:
        model=f"{CONDITION}/{{method}}/model.keras",
        history=f"{CONDITION}/{{method}}/history.csv",
    log:
        f"{LOGS}/train/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{method}}.log",
    benchmark:
        f"{COST}/train/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{method}}.tsv"
    wildcard_constraints:
        method="pinn|baseline",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="2GiB",
        runtime="4h",
    params:
        network=config["network"],
        training=config["training"],
        spread=config["grouping"]["max_spread_px"],
        code=code("train"),
    script:
        "../scripts/train.py"


rule train_unrolled:
    input:
        scan=f"{DATA}/train.npz",
        view=f"{CONDITION}/train.npz",
    output:
        model=f"{CONDITION}/{{method}}/model.keras",
        history=f"{CONDITION}/{{method}}/history.csv",
    log:
        f"{LOGS}/train/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{method}}.log",
    benchmark:
        f"{COST}/train/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{method}}.tsv"
    wildcard_constraints:
        method="unrolled",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="4GiB",
        runtime="4h",
    params:
        unrolled=config["unrolled"],
        tv=config["tv"],
        code=code("train_unrolled"),
    script:
        "../scripts/train_unrolled.py"


rule learning_curve:
    input:
        "{place}/history.csv",
    output:
        report(
            "{place}/history.png",
            category="E, F convergence",
            caption="../report/history.rst",
            labels={"of": "{place}"},
        ),
    log:
        f"{LOGS}/learning_curve/{{place}}.log",
    wildcard_constraints:
        place=f"{RESULTS}/.+",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("learning_curve"),
    script:
        "../scripts/learning_curve.py"
