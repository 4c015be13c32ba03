"""Phase D: overlap views, their groups and numbers, and the rectangle that is scored."""


rule view:
    input:
        scan=f"{DATA}/{{split}}.npz",
    output:
        view=f"{CONDITION}/{{split}}.npz",
        numbers=f"{CONDITION}/{{split}}.json",
    log:
        f"{LOGS}/view/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    benchmark:
        f"{COST}/view/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.tsv"
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="30m",
    params:
        overlap=lambda wildcards: config["views"][wildcards.view],
        grouping=lambda wildcards: grouping_of(wildcards.split),
        seed=config["source"]["seed"],
        code=code("view"),
    script:
        "../scripts/view.py"


rule view_picture:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
    output:
        report(
            f"{CONDITION}/{{split}}.png",
            category="D views",
            caption="../report/view.rst",
            labels=LABELS,
        ),
    log:
        f"{LOGS}/view_picture/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("view_picture"),
    script:
        "../scripts/view_picture.py"


rule region:
    input:
        sample=f"{RESULTS}/{OBJECT}data/sample.npz",
    output:
        f"{RESULTS}/{OBJECT}region/{{split}}.json",
    log:
        f"{LOGS}/region/{OBJECT}{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        views=config["views"],
        code=code("region"),
    script:
        "../scripts/region.py"
