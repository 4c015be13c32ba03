"""Phase D: overlap views, their groups and numbers, tiles to apply networks to, and the rectangle that is scored."""


rule view:
    input:
        scan=f"{DATA}/{{split}}.npz",
    output:
        view=f"{VIEW}/{{split}}.npz",
        numbers=f"{VIEW}/{{split}}.json",
        cost=f"{COST}/view/{SELECTION}/{{split}}.tsv",
    log:
        f"{LOGS}/view/{SELECTION}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1200),
        runtime=through_frames(10, 3),
    params:
        overlap=lambda wildcards: config["views"][wildcards.view],
        holdout_fraction=config["grouping"]["holdout_fraction"],
        grouping=lambda wildcards: config["grouping"] if wildcards.split == "train" else None,  # to train on
        seed=config["source"]["seed"],
        code=code("view"),
    script:
        "../scripts/view.py"


rule tiles:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
    output:
        tiles=f"{VIEW}/{{split}}_tiles.npz",
        numbers=f"{VIEW}/{{split}}_tiles.json",
    log:
        f"{LOGS}/tiles/{SELECTION}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        tile_px=config["inference"]["tile_px"],
        halo_px=config["inference"]["halo_px"],
        code=code("tiles"),
    script:
        "../scripts/tiles.py"


rule plot_view:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{VIEW}/{{split}}.npz",
        tiles=tile_files,
    output:
        report(
            f"{VIEW}/{{split}}.png",
            category="D views",
            caption="../report/view.rst",
            labels=VIEW_LABELS,
        ),
    log:
        f"{LOGS}/plot_view/{SELECTION}/{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("plot_view"),
    script:
        "../scripts/plot_view.py"


rule region:
    input:
        sample=SAMPLE,
    output:
        REGION,
    log:
        f"{LOGS}/region/{OBJECT}{{split}}.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        views=config["views"],
        code=code("region"),
    script:
        "../scripts/region.py"
