"""Say in a line which method, view and dose reach a resolution, from the results of a study.

Resolution is the frequency at which the Fourier ring correlation of the phase with the truth falls to 0.5, as a
fraction of Nyquist. Doses are interpolated between those of the study, and never extrapolated.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments to a parser."""
    parser.add_argument("results", type=Path, help="results of a study, such as results/default")
    parser.add_argument(
        "--resolution", type=float, required=True, metavar="FRACTION", help="fraction of Nyquist, above 0 and at most 1"
    )
    parser.add_argument(
        "--pixel-size", type=float, metavar="NM", help="side of an object pixel, for the half period [nm]"
    )
    parser.add_argument("--view", help="answer for this view alone")
    parser.add_argument("--flaw", help="flaw of a study that has some (default: its first)")
    parser.add_argument("--split", help="split that is scored (default: test, or the only one)")


def _price_of_flaw(price: "pd.DataFrame", options: argparse.Namespace) -> "pd.DataFrame":
    """Return the prices of one flaw; all of a study that has none."""
    from ptycho.scoring.metric_tables import of_flaw

    known = list(dict.fromkeys(price["flaw"])) if "flaw" in price else []
    if options.flaw is not None and options.flaw not in known:
        raise ValueError(f"--flaw {options.flaw}; {options.results} has {', '.join(known) or 'no flaws'}")
    return of_flaw(price, options.flaw)


def run(options: argparse.Namespace) -> int:
    """Print the answer."""
    import pandas as pd

    from ptycho.data.tables import read_table
    from ptycho.formats.options import check_pixel
    from ptycho.formats.raw import METERS
    from ptycho.reporting.prices import plan_text
    from ptycho.scoring.metric_tables import COLUMNS, read_scores
    from ptycho.scoring.price import price_table

    check_pixel("--pixel-size", options.pixel_size, METERS["nm"])
    if not options.results.is_dir():
        found = "a file" if options.results.exists() else "no such folder"
        raise ValueError(f"{options.results}: {found}; wanted the folder of a study's results, such as results/default")
    metrics, fluence = read_scores(options.results / "metrics.csv", options.results / "fluence.csv")
    bound = options.results / "bound.csv"
    # that of a measured study has no rows
    if bound.is_file() and not (limits := read_table(bound, *COLUMNS, may_be_empty=True)).empty:
        metrics = pd.concat([metrics, limits], ignore_index=True)
    price = price_table(metrics, fluence, [options.resolution], options.results / "metrics.csv")
    price = _price_of_flaw(price, options)
    splits = list(dict.fromkeys(price["split"]))
    split = options.split or ("test" if "test" in splits else splits[0])
    for column, wanted in (("split", split), ("view", options.view)):
        known = sorted(set(price[column]))
        if wanted is not None and wanted not in known:
            raise ValueError(f"--{column} {wanted}; {options.results} has {', '.join(known)}")
        price = price if wanted is None else price[price[column] == wanted]
    print(plan_text(price, fluence["dose"].max(), options.pixel_size))
    return 0
