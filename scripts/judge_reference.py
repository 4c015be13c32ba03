"""Judge the reference of a measured study by photons that it was not made from: those of the study."""

import json
from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.limit_threads(snakemake.threads)

import numpy as np

from ptycho.data.object_files import load_reconstruction
from ptycho.data.scan import open_scan
from ptycho.formats.reconstructions import read_candidate
from ptycho.inspection.judgment import judge
from ptycho.inspection.position_refinement import KEY, PositionRefinement
from ptycho.reporting.curves import read_history
from ptycho.reporting.figures import save
from ptycho.reporting.knowledge_figures import plot_knowledge
from ptycho.reporting.measured import refinement_note
from ptycho.reporting.misfit_figures import plot_judgments
from ptycho.reporting.misfits import judged_of, judgment_text
from ptycho.scoring.knowledge import known_by
from ptycho.workflow.damage import sealed
from ptycho.workflow.files import save_text
from ptycho.workflow.provenance import record_of

scan, output, record = open_scan(snakemake.input.scan), snakemake.output, record_of(snakemake, __file__)
reference, metadata = load_reconstruction(snakemake.input.reference)
gain = PositionRefinement.read(metadata, snakemake.input.reference)
files = [snakemake.input.reference, *(snakemake.input.recorded if gain and gain.is_kept else [])]
judgments = [judge(read_candidate(path, scan), scan) for path in files]
heading = f"reference, judged by the photons of the study in {judged_of(judgments, len(scan))} exposures"
figure = plot_judgments(judgments, heading, history=read_history(snakemake.input.history, "epoch", "loss"))
save(figure, output.figure, record)
known = known_by(reference, scan) or scan
changed = [name for name in ("probe", "positions") if getattr(reference.refined, name) is not None]
save(plot_knowledge(scan, known, np.arange(len(scan)), changed), output.refined, record)
text = judgment_text(judgments, heading)
numbers = {**judgments[0].as_dict(), "provenance": record}
if gain:
    text += f"{refinement_note(gain)}\n"
    numbers[KEY] = gain.as_dict()
save_text(output.text, text)
save_text(output.numbers, json.dumps(sealed(numbers), indent=2) + "\n")
print(text)
