"""Phase D, where the config says that something is refined: what all methods then take for known."""


rule refine_knowledge:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        told=told_of("{split}"),
    output:
        knowledge=f"{CONDITION}/{{split}}_knowledge.npz",
        history=f"{CONDITION}/{{split}}_knowledge/history.csv",
        cost=f"{COST}/refine_knowledge/{UNDER}/{{split}}.tsv",
    log:
        f"{LOGS}/refine_knowledge/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=keeping_a_tile(1000, times=2),
        runtime=through_frames(40, 1200),
        gpu=GPUS_OF_TV,
    params:
        unknown=unknown,
        refinement=config["refinement"],
        code=code("refine_knowledge"),
    script:
        "../scripts/refine_knowledge.py"


rule plot_knowledge:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        told=told_of("{split}"),
        knowledge=f"{CONDITION}/{{split}}_knowledge.npz",
    output:
        report(
            f"{CONDITION}/{{split}}_knowledge.png",
            category="D views",
            caption="../report/knowledge.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/plot_knowledge/{UNDER}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        unknown=unknown,
        code=code("plot_knowledge"),
    script:
        "../scripts/plot_knowledge.py"
