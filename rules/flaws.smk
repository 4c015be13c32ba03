"""Flaws: what methods are told wrong of a scan; their table, and the error against their size. For `flaws` in the config."""

FLAW_FIGURES = []
if FLAWS:

    FLAW_FIGURES = collect(f"{RESULTS}/flaws_{{split}}_{{metric}}.png", split=SPLITS, metric=["error", "error_affine"])

    rule tell:
        input:
            scan=f"{DATA}/{{split}}.npz",
        output:
            f"{TOLD}/{{split}}_told.npz",
        log:
            f"{LOGS}/tell/{OBJECT}{FLAW}dose_{{dose}}/seed_{{seed}}/{{split}}.log",
        localrule: True
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(10),
        params:
            flaw=lambda wildcards: {
                key: value for key, value in config["flaws"][wildcards.flaw].items() if key != "knowledge"
            },
            probe=config["source"].get("probe"),
            seed=config["source"]["seed"],
            code=code("tell"),
        script:
            "../scripts/tell.py"

    rule tabulate_flaws:
        input:
            metrics=f"{RESULTS}/metrics.csv",
        output:
            flaws=f"{RESULTS}/flaws.csv",
            provenance=f"{RESULTS}/flaws.provenance.json",
        log:
            f"{LOGS}/tabulate_flaws.log",
        localrule: True
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(10),
        params:
            kinds={name: flaw_kind(config, name)._asdict() for name in FLAWS["flaw"]},
            refined={name: {method: unknown_of(config, name, method) for method in METHODS} for name in FLAWS["flaw"]},
            code=code("tabulate_flaws"),
        script:
            "../scripts/tabulate_flaws.py"

    rule plot_flaws:
        input:
            f"{RESULTS}/flaws.csv",
        output:
            report(f"{RESULTS}/flaws_{{split}}_{{metric}}.png", category="G study", caption="../report/flaws.rst"),
        log:
            f"{LOGS}/plot_flaws/{{split}}_{{metric}}.log",
        localrule: True
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(10),
        params:
            code=code("plot_flaws"),
        script:
            "../scripts/plot_flaws.py"
