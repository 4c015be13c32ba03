"""Phase G: align and score all methods under a condition, then the study's table, figure and summary."""


rule compare:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
        region=f"{RESULTS}/{OBJECT}region/{{split}}.json",
        objects=object_files,
    output:
        metrics=f"{CONDITION}/{{split}}/comparison_metrics.csv",
        arrays=f"{CONDITION}/{{split}}/comparison.npz",
        frc=f"{CONDITION}/{{split}}/frc.csv",
    log:
        f"{LOGS}/compare/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    benchmark:
        f"{COST}/compare/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.tsv"
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="2GiB",
        runtime="30m",
    params:
        methods=METHODS,
        code=code("compare"),
    script:
        "../scripts/compare.py"


rule comparison_picture:
    input:
        arrays=f"{CONDITION}/{{split}}/comparison.npz",
        metrics=f"{CONDITION}/{{split}}/comparison_metrics.csv",
        region=f"{RESULTS}/{OBJECT}region/{{split}}.json",
    output:
        report(
            f"{CONDITION}/{{split}}/comparison.png",
            category="G comparison",
            subcategory="side by side",
            caption="../report/comparison.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/comparison_picture/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("comparison_picture"),
    script:
        "../scripts/comparison_picture.py"


rule frc_picture:
    input:
        f"{CONDITION}/{{split}}/frc.csv",
    output:
        report(
            f"{CONDITION}/{{split}}/frc.png",
            category="G comparison",
            subcategory="FRC with the truth",
            caption="../report/frc.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/frc_picture/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("frc_picture"),
    script:
        "../scripts/frc_picture.py"


rule summarise:
    input:
        metrics=collect(f"{CONDITION}/{{split}}/comparison_metrics.csv", **CONDITIONS, split=SPLITS),
        views=collect(f"{CONDITION}/{{split}}.json", **CONDITIONS, split=SPLITS),
        training=collect(
            f"{COST}/train/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{method}}.tsv", **CONDITIONS, method=NETWORKS
        ),
    output:
        metrics=f"{RESULTS}/metrics.csv",
        differences=f"{RESULTS}/differences.csv",
        fluence=f"{RESULTS}/fluence.csv",
        training=f"{RESULTS}/training.csv",
        summary=f"{RESULTS}/summary.txt",
        provenance=f"{RESULTS}/metrics.provenance.json",
    log:
        f"{LOGS}/summarise.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        study=config["study"],
        results=lambda wildcards, output: output.metrics.rpartition("/")[0],
        code=code("summarise"),
    script:
        "../scripts/summarise.py"


rule quality_picture:
    input:
        metrics=f"{RESULTS}/metrics.csv",
        fluence=f"{RESULTS}/fluence.csv",
    output:
        report(f"{RESULTS}/quality_{{split}}_{{metric}}.png", category="G study", caption="../report/quality.rst"),
    log:
        f"{LOGS}/quality_picture/{{split}}_{{metric}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("quality_picture"),
    script:
        "../scripts/quality_picture.py"


rule cost_picture:
    input:
        metrics=f"{RESULTS}/metrics.csv",
    output:
        report(f"{RESULTS}/cost_{{split}}.png", category="G study", caption="../report/cost.rst"),
    log:
        f"{LOGS}/cost_picture/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("cost_picture"),
    script:
        "../scripts/cost_picture.py"
