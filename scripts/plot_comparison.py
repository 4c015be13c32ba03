"""Plot the truth, or the reference of a measured study, and all methods under one condition, with error maps."""

from typing import TYPE_CHECKING

from ptycho.data.contract import check_pixel_size
from ptycho.data.tables import read_table
from ptycho.reporting.figures import plot_comparison, save
from ptycho.reporting.image_panels import add_scale_bars
from ptycho.scoring.evaluate import load_comparison
from ptycho.scoring.metric_tables import COLUMNS, warnings_of
from ptycho.scoring.region import Region
from ptycho.workflow import job
from ptycho.workflow.files import ContractError
from ptycho.workflow.paths import label
from ptycho.workflow.provenance import record_of

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

job.log_to(snakemake.log[0])
arrays, metadata = load_comparison(snakemake.input.arrays)
pixel_m = check_pixel_size(snakemake.input.arrays, metadata.get("pixel_size_m"))
region = Region.load(snakemake.input.region)
if region.shape != arrays["truth"].shape:
    found = f"{snakemake.input.region}: a rectangle of {region.shape} px"
    raise ContractError(f"{found}; {snakemake.input.arrays} has {arrays['truth'].shape}")
table = read_table(snakemake.input.metrics, *COLUMNS)
metrics = {method: dict(zip(rows["metric"], rows["value"], strict=True)) for method, rows in table.groupby("method")}
figure = plot_comparison(
    arrays,
    metrics,
    label(dict(snakemake.wildcards.items())),
    origin_px=region.origin_px,
    warnings=warnings_of(table),
    reference_name=snakemake.params.reference_name,
)
add_scale_bars(figure, pixel_m)
save(figure, snakemake.output[0], record_of(snakemake, __file__))
