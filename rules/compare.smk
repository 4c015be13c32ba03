"""Phase G: align and score all methods under a condition, then the study's table, figure and summary."""


rule compare:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        region=REGION,
        objects=object_files,
        knowledge=lambda wildcards: sorted(set(knowledge_by_method(METHODS)(wildcards).values())),
    output:
        metrics=f"{CONDITION}/{{split}}/comparison_metrics.csv",
        arrays=f"{CONDITION}/{{split}}/comparison.npz",
        frc=f"{CONDITION}/{{split}}/frc.csv",
        cost=f"{COST}/compare/{UNDER}/{{split}}.tsv",
    log:
        f"{LOGS}/compare/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=through_frames(10, 3),
    params:
        methods=METHODS,
        knowledge=knowledge_by_method(METHODS),
        reference_name=REFERENCE_NAME,
        code=code("compare"),
    script:
        "../scripts/compare.py"


rule plot_comparison:
    input:
        arrays=f"{CONDITION}/{{split}}/comparison.npz",
        metrics=f"{CONDITION}/{{split}}/comparison_metrics.csv",
        region=REGION,
    output:
        report(
            f"{CONDITION}/{{split}}/comparison.png",
            category="G comparison",
            subcategory="side by side",
            caption="../report/comparison.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/plot_comparison/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        reference_name=REFERENCE_NAME,
        code=code("plot_comparison"),
    script:
        "../scripts/plot_comparison.py"


rule plot_frc:
    input:
        f"{CONDITION}/{{split}}/frc.csv",
    output:
        report(
            f"{CONDITION}/{{split}}/frc.png",
            category="G comparison",
            subcategory=f"FRC with the {REFERENCE_NAME}",
            caption="../report/frc.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/plot_frc/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        reference_name=REFERENCE_NAME,
        code=code("plot_frc"),
    script:
        "../scripts/plot_frc.py"


if not MEASURED:

    rule photon_bound:
        input:  # exposures are those of every dose and seed, and errors fall with the square root of the dose
            scan=f"{RESULTS}/{OBJECT}data/dose_{DOSES[0]}/seed_{SEEDS[0]}/{{split}}.npz",
            view=f"{RESULTS}/{OBJECT}dose_{DOSES[0]}/{{view}}/seed_{SEEDS[0]}/{{split}}.npz",
            region=REGION,
        output:
            bound=f"{RESULTS}/{OBJECT}bound/{{view}}/{{split}}.csv",
            provenance=f"{RESULTS}/{OBJECT}bound/{{view}}/{{split}}.provenance.json",
            cost=f"{COST}/photon_bound/{OBJECT}{{view}}/{{split}}.tsv",
        log:
            f"{LOGS}/photon_bound/{OBJECT}{{view}}/{{split}}.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            # probes and waves of all exposures, complex64 each: four times the scan's float32; a draw adds 1 MB
            mem_mb=lambda wildcards, input, attempt: (1000 + 4 * int(input.size_mb)) * attempt,
            runtime=per_attempt(20),
        params:
            doses=DOSES,
            draws=4,
            code=code("photon_bound"),
        script:
            "../scripts/photon_bound.py"


rule summarize:
    input:
        metrics=collect(f"{CONDITION}/{{split}}/comparison_metrics.csv", **CONDITIONS, split=SPLITS),
        views=collect(f"{VIEW}/{{split}}.json", **CONDITIONS, split=SPLITS),
        tiles=collect(f"{VIEW}/{{split}}_tiles.json", **CONDITIONS, split=TILED),
        train_views=collect(f"{VIEW}/train.json", **CONDITIONS),
        training=collect(f"{COST}/train/{UNDER}/{{method}}.tsv", **CONDITIONS, method=NETWORKS),
        bounds=BOUNDS,
        verdict=VERDICT or [],
        reference=MISFIT_OF_REFERENCE[:1],
    output:
        metrics=f"{RESULTS}/metrics.csv",
        differences=f"{RESULTS}/differences.csv",
        fluence=f"{RESULTS}/fluence.csv",
        training=f"{RESULTS}/training.csv",
        bound=f"{RESULTS}/bound.csv",
        price=f"{RESULTS}/price.csv",
        summary=f"{RESULTS}/summary.txt",
        provenance=f"{RESULTS}/metrics.provenance.json",
    log:
        f"{LOGS}/summarize.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        study=config["study"],
        results=lambda wildcards, output: output.metrics.rpartition("/")[0],
        reference_name=REFERENCE_NAME,
        code=code("summarize"),
    script:
        "../scripts/summarize.py"


rule plot_quality:
    input:
        metrics=f"{RESULTS}/metrics.csv",
        fluence=f"{RESULTS}/fluence.csv",
        bound=f"{RESULTS}/bound.csv",
    output:
        report(f"{RESULTS}/quality_{{split}}_{{metric}}.png", category="G study", caption="../report/quality.rst"),
    log:
        f"{LOGS}/plot_quality/{{split}}_{{metric}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("plot_quality"),
    script:
        "../scripts/plot_quality.py"


rule plot_price:
    input:
        price=f"{RESULTS}/price.csv",
        fluence=f"{RESULTS}/fluence.csv",
    output:
        report(f"{RESULTS}/price.png", category="G study", caption="../report/price.rst"),
    log:
        f"{LOGS}/plot_price.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("plot_price"),
    script:
        "../scripts/plot_price.py"


rule plot_cost:
    input:
        metrics=f"{RESULTS}/metrics.csv",
    output:
        report(f"{RESULTS}/cost_{{split}}.png", category="G study", caption="../report/cost.rst"),
    log:
        f"{LOGS}/plot_cost/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("plot_cost"),
    script:
        "../scripts/plot_cost.py"
