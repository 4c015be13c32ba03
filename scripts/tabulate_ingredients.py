"""Put what the parts of methods give in one tidy table, and as text: mean and standard deviation over seeds."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ptycho import log
from ptycho.provenance import record_of, save_record
from ptycho.tables import spread_table

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake

log.to_file(snakemake.log[0])
metrics = pd.concat([pd.read_csv(path) for path in snakemake.input], ignore_index=True)
metrics.to_csv(snakemake.output.metrics, index=False)
save_record(snakemake.output.provenance, record_of(snakemake, __file__))
Path(snakemake.output.table).write_text(spread_table(metrics) + "\n")
