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
        runtime=through_frames(60, 400),
        gpu=GPUS_OF_LSQML,
    params:
        lsqml=config["lsqml"],
        unknown=lambda wildcards: unknown(wildcards, "lsqml"),
        code=code("lsqml"),
    script:
        "../scripts/lsqml.py"


if config["tv"]["chunks"] == 1:

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
            mem_mb=keeping_a_tile(1000),
            runtime=through_frames(40, 400),
            gpu=GPUS_OF_TV,
        params:
            tv=TV,
            code=code("tv"),
        script:
            "../scripts/tv.py"

else:

    localrules:
        merge_tv,

    rule tv_start:
        input:
            scan=f"{DATA}/{{split}}.npz",
            view=f"{VIEW}/{{split}}.npz",
            knowledge=knowledge_of("{split}"),
        output:
            start=f"{CONDITION}/{{split}}/{{method}}/start.npz",
            tiles=f"{CONDITION}/{{split}}/{{method}}/tiles.npz",
            numbers=f"{CONDITION}/{{split}}/{{method}}/tiles.json",
            cost=f"{COST}/tv_start/{UNDER}/{{split}}/{{method}}.tsv",
        log:
            f"{LOGS}/tv_start/{UNDER}/{{split}}/{{method}}.log",
        wildcard_constraints:
            method="tv",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=keeping_a_tile(1000),
            runtime=per_attempt(40),
            gpu=GPUS_OF_TV,
        params:
            tv=TV,
            code=code("tv_start"),
        script:
            "../scripts/tv_start.py"

    rule tv_chunk:
        input:
            scan=f"{DATA}/{{split}}.npz",
            tiles=f"{CONDITION}/{{split}}/{{method}}/tiles.npz",
            start=f"{CONDITION}/{{split}}/{{method}}/start.npz",
            knowledge=knowledge_of("{split}"),
        output:
            f"{CONDITION}/{{split}}/{{method}}/chunks/{{i}}of{{n}}.npz",
            cost=f"{COST}/tv_chunk/{UNDER}/{{split}}/{{method}}/{{i}}of{{n}}.tsv",
        log:
            f"{LOGS}/tv_chunk/{UNDER}/{{split}}/{{method}}/{{i}}of{{n}}.log",
        wildcard_constraints:
            method="tv",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=keeping_a_tile(1000),
            runtime=through_frames(40, 400),
            gpu=GPUS_OF_TV,
        params:
            tv=TV,
            code=code("tv_chunk"),
        script:
            "../scripts/tv_chunk.py"

    use rule merge as merge_tv with:
        input:
            tiles=f"{CONDITION}/{{split}}/{{method}}/tiles.npz",
            start=f"{CONDITION}/{{split}}/{{method}}/start.npz",
            chunks=chunk_files(f"{CONDITION}/{{split}}/{{method}}"),
        output:
            object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
            history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
            cost=f"{COST}/merge_tv/{UNDER}/{{split}}/{{method}}.tsv",
        log:
            f"{LOGS}/merge_tv/{UNDER}/{{split}}/{{method}}.log",
        wildcard_constraints:
            method="tv",


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
        mem_mb=keeping_a_tile(2000),
        runtime=through_frames(60, 2400),
        gpu=1,
    params:
        tv=TV,
        refined=config["refined"],
        code=code("refined"),
    script:
        "../scripts/refined.py"
