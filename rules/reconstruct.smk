"""Phase F: reconstructions of the same exposures, each by itself: LSQML, TV-MAP, and what a network adds to that."""


rule iterate:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
    log:
        f"{LOGS}/iterate/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}.log",
    benchmark:
        f"{COST}/iterate/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}.tsv"
    wildcard_constraints:
        method="lsqml",
    conda:
        "../envs/ptychi.yaml"
    threads: 1
    resources:
        mem="4GiB",
        runtime="4h",
    params:
        iterative=config["iterative"],
        code=code("iterate"),
    script:
        "../scripts/iterate.py"


rule regularise:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
    log:
        f"{LOGS}/regularise/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}.log",
    benchmark:
        f"{COST}/regularise/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}.tsv"
    wildcard_constraints:
        method="tv",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="2GiB",
        runtime="4h",
    params:
        tv=config["tv"],
        code=code("regularise"),
    script:
        "../scripts/regularise.py"


rule refine:
    input:
        scan=f"{DATA}/{{split}}.npz",
        view=f"{CONDITION}/{{split}}.npz",
        tv=f"{CONDITION}/{{split}}/tv/object.npz",
    output:
        object=f"{CONDITION}/{{split}}/{{method}}/object.npz",
        whole=f"{CONDITION}/{{split}}/{{method}}/ingredients/whole.npz",
        deals=f"{CONDITION}/{{split}}/{{method}}/ingredients/deals.npz",
        history=f"{CONDITION}/{{split}}/{{method}}/history.csv",
    log:
        f"{LOGS}/refine/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}.log",
    benchmark:
        f"{COST}/refine/{OBJECT}dose_{{dose}}/{{view}}/seed_{{seed}}/{{split}}/{{method}}.tsv"
    wildcard_constraints:
        method="refined",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="4GiB",
        runtime="4h",
    params:
        tv=config["tv"],
        refined=config["refined"],
        code=code("refine"),
    script:
        "../scripts/refine.py"
