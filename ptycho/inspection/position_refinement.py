"""What the refinement of a reference's positions has gained, by photons that the reference was not made from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptycho.workflow.damage import check_fields
from ptycho.workflow.files import ContractError, StrPath

KEY = "position_refinement"
"""Where it stands in the metadata of the reference and in its judgment."""


@dataclass(frozen=True, kw_only=True)
class PositionRefinement:
    """How far positions were moved, and what that does to the misfit of photons that were held out."""

    moved_px: float
    """Root mean square distance of refined from recorded positions, their mean removed [px]."""
    moved_affine_px: float
    """The same, their affine map removed: translation, rotation, scale and shear [px]."""
    misfit_recorded: float
    """Misfit with the recorded positions."""
    misfit_refined: float
    """Misfit with the refined ones, and with the probe that was refined together with them."""

    @property
    def is_kept(self) -> bool:
        """Whether refined positions predict the photons better, and are those of the reference."""
        return self.misfit_refined < self.misfit_recorded

    def as_dict(self) -> dict[str, float]:
        """Return the numbers, JSON-serializable."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any], path: StrPath) -> "PositionRefinement | None":
        """Read it from the metadata of a reference or from its judgment; None if positions were taken as recorded.

        Parameters
        ----------
        values : mapping
            What the file holds.
        path : path
            The file, for the message.

        Raises
        ------
        ptycho.workflow.files.ContractError
            If a number is missing.
        """
        if KEY not in values:
            return None
        numbers, where = values[KEY], f"{Path(path)}: '{KEY}'"
        if not isinstance(numbers, dict):
            raise ContractError(f"{where} is {str(numbers)[:80]!r}; wanted an object")
        check_fields(numbers, where, **dict.fromkeys(cls.__dataclass_fields__, float))
        return cls(**{name: float(numbers[name]) for name in cls.__dataclass_fields__})
