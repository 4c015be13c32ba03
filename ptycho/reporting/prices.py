"""The price of resolution in words and tables; `ptycho.scoring.price` computes it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ptycho.methods import method_name
from ptycho.reporting.study_tables import significant
from ptycho.scoring.metric_tables import FLUENCE, PHOTON_LIMIT, of_flaw
from ptycho.scoring.price import NO_VALUE, NOT_REACHED, PARTLY


def price_words(row: Mapping[Any, Any]) -> str:
    """Describe one price in a few words: '4,100 ×/÷ 1.10', '≤ 1,000', '≤ 4,100 (2 of 3)', 'not reached' or '–'.

    Parameters
    ----------
    row : dict
        Row of `ptycho.scoring.price.price_table`.
    """
    if row["status"] in (NOT_REACHED, NO_VALUE):
        return {NOT_REACHED: "not reached", NO_VALUE: "–"}[row["status"]]
    dose = _limit(row) + rounded(row["dose_photons"])
    spread = f" ×/÷ {row['sd_factor']:.2f}" if np.isfinite(row["sd_factor"]) else ""
    return f"{dose}{spread}" + (f" ({row['n_reached']} of {row['n']})" if row["status"] == PARTLY else "")


def price_rows(price: pd.DataFrame, split: str) -> list[dict[str, Any]]:
    """Lay out the prices of a split: a row for each view and resolution, a cell for each method.

    Parameters
    ----------
    price : DataFrame
        As `ptycho.scoring.price.price_table` returns it.
    split : str
        What to show.

    Returns
    -------
    list of dict
        `view`, `resolution` [Nyquist] and `cells`: method (label) -> `text` and `fluence` [photons per object pixel], a
        text that is empty where the resolution is not reached.
    """
    selected = price[price["split"] == split]
    return [
        {
            "view": view,
            "resolution": resolution,
            "cells": {
                method_name(row["method"]): {
                    "text": price_words(row),
                    "fluence": rounded(row[FLUENCE]) if np.isfinite(row[FLUENCE]) else "",
                }
                for row in rows.to_dict("records")
            },
        }
        for (view, resolution), rows in selected.groupby(["view", "resolution"], sort=False)
    ]


def price_text(price: pd.DataFrame) -> str:
    """Lay out the prices as text, one line for each flaw (where there are some), split, view and resolution.

    Parameters
    ----------
    price : DataFrame
        As `ptycho.scoring.price.price_table` returns it.
    """
    flaws = list(dict.fromkeys(price["flaw"])) if "flaw" in price else [None]
    lines = [
        ({} if flaw is None else {"flaw": flaw})
        | {"split": split, "view": row["view"], "resolution": f"{row['resolution']:g}"}
        | {method: cell["text"] for method, cell in row["cells"].items()}
        for flaw in flaws
        for split in dict.fromkeys(price["split"])
        for row in price_rows(of_flaw(price, flaw), split)
    ]
    return pd.DataFrame(lines).fillna("–").to_string(index=False)


def plan_text(price: pd.DataFrame, highest_dose: float, pixel_size_nm: float | None = None) -> str:
    """Answer in a line which method, view and dose reach a resolution, fewest photons per object pixel first.

    Parameters
    ----------
    price : DataFrame
        Rows of one split and one resolution, as `ptycho.scoring.price.price_table` returns them.
    highest_dose : float
        Highest dose of the study [photon/exposure].
    pixel_size_nm : float, optional
        Side of an object pixel [nm]; adds the half period of the resolution, pixel / fraction of Nyquist.
    """
    rows = price.sort_values([FLUENCE], kind="stable").to_dict("records")
    (resolution, split) = rows[0]["resolution"], rows[0]["split"]
    size = "" if pixel_size_nm is None else f" (half period {pixel_size_nm / resolution:.3g} nm)"
    groups: dict[str, list[str]] = {"": [], "not in all repetitions": [], "photon limit of an unbiased estimate": []}
    missing = f"not reached up to {highest_dose:,.0f}"
    for row in rows:
        name = f"{method_name(row['method'])} {row['view']}"
        if row["status"] in (NOT_REACHED, NO_VALUE):
            groups.setdefault(missing, []).append(name)
        elif row["method"] == PHOTON_LIMIT:
            groups["photon limit of an unbiased estimate"].append(f"{row['view']} {_photons(row)}")
        else:
            groups["not in all repetitions" if row["status"] == PARTLY else ""].append(f"{name} {_photons(row)}")
    answers = "; ".join(groups.pop("")) or (
        "no method reaches it" + " in all repetitions" * (max(row["n"] for row in rows) > 1)
    )
    others = [f"{title}: {', '.join(names)}" for title, names in groups.items() if names]
    return f"{resolution:g} of Nyquist{size}, {split} split: " + "; ".join([answers, *others])


def rounded(value: float) -> str:
    """Write a number with two significant digits and thousands separators."""
    return significant(float(f"{value:.2g}"), 2)


def _limit(row: Mapping[Any, Any]) -> str:
    return "≤ " if row["upper_limit"] else ""


def _photons(row: Mapping[Any, Any]) -> str:
    """'4,100 photons per exposure (3.2 per object pixel; ×/÷ 1.10 over 3)'."""
    details = [f"{rounded(row[FLUENCE])} per object pixel"]
    if np.isfinite(row["sd_factor"]) and row["method"] != PHOTON_LIMIT:
        details.append(f"×/÷ {row['sd_factor']:.2f} over {row['n_reached']} repetitions")
    if row["status"] == PARTLY:
        details.append(f"{row['n_reached']} of {row['n']}")
    return f"{_limit(row)}{rounded(row['dose_photons'])} photons per exposure ({', '.join(details)})"
