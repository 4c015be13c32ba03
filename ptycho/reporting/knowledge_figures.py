"""Figures of what was refined: the probe before and after, how far positions moved, and the flux."""

from collections.abc import Collection

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ptycho.data.scan import Scan
from ptycho.physics.displacement import affine_residual, rms_px
from ptycho.reporting.image_panels import add_colorbar, color_scale, show_image

LONGEST_ARROW = 0.08
"""Length of the longest arrow, as a fraction of the scan's extent."""


def plot_knowledge(scan: Scan, known: Scan, exposures: np.ndarray, unknown: Collection[str]) -> Figure:
    """Plot what was refined beside what the scan says.

    Parameters
    ----------
    scan : Scan
        With what it says itself.
    known : Scan
        The same with what was refined.
    exposures : (m,) int64
        Exposures that were reconstructed.
    unknown : collection of str
        What was refined: "probe", "positions", "flux", "background".
    """
    panels = [name for name in ("probe", "positions", "flux") if name in unknown] or ["flux"]
    figure = Figure(figsize=(5.2 * len(panels) + 2.6 * ("probe" in panels), 4.8), layout="constrained")
    widths = [1.5 if name == "probe" else 1.0 for name in panels]
    parts = figure.subfigures(1, len(panels), width_ratios=widths, squeeze=False)[0]
    for name, part in zip(panels, parts, strict=True):
        if name == "probe":
            _plot_probes(part.subplots(2, 2), scan, known)
        elif name == "positions":
            _plot_shifts(part.subplots(), scan, known, exposures)
        else:
            _plot_flux(part.subplots(), scan, known, exposures)
    if "background" in unknown:
        added = [0.0 if each.detector.background is None else each.detector.background.mean() for each in (scan, known)]
        figure.suptitle(f"background: {added[0]:.3g} before, {added[1]:.3g} after [photon/px]", fontsize="medium")
    return figure


def _plot_probes(panels: np.ndarray, scan: Scan, known: Scan) -> None:
    """Show amplitude and phase of the strongest mode, before and after."""
    for row, (label, each) in zip(panels, (("before", scan), ("after", known)), strict=True):
        mode = each.probe[np.argmax((np.abs(each.probe) ** 2).sum((1, 2)))]
        dark = np.abs(mode) ** 2 < 1e-2 * np.max(np.abs(mode) ** 2)
        images = {"amplitude": np.abs(mode), "phase": np.where(dark, np.nan, np.angle(mode))}
        for axes, (part, image) in zip(row, images.items(), strict=True):
            unit = "phase [rad]" if part == "phase" else "amplitude [√photon]"
            add_colorbar(axes, show_image(axes, image, **color_scale(part, image)), unit)
            axes.set(title=f"probe {label}", xlabel="x [px]", ylabel="y [px]")


def _plot_shifts(axes: Axes, scan: Scan, known: Scan, exposures: np.ndarray) -> None:
    """Draw an arrow from each recorded position towards the refined one, without their common affine map."""
    recorded, found = (np.stack([each.ycoords, each.xcoords])[:, exposures] for each in (scan, known))
    shifts, affine = affine_residual(found - recorded, recorded)
    longest = max(float(np.hypot(*shifts).max()), 1e-6)
    scale = longest / (LONGEST_ARROW * float(np.ptp(recorded, axis=1).max()))
    axes.quiver(recorded[1], recorded[0], shifts[1], shifts[0], angles="xy", scale_units="xy", scale=scale, width=3e-3)
    axes.set(aspect="equal", xlabel="x [px]", ylabel="y [px]")
    axes.invert_yaxis()
    stretch = 100 * float(np.abs(affine[:, 1:]).max())
    axes.set_title(
        f"positions moved by {rms_px(shifts):.2g} px (rms), at most {longest:.2g} px\n"
        f"arrows × {1 / scale:.3g}; without the affine map: up to {stretch:.2g} %",
        fontsize="medium",
    )


def _plot_flux(axes: Axes, scan: Scan, known: Scan, exposures: np.ndarray) -> None:
    """Draw the flux of the exposures, before and after."""
    for label, each, color, dash in (("before", scan, "#999999", "--"), ("after", known, "#0072B2", "-")):
        scale = each.detector.exposure_scale
        flux = np.ones(len(exposures)) if scale is None else scale[exposures]
        axes.plot(exposures, flux, dash, color=color, label=label)
    axes.set(xlabel="exposure", ylabel="incident photons in units of the probe's", title="flux")
    axes.legend()
