"""Reconstructions of two independent halves of the photons, and how well they agree: for `halves` in the config."""


rule half_scans:
    input:
        f"{DATA}/{{split}}.npz",
    output:
        first=f"{DATA}/halves/{{split}}_1.npz",
        second=f"{DATA}/halves/{{split}}_2.npz",
    log:
        f"{LOGS}/half_scans/{SCAN}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=through_frames(10, 3),
    params:
        seed=lambda wildcards: [int(wildcards.seed), int(wildcards.dose), wildcards.split == "test", 1],
        code=code("split_photons"),
    script:
        "../scripts/split_photons.py"


use rule lsqml as lsqml_half with:
    input:
        scan=f"{DATA}/halves/{{split}}_{{half}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        knowledge=knowledge_of("{split}"),
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/history.csv",
        cost=f"{COST}/lsqml_half/{UNDER}/{{split}}/{{method}}_{{half}}.tsv",
    log:
        f"{LOGS}/lsqml_half/{UNDER}/{{split}}/{{method}}_{{half}}.log",


if config["tv"]["chunks"] == 1:

    use rule tv as tv_half with:
        input:
            scan=f"{DATA}/halves/{{split}}_{{half}}.npz",
            view=f"{VIEW}/{{split}}.npz",
            knowledge=knowledge_of("{split}"),
        output:
            object=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/object.npz",
            history=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/history.csv",
            cost=f"{COST}/tv_half/{UNDER}/{{split}}/{{method}}_{{half}}.tsv",
        log:
            f"{LOGS}/tv_half/{UNDER}/{{split}}/{{method}}_{{half}}.log",

else:

    localrules:
        merge_tv_half,

    use rule tv_start as tv_start_half with:
        input:
            scan=f"{DATA}/halves/{{split}}_{{half}}.npz",
            view=f"{VIEW}/{{split}}.npz",
            knowledge=knowledge_of("{split}"),
        output:
            start=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/start.npz",
            tiles=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/tiles.npz",
            numbers=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/tiles.json",
            cost=f"{COST}/tv_start_half/{UNDER}/{{split}}/{{method}}_{{half}}.tsv",
        log:
            f"{LOGS}/tv_start_half/{UNDER}/{{split}}/{{method}}_{{half}}.log",

    use rule tv_chunk as tv_chunk_half with:
        input:
            scan=f"{DATA}/halves/{{split}}_{{half}}.npz",
            tiles=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/tiles.npz",
            start=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/start.npz",
            knowledge=knowledge_of("{split}"),
        output:
            f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/chunks/{{i}}of{{n}}.npz",
            cost=f"{COST}/tv_chunk_half/{UNDER}/{{split}}/{{method}}_{{half}}/{{i}}of{{n}}.tsv",
        log:
            f"{LOGS}/tv_chunk_half/{UNDER}/{{split}}/{{method}}_{{half}}/{{i}}of{{n}}.log",

    use rule merge_tv as merge_tv_half with:
        input:
            tiles=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/tiles.npz",
            start=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/start.npz",
            chunks=chunk_files(f"{CONDITION}/{{split}}/{{method}}/half_{{half}}"),
        output:
            object=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/object.npz",
            history=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/history.csv",
            cost=f"{COST}/merge_tv_half/{UNDER}/{{split}}/{{method}}_{{half}}.tsv",
        log:
            f"{LOGS}/merge_tv_half/{UNDER}/{{split}}/{{method}}_{{half}}.log",


rule half_frc:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        region=REGION,
        first=collect(f"{CONDITION}/{{split}}/{{method}}/half_1/object.npz", allow_missing=True, method=HALVES),
        second=collect(f"{CONDITION}/{{split}}/{{method}}/half_2/object.npz", allow_missing=True, method=HALVES),
    output:
        curves=f"{CONDITION}/{{split}}/half_frc.csv",
        crossings=f"{CONDITION}/{{split}}/half_crossings.csv",
        figure=report(
            f"{CONDITION}/{{split}}/half_frc.png",
            category="G comparison",
            subcategory="FRC between halves",
            caption="../report/half_frc.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/half_frc/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        methods=HALVES,
        code=code("half_frc"),
    script:
        "../scripts/half_frc.py"
