"""Inference: trained models over the tiles of a view in chunks, a canvas per tile; the merge adds them."""


rule infer_network:
    input:
        scan=f"{DATA}/{{split}}.npz",
        tiles=f"{VIEW}/{{split}}_tiles.npz",
        model=f"{CONDITION}/{{method}}/model.keras",
        knowledge=knowledge_of("{split}"),
    output:
        f"{CONDITION}/{{split}}/{{method}}/chunks/{{i}}of{{n}}.npz",
        cost=f"{COST}/infer/{UNDER}/{{split}}/{{method}}/{{i}}of{{n}}.tsv",
    log:
        f"{LOGS}/infer/{UNDER}/{{split}}/{{method}}/{{i}}of{{n}}.log",
    wildcard_constraints:
        method=TRAINED,
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=keeping_a_tile(2500),
        runtime=through_frames(10, 80),
        gpu=lambda wildcards: GPUS_OF_TV if wildcards.get("method") == "unrolled" else 0,
    params:
        batch_size=config["inference"]["batch_size"],
        where={key: config["tv"][key] for key in ("device", "device_memory")},
        code=code("infer_network"),
    script:
        "../scripts/infer_network.py"


rule merge:
    input:
        tiles=f"{VIEW}/{{split}}_tiles.npz",
        model=f"{CONDITION}/{{method}}/model.keras",
        chunks=chunk_files(f"{CONDITION}/{{split}}/{{method}}"),
    output:
        f"{CONDITION}/{{split}}/{{method}}/object.npz",
        cost=f"{COST}/merge/{UNDER}/{{split}}/{{method}}.tsv",
    log:
        f"{LOGS}/merge/{UNDER}/{{split}}/{{method}}.log",
    wildcard_constraints:
        method=TRAINED,
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        code=code("merge"),
    script:
        "../scripts/merge.py"
