"""Phase F: reconstructions of the same exposures, each by itself: LSQML, TV-MAP, and what a network adds to that."""


rule lsqml:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        knowledge=knowledge_of("{split}"),
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
        cost=f"{COST}/lsqml/{UNDER}/{{split}}/{{method}}.tsv",
    log:
        f"{LOGS}/lsqml/{UNDER}/{{split}}/{{method}}.log",
    wildcard_constraints:
        method="lsqml",
    conda:
        "../envs/ptychi.yaml"
    threads: 1
    resources:
        mem_mb=holding_frames(2000),
        runtime=per_attempt(60),
        gpu=GPUS_OF_LSQML,
    params:
        lsqml=config["lsqml"],
        unknown=lambda wildcards: unknown(wildcards, "lsqml"),
        code=code("lsqml"),
    script:
        "../scripts/lsqml.py"


rule tv:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        knowledge=knowledge_of("{split}"),
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
        cost=f"{COST}/tv/{UNDER}/{{split}}/{{method}}.tsv",
    log:
        f"{LOGS}/tv/{UNDER}/{{split}}/{{method}}.log",
    wildcard_constraints:
        method="tv",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(40),
        gpu=GPUS_OF_TV,
    params:
        tv=config["tv"],
        code=code("tv"),
    script:
        "../scripts/tv.py"


rule refined:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        tv=f"{CONDITION}/{{split}}/tv/object.npz",
        knowledge=knowledge_of("{split}"),
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
        whole=f"{CONDITION}/{{split}}/{{method}}/ablation/whole.npz",
        splits=f"{CONDITION}/{{split}}/{{method}}/ablation/splits.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
        cost=f"{COST}/refined/{UNDER}/{{split}}/{{method}}.tsv",
    log:
        f"{LOGS}/refined/{UNDER}/{{split}}/{{method}}.log",
    wildcard_constraints:
        method="refined",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(60),
        gpu=1,
    params:
        tv=config["tv"],
        refined=config["refined"],
        code=code("refined"),
    script:
        "../scripts/refined.py"
