"""What the parts of the unrolled and of the refined network buy: the same scans and scores, some parts left out."""


rule ablate:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        model=f"{CONDITION}/unrolled/model.keras",
        knowledge=knowledge_of("{split}", "unrolled"),
    output:
        collect(
            f"{CONDITION}/{{split}}/unrolled/ablation/{{part}}.npz", part=KNOWN["unrolled"].parts, allow_missing=True
        ),
    log:
        f"{LOGS}/ablate/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=keeping_a_tile(3000),
        runtime=per_attempt(30),
    params:
        code=code("ablate"),
    script:
        "../scripts/ablate.py"


rule score_ablation:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        region=REGION,
        objects=list(ABLATION.values()),
        knowledge=lambda wildcards: sorted(set(knowledge_by_method(ABLATION)(wildcards).values())),
    output:
        metrics=f"{CONDITION}/{{split}}/ablation_metrics.csv",
        arrays=f"{CONDITION}/{{split}}/ablation.npz",
        frc=f"{CONDITION}/{{split}}/ablation_frc.csv",
        cost=f"{COST}/score_ablation/{UNDER}/{{split}}.tsv",
    log:
        f"{LOGS}/score_ablation/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(2000),
        runtime=per_attempt(10),
    params:
        methods=list(ABLATION),
        knowledge=knowledge_by_method(ABLATION),
        reference_name=REFERENCE_NAME,
        code=code("compare"),
    script:
        "../scripts/compare.py"


rule tabulate_ablation:
    input:
        ablation_metrics,
    output:
        metrics=f"{RESULTS}/ablation.csv",
        table=f"{RESULTS}/ablation.txt",
        provenance=f"{RESULTS}/ablation.provenance.json",
    log:
        f"{LOGS}/tabulate_ablation.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("tabulate_ablation"),
    script:
        "../scripts/tabulate_ablation.py"
