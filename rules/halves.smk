"""Reconstructions of two independent halves of the photons, and how well they agree: for `halves` in the config."""


rule halve_counts:
    input:
        f"{DATA}/{{split}}.npz",
    output:
        first=f"{DATA}/halves/{{split}}_1.npz",
        second=f"{DATA}/halves/{{split}}_2.npz",
    log:
        f"{LOGS}/halve_counts/{OBJECT}dose_{{dose}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="30m",
    params:
        seed=lambda wildcards: [int(wildcards.seed), int(wildcards.dose), wildcards.split == "test", 1],
        code=code("halve"),
    script:
        "../scripts/halve.py"


use rule iterate as iterate_half with:
    input:
        scan=f"{DATA}/halves/{{split}}_{{half}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/history.csv",
    log:
        f"{LOGS}/iterate_half/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}_{{half}}.log",
    benchmark:
        f"{COST}/iterate_half/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}_{{half}}.tsv"


use rule regularise as regularise_half with:
    input:
        scan=f"{DATA}/halves/{{split}}_{{half}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/half_{{half}}/history.csv",
    log:
        f"{LOGS}/regularise_half/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}_{{half}}.log",
    benchmark:
        f"{COST}/regularise_half/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}_{{half}}.tsv"


rule half_frc:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
        region=f"{RESULTS}/{OBJECT}region/{{split}}.json",
        first=collect(f"{CONDITION}/{{split}}/{{method}}/half_1/object.npz", allow_missing=True, method=HALVES),
        second=collect(f"{CONDITION}/{{split}}/{{method}}/half_2/object.npz", allow_missing=True, method=HALVES),
    output:
        curves=f"{CONDITION}/{{split}}/half_frc.csv",
        crossings=f"{CONDITION}/{{split}}/half_crossings.csv",
        picture=report(
            f"{CONDITION}/{{split}}/half_frc.png",
            category="G comparison",
            subcategory="FRC between halves",
            caption="../report/half_frc.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/half_frc/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        methods=HALVES,
        code=code("half_frc"),
    script:
        "../scripts/half_frc.py"
