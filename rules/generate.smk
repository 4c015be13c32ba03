"""Phase C: one data set per dose, seed and split, simulated or thinned from a measurement."""

if MEASURED:

    if config["source"]["scan"] == "siemens":

        rule fetch:
            output:
                f"{RESULTS}/data/siemens-star-small.npz.bz2",
                provenance=f"{RESULTS}/data/siemens-star-small.provenance.json",
            log:
                f"{LOGS}/fetch.log",
            retries: 2
            localrule: True  # the nodes of a cluster may have no way to the package index
            conda:
                "../envs/ptycho.yaml"
            threads: 1
            resources:
                mem="1GiB",
                runtime="10m",
            params:
                code=code("fetch"),
            script:
                "../scripts/fetch.py"

        rule convert:
            input:
                f"{RESULTS}/data/siemens-star-small.npz.bz2",
            output:
                f"{RESULTS}/data/measured.npz",
            log:
                f"{LOGS}/convert.log",
            conda:
                "../envs/ptycho.yaml"
            threads: 1
            resources:
                mem="1GiB",
                runtime="10m",
            params:
                code=code("convert"),
            script:
                "../scripts/convert.py"

    rule halve:
        input:
            f"{RESULTS}/data/measured.npz" if config["source"]["scan"] == "siemens" else config["source"]["scan"],
        output:
            reference=f"{RESULTS}/data/half_reference.npz",
            study=f"{RESULTS}/data/half_study.npz",
        log:
            f"{LOGS}/halve.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem="1GiB",
            runtime="30m",
        params:
            seed=config["source"]["seed"],
            code=code("halve"),
        script:
            "../scripts/halve.py"

    rule reference:
        input:
            f"{RESULTS}/data/half_reference.npz",
        output:
            reconstruction=f"{RESULTS}/data/reference.npz",
            curve=f"{RESULTS}/data/reference.csv",
        log:
            f"{LOGS}/reference.log",
        benchmark:
            f"{COST}/reference.tsv"
        conda:
            "../envs/ptychi.yaml"
        threads: 2
        resources:
            mem="4GiB",
            runtime="1h",
        params:
            options=config["source"]["reference"],
            seed=config["source"]["seed"],
            code=code("reference"),
        script:
            "../scripts/reference.py"

    rule sample:
        input:
            scan=f"{RESULTS}/data/half_study.npz",
            reference=f"{RESULTS}/data/reference.npz",
        output:
            f"{RESULTS}/{OBJECT}data/sample.npz",
        log:
            f"{LOGS}/sample.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem="1GiB",
            runtime="10m",
        params:
            train_fraction=config["source"]["train_fraction"],
            code=code("split_measured"),
        script:
            "../scripts/split_measured.py"

    rule expose:
        input:
            sample=f"{RESULTS}/{OBJECT}data/sample.npz",
            scan=f"{RESULTS}/data/half_study.npz",
        output:
            f"{DATA}/{{split}}.npz",
        log:
            f"{LOGS}/expose/{OBJECT}dose_{{dose}}/seed_{{seed}}/{{split}}.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem="1GiB",
            runtime="30m",
        params:
            code=code("thin"),
        script:
            "../scripts/thin.py"

else:

    rule sample:
        input:
            source_files,
        output:
            f"{RESULTS}/{OBJECT}data/sample.npz",
        log:
            f"{LOGS}/{OBJECT}sample.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem="1GiB",
            runtime="10m",
        params:
            source=source_of,
            code=code("sample"),
        script:
            "../scripts/sample.py"

    rule expose:
        input:
            sample=f"{RESULTS}/{OBJECT}data/sample.npz",
        output:
            f"{DATA}/{{split}}.npz",
        log:
            f"{LOGS}/expose/{OBJECT}dose_{{dose}}/seed_{{seed}}/{{split}}.log",
        benchmark:
            f"{COST}/expose/{OBJECT}dose_{{dose}}/seed_{{seed}}/{{split}}.tsv"
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem="1GiB",
            runtime="1h",
        params:
            code=code("expose"),
        script:
            "../scripts/expose.py"


rule sample_picture:
    input:
        f"{RESULTS}/{OBJECT}data/sample.npz",
    output:
        report(f"{RESULTS}/{OBJECT}data/sample.png", category="C data", caption="../report/sample.rst"),
    log:
        f"{LOGS}/{OBJECT}sample_picture.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem="1GiB",
        runtime="10m",
    params:
        code=code("sample_picture"),
    script:
        "../scripts/sample_picture.py"
