"""Phase H: the study as one self-contained page, Snakemake's own report inside it."""

# Of several objects, flaws and seeds the page shows the first, of images also the other objects; Snakemake's report has
# all.
IMAGES = {**CONDITIONS, **{name: values[0] for name, values in FLAWS.items()}, "seed": SEEDS[0]}
FIRST = {**IMAGES, **{name: values[0] for name, values in OBJECTS.items()}}
PAGE = f"{workflow.basedir}/report"
# Figures {name}.png of a condition, with their captions report/{name}.rst.
PER_CONDITION = ["comparison", "frc", *(["half_frc"] if HALVES else [])]


rule workflow_report:
    input:
        lambda wildcards: rules.all.input,
    output:
        temp(f"{RESULTS}/workflow.html"),
    log:
        f"{LOGS}/workflow_report.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        config=config,
        snakefile=f"{workflow.basedir}/Snakefile",
    script:
        "../scripts/workflow_report.py"


rule study_page:
    input:
        metrics=f"{RESULTS}/metrics.csv",
        fluence=f"{RESULTS}/fluence.csv",
        summary=f"{RESULTS}/summary.txt",
        price=f"{RESULTS}/price.csv",
        price_figure=f"{RESULTS}/price.png",
        numbers=collect(f"{VIEW}/{{split}}.json", **FIRST, split=SPLITS),
        tiles=collect(f"{VIEW}/{{split}}_tiles.json", **FIRST, split=TILED),
        sample=collect(f"{RESULTS}/{OBJECT}data/sample.png", **OBJECTS),
        reference=MISFIT_OF_REFERENCE[1:],
        check=[f"{RESULTS}/data/check.png"] if MEASURED else [],
        views=collect(f"{VIEW}/{{split}}.png", **{**FIRST, "dose": DOSES[0]}, split=SPLITS),
        quality=QUALITY,
        flaws=FLAW_FIGURES,
        cost=collect(f"{RESULTS}/cost_{{split}}.png", split=SPLITS),
        conditions=collect(f"{CONDITION}/{{split}}/{{name}}.png", **IMAGES, split=SPLITS, name=PER_CONDITION),
        history=collect(f"{CONDITION}/{{method}}/history.png", **FIRST, method=NETWORK_CURVES)
        + collect(f"{CONDITION}/{{split}}/{{method}}/history.png", **FIRST, split=SPLITS, method=SOLVER_CURVES),
        workflow=f"{RESULTS}/workflow.html",
        template=f"{PAGE}/study_page.html.jinja",
        style=f"{PAGE}/study_page.css",
    output:
        f"{RESULTS}/report.html",
        provenance=f"{RESULTS}/report.provenance.json",
    log:
        f"{LOGS}/study_page.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        config=config,
        costs=lambda wildcards: COST,
        captions=lambda wildcards: PAGE,
        scripts=sorted(map(str, Path(workflow.basedir, "scripts").glob("*.py"))),
        answer="heldout_deviance" if MEASURED else "ssim_phase",  # the metric of the figure that comes first
        reference_name=REFERENCE_NAME,
        code=code("study_page"),
    script:
        "../scripts/study_page.py"
