"""The study's page: what was asked, the answer, images, convergence, cost, and what it takes to do it again."""

import base64
import json
import platform
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ptycho.reporting.page import by_condition, by_split, config_text, pictures, render, warnings_in, without_pictures
from ptycho.reporting.study_tables import costs, design, metric_tables, pairwise_wins
from ptycho.reporting.tables import repeats, varied
from ptycho.workflow import job
from ptycho.workflow.files import save_text
from ptycho.workflow.provenance import (
    commit,
    dependency_versions,
    library_digest,
    record_of,
    save_record,
    script_digest,
)

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
config, files, captions = snakemake.params.config, snakemake.input, Path(snakemake.params.captions)
answer = snakemake.params.answer
metrics, fluence = pd.read_csv(files.metrics), pd.read_csv(files.fluence)
quality = pictures(files.quality, captions / "quality.rst")
conditions = [picture for path in files.conditions for picture in pictures([path], captions / f"{Path(path).stem}.rst")]
shown = {
    "sample": pictures(files.sample, captions / "sample.rst"),
    "views": pictures(files.views, captions / "view.rst"),
    "convergence": pictures(files.history, captions / "history.rst"),
    "cost": pictures(files.cost, captions / "cost.rst"),
}
text = config_text(config, snakemake.params.configfiles)
html = render(
    files.template,
    **shown,
    answer=answer,
    quality=by_split(quality),
    images=by_condition(conditions),
    config=config,
    objects=list(config["objects"].values()) if "objects" in config else [config["source"].get("object")],
    overlaps=[f"{overlap} ({view})" for view, overlap in config["views"].items()],
    config_text=text,
    config_encoded=base64.b64encode(text.encode()).decode(),
    design=design({path: json.loads(Path(path).read_text()) for path in files.numbers}),
    repeats=varied(metrics) if len(metrics[repeats(metrics)].drop_duplicates()) > 1 else "",
    pairwise_wins={split: pairwise_wins(metrics, split, answer) for split in config["splits"]},
    numbers={split: metric_tables(metrics, fluence, split) for split in config["splits"]},
    warnings=warnings_in(Path(files.summary).read_text()),
    jobs=costs(snakemake.params.costs, config).to_dict("records"),
    made=f"{datetime.now():%d %B %Y, %H:%M}",
    code=library_digest(),
    commit=commit(captions),
    digests={Path(script).stem: script_digest(script) for script in snakemake.params.scripts},
    versions={"python": platform.python_version(), **dependency_versions("ptycho")},
    workflow=without_pictures(Path(files.workflow).read_text(), [*quality, *conditions, *chain(*shown.values())]),
)
save_text(snakemake.output[0], html)
save_record(snakemake.output.provenance, record_of(snakemake, __file__))
print(f"{len(html) / 1e6:.1f} MB")
