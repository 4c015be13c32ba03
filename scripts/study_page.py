"""The study's page: question, answer, numbers, images, convergence, cost, and how to reproduce them."""

import base64
import platform
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ptycho.data.numbers import read_tile_numbers, read_view_numbers
from ptycho.data.written import check_unchanged
from ptycho.reporting import page
from ptycho.reporting.prices import price_rows
from ptycho.reporting.study_tables import costs, design
from ptycho.scoring.metric_tables import of_flaw, read_scores
from ptycho.scoring.price import read_prices
from ptycho.workflow import code_digests, job, provenance
from ptycho.workflow.damage import read_text
from ptycho.workflow.files import save_text

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
files, params, captions = snakemake.input, snakemake.params, Path(snakemake.params.captions)


def captioned(paths, name):
    return page.figures(paths, captions / f"{name}.rst", params.reference_name)


check_unchanged(files.summary)
metrics, fluence = read_scores(files.metrics, files.fluence)
prices, _ = read_prices(files.price, files.fluence)
quality = captioned(files.quality, "quality")
conditions = list(chain.from_iterable(captioned([path], Path(path).stem) for path in files.conditions))
figures = {
    "sample": captioned(files.sample, "sample"),
    "views": captioned(files.views, "view"),
    "reference": captioned(files.check, "check") + captioned(files.reference, "reference"),
    "convergence": captioned(files.history, "history"),
    "cost": captioned(files.cost, "cost"),
    "price": captioned([files.price_figure], "price"),
    "flaws": captioned(files.flaws, "flaws"),
}
text = page.config_text(params.config)
html = page.render(
    files.template,
    **page.study_content(params.config, metrics, fluence, params.answer),
    **figures,
    reference_name=params.reference_name,
    quality=page.by_split(quality),
    price_rows={split: price_rows(of_flaw(prices), split) for split in params.config["splits"]},
    images=page.by_condition(conditions),
    config_text=text,
    config_encoded=base64.b64encode(text.encode()).decode(),
    design=design(
        {path: read_view_numbers(path) for path in files.numbers},
        {path: read_tile_numbers(path) for path in files.tiles},
    ),
    warnings=page.warnings_in(read_text(files.summary)),
    jobs=costs(params.costs, params.config).to_dict("records"),
    made=f"{datetime.now():%d %B %Y, %H:%M}",
    code=code_digests.library_digest(),
    commit=provenance.commit(captions),
    digests={Path(script).stem: code_digests.script_digest(script) for script in params.scripts},
    versions={"python": platform.python_version(), **provenance.dependency_versions("ptycho")},
    workflow=page.without_figures(read_text(files.workflow), [*quality, *conditions, *chain(*figures.values())]),
)
save_text(snakemake.output[0], html)
provenance.save_record(snakemake.output.provenance, provenance.record_of(snakemake, __file__))
print(f"{len(html) / 1e6:.1f} MB")
