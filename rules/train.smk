"""Phase E: networks, one per condition: PINN, Baseline and unrolled."""


rule train_network:
    input:
        scan=f"{DATA}/train.npz",
        view=f"{VIEW}/train.npz",
        knowledge=knowledge_of("train"),
    output:
        model=f"{CONDITION}/{{method}}/model.keras",
        history=f"{CONDITION}/{{method}}/history.csv",
        cost=f"{COST}/train/{UNDER}/{{method}}.tsv",
    log:
        f"{LOGS}/train/{UNDER}/{{method}}.log",
    wildcard_constraints:
        method="pinn|baseline",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(40),
        gpu=1,
    params:
        network=config["network"],
        training=config["training"],
        code=code("train_network"),
    script:
        "../scripts/train_network.py"


rule train_unrolled:
    input:
        scan=f"{DATA}/train.npz",
        view=f"{VIEW}/train.npz",
        knowledge=knowledge_of("train"),
    output:
        model=f"{CONDITION}/{{method}}/model.keras",
        history=f"{CONDITION}/{{method}}/history.csv",
        cost=f"{COST}/train/{UNDER}/{{method}}.tsv",
    log:
        f"{LOGS}/train/{UNDER}/{{method}}.log",
    wildcard_constraints:
        method="unrolled",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=keeping_a_tile(3000),
        runtime=per_attempt(40),
        gpu=1,
    params:
        unrolled=config["unrolled"],
        tv=TV,
        code=code("train_unrolled"),
    script:
        "../scripts/train_unrolled.py"


rule plot_history:
    input:
        "{folder}/history.csv",
    output:
        report(
            "{folder}/history.png",
            category="E, F convergence",
            caption="../report/history.rst",
            labels={"of": "{folder}"},
        ),
    log:
        f"{LOGS}/plot_history/{{folder}}.log",
    wildcard_constraints:
        folder=f"{RESULTS}/.+",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("plot_history"),
    script:
        "../scripts/plot_history.py"
