"""Phase H: the study as one self-contained page, Snakemake's own report inside it."""

SHOWN = dict(dose=DOSES, view=VIEWS, seed=SEEDS[0])  # of several seeds the page shows the first, Snakemake's report all
PAGE = f"{workflow.basedir}/report"
PER_CONDITION = ["comparison"]  # figures {name}.png of a condition, with their captions report/{name}.rst


rule workflow_report:
    input:
        lambda wildcards: rules.all.input,
    output:
        temp(f"{RESULTS}/workflow.html"),
    log:
        f"{LOGS}/workflow_report.log",
    localrule: True
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="30m",
    params:
        config=config,
        snakefile=f"{workflow.basedir}/Snakefile",
    script:
        "../scripts/workflow_report.py"


rule overview:
    input:
        metrics=f"{RESULTS}/metrics.csv",
        fluence=f"{RESULTS}/fluence.csv",
        summary=f"{RESULTS}/summary.txt",
        numbers=collect(f"{CONDITION}/{{split}}.json", **SHOWN, split=SPLITS),
        sample=f"{RESULTS}/data/sample.png",
        views=collect(f"{CONDITION}/{{split}}.png", **{**SHOWN, "dose": DOSES[0]}, split=SPLITS),
        quality=QUALITY,
        cost=collect(f"{RESULTS}/cost_{{split}}.png", split=SPLITS),
        conditions=collect(f"{CONDITION}/{{split}}/{{name}}.png", **SHOWN, split=SPLITS, name=PER_CONDITION),
        history=collect(f"{CONDITION}/{{method}}/history.png", **SHOWN, method=NETWORKS)
        + collect(f"{CONDITION}/{{split}}/{{method}}/history.png", **SHOWN, split=SPLITS, method=ITERATIVE),
        workflow=f"{RESULTS}/workflow.html",
        template=f"{PAGE}/overview.html.jinja",
        style=f"{PAGE}/overview.css",
    output:
        f"{RESULTS}/report.html",
        provenance=f"{RESULTS}/report.provenance.json",
    log:
        f"{LOGS}/overview.log",
    localrule: True
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="2GiB",
        runtime="30m",
    params:
        config=config,
        configfiles=list(map(str, workflow.configfiles)),
        costs=COST,
        captions=PAGE,
        scripts=sorted(map(str, Path(workflow.basedir, "scripts").glob("*.py"))),
        code=code("overview"),
    script:
        "../scripts/overview.py"
