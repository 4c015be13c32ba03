"""Check a measured scan: page, figure, text and verdict. It always succeeds; the reference refuses a bad verdict."""

from typing import TYPE_CHECKING

from ptycho.workflow import job

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
job.measure(snakemake.output.cost)
job.limit_threads(snakemake.threads)

from ptycho.inspection.support import Request
from ptycho.reporting.check_files import check_file, write_check
from ptycho.reporting.check_page import verdict_text
from ptycho.workflow.provenance import record_of

# From the config and not from params: a study that asks for another dose later needs no other check, and no reference.
config, page = snakemake.config, snakemake.output.page
request = Request(doses=tuple(config["doses"]), views=dict(config["views"]))
verdict, check = check_file(snakemake.input[0], grouping=config["grouping"], request=request)
write_check(page.removesuffix(".html"), verdict, check, provenance=record_of(snakemake, __file__))
print(verdict_text(verdict))
