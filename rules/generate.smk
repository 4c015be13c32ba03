"""Phase C: one data set per dose, seed and split, simulated or reduced from a measurement."""

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
                mem_mb=per_attempt(1000),
                runtime=per_attempt(10),
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
                mem_mb=per_attempt(1000),
                runtime=through_frames(10, 3),
            params:
                code=code("convert"),
            script:
                "../scripts/convert.py"

    rule check:
        input:
            MEASURED_SCAN,
        output:
            page=f"{RESULTS}/data/check.html",
            figure=report(f"{RESULTS}/data/check.png", category="C data", caption="../report/check.rst"),
            text=f"{RESULTS}/data/check.txt",
            verdict=f"{RESULTS}/data/check.json",
            cost=f"{COST}/check.tsv",
        log:
            f"{LOGS}/check.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(20),
        # No params and no digest of code: a new verdict would make the reference anew. -R check checks again.
        script:
            "../scripts/check.py"

    rule split_photons:
        input:
            scan=MEASURED_SCAN,
            verdict=VERDICT,  # only so that the page of a scan that cannot be split is there
        output:
            reference=f"{RESULTS}/data/half_reference.npz",
            study=f"{RESULTS}/data/half_study.npz",
        log:
            f"{LOGS}/split_photons.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=through_frames(10, 3),
        params:
            seed=config["source"]["seed"],
            see=f"; see {RESULTS}/data/check.html",
            code=code("split_photons"),
        script:
            "../scripts/split_photons.py"

    REFINES_REFERENCE = config["reference"]["positions"] == "refined"
    # Where its positions are refined, a first reference has the recorded ones.
    FIRST_REFERENCE = f"{RESULTS}/data/reference{'_recorded' if REFINES_REFERENCE else ''}"
    LSQML_OF_REFERENCE = {key: config["reference"][key] for key in ("epochs", "batch_size")} | {
        "device": config["lsqml"]["device"]
    }

    rule reference:
        input:
            scan=f"{RESULTS}/data/half_reference.npz",
            verdict=VERDICT,  # a bad one is refused
        output:
            object=f"{FIRST_REFERENCE}.npz",
            history=f"{FIRST_REFERENCE}.csv",
            cost=f"{COST}/reference.tsv",
        log:
            f"{LOGS}/reference.log",
        conda:
            "../envs/ptychi.yaml"
        threads: 1  # a second one of PyTorch's waits more than it works
        resources:
            mem_mb=holding_frames(4000),
            runtime=through_frames(60, 2000),
            gpu=GPUS_OF_LSQML,
        params:
            lsqml=LSQML_OF_REFERENCE,
            modes=config["reference"]["modes"],
            seed=config["source"]["seed"],
            code=code("reference"),
        script:
            "../scripts/reference.py"

    if REFINES_REFERENCE:

        rule refine_reference:
            input:
                scan=f"{RESULTS}/data/half_reference.npz",
                reference=f"{FIRST_REFERENCE}.npz",
                history=f"{FIRST_REFERENCE}.csv",
                study=f"{RESULTS}/data/half_study.npz",  # only to choose one of two
            output:
                object=f"{RESULTS}/data/reference.npz",
                history=f"{RESULTS}/data/reference.csv",
                refinement=f"{RESULTS}/data/reference_refinement.csv",
                cost=f"{COST}/refine_reference.tsv",
            log:
                f"{LOGS}/refine_reference.log",
            conda:
                "../envs/ptychi.yaml"
            threads: 1
            resources:
                mem_mb=holding_frames(4000),
                runtime=through_frames(120, 1200),
                gpu=max(GPUS_OF_LSQML, GPUS_OF_TV),
            params:
                lsqml=LSQML_OF_REFERENCE,
                refinement=config["refinement"],
                seed=config["source"]["seed"],
                code=code("refine_reference"),
            script:
                "../scripts/refine_reference.py"

    rule judge_reference:
        input:
            scan=f"{RESULTS}/data/half_study.npz",
            reference=f"{RESULTS}/data/reference.npz",
            recorded=[f"{FIRST_REFERENCE}.npz"] if REFINES_REFERENCE else [],
            history=f"{RESULTS}/data/reference.csv",
        output:
            refined=report(
                f"{RESULTS}/data/reference_refined.png",
                category="C data",
                caption="../report/reference_refined.rst",
            ),
            figure=report(f"{RESULTS}/data/reference_misfit.png", category="C data", caption="../report/reference.rst"),
            text=f"{RESULTS}/data/reference_misfit.txt",
            numbers=f"{RESULTS}/data/reference_misfit.json",
        log:
            f"{LOGS}/judge_reference.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(2000),
            runtime=per_attempt(10),
        params:
            code=code("judge_reference"),
        script:
            "../scripts/judge_reference.py"

    rule split_measured:
        input:
            scan=f"{RESULTS}/data/half_study.npz",
            reference=f"{RESULTS}/data/reference.npz",
        output:
            SAMPLE,
        log:
            f"{LOGS}/split_measured.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=through_frames(10, 3),
        params:
            train_fraction=config["source"]["train_fraction"],
            code=code("split_measured"),
        script:
            "../scripts/split_measured.py"

    rule recorded_knowledge:
        input:
            sample=SAMPLE,
            scan=f"{DATA}/{{split}}.npz",
            recorded=f"{RESULTS}/data/half_study.npz",
            reference=f"{RESULTS}/data/reference.npz",
        output:
            f"{DATA}/{{split}}_told.npz",
        log:
            f"{LOGS}/recorded_knowledge/{SCAN}/{{split}}.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(10),
        params:
            unknown=unknown,
            modes=config["reference"]["modes"],
            code=code("recorded_knowledge"),
        script:
            "../scripts/recorded_knowledge.py"

    rule reduce_dose:
        input:
            sample=SAMPLE,
            scan=f"{RESULTS}/data/half_study.npz",
        output:
            f"{DATA}/{{split}}.npz",
        log:
            f"{LOGS}/reduce_dose/{SCAN}/{{split}}.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=through_frames(30, 3),
        params:
            code=code("reduce_dose"),
        script:
            "../scripts/reduce_dose.py"

else:

    rule sample:
        input:
            source_files,
        output:
            SAMPLE,
        log:
            f"{LOGS}/{OBJECT}sample.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(10),
        params:
            source=source_of,
            code=code("sample"),
        script:
            "../scripts/sample.py"

    rule simulate_scan:
        input:
            sample=SAMPLE,
        output:
            f"{DATA}/{{split}}.npz",
            cost=f"{COST}/simulate_scan/{SCAN}/{{split}}.tsv",
        log:
            f"{LOGS}/simulate_scan/{SCAN}/{{split}}.log",
        conda:
            "../envs/ptycho.yaml"
        threads: 1
        resources:
            mem_mb=per_attempt(1000),
            runtime=per_attempt(10),
        params:
            detector=config["source"].get("detector", {}),
            seed=config["source"]["seed"],
            code=code("simulate_scan"),
        script:
            "../scripts/simulate_scan.py"


rule plot_sample:
    input:
        SAMPLE,
    output:
        report(f"{RESULTS}/{OBJECT}data/sample.png", category="C data", caption="../report/sample.rst"),
    log:
        f"{LOGS}/{OBJECT}plot_sample.log",
    conda:
        "../envs/ptycho.yaml"
    threads: 1
    resources:
        mem_mb=per_attempt(1000),
        runtime=per_attempt(10),
    params:
        reference_name=REFERENCE_NAME,
        code=code("plot_sample"),
    script:
        "../scripts/plot_sample.py"
