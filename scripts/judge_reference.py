"""Judge the reference of a measured study by photons that it was not made from: those of the study."""

import json
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.limit_threads(snakemake.threads)

from ptycho.data.scan import open_scan
from ptycho.formats.reconstructions import read_candidate
from ptycho.inspection.judgment import judge
from ptycho.reporting.curves import read_history
from ptycho.reporting.figures import save
from ptycho.reporting.misfit_figures import plot_judgments
from ptycho.reporting.misfits import judged_of, judgment_text
from ptycho.workflow.damage import sealed
from ptycho.workflow.files import save_text
from ptycho.workflow.provenance import record_of

scan, output = open_scan(snakemake.input.scan), snakemake.output
judgment, record = judge(read_candidate(snakemake.input.reference, scan), scan), record_of(snakemake, __file__)
heading = f"reference, judged by the photons of the study in {judged_of([judgment], len(scan))} exposures"
figure = plot_judgments([judgment], heading, history=read_history(snakemake.input.history, "epoch", "loss"))
save(figure, output.figure, record)
text = judgment_text([judgment], heading)
save_text(output.text, text)
save_text(output.numbers, json.dumps(sealed({**judgment.as_dict(), "provenance": record}), indent=2) + "\n")
print(text)
