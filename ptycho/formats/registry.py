"""The table of formats: what a set of files is recognized as, and the reader of each."""

from dataclasses import replace

from ptycho.formats.inputs import Inputs
from ptycho.formats.options import ConversionOptions
from ptycho.formats.raw import Format, OpenConvention, RawScan
from ptycho.formats.raw_checks import check_raw
from ptycho.formats.readers import (
    cxi,
    hxn,
    paired,
    plain,
    ptychodus,
    ptychopinn,
    ptychoshelves,
    ptylab,
    ptypy,
    tiff,
    tike,
    unsupported,
)
from ptycho.workflow.damage import reading
from ptycho.workflow.files import ContractError

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        cxi.FORMAT,
        ptychodus.FORMAT,
        paired.FORMAT,
        ptypy.FORMAT,
        hxn.FORMAT,
        ptychoshelves.FORMAT,
        ptylab.FORMAT,
        tike.FORMAT,
        ptychopinn.FORMAT,
        plain.FORMAT,
        tiff.FORMAT,
        unsupported.VELOCIPROBE,
        unsupported.EMPAD,
    )
}
"""Name -> format; files are recognized in this order."""
HINTS = {
    "npy": "one array without positions and probe; wanted them, too, in an NPZ (frames, xcoords, ycoords, probe)",
    "pickle": "a pickle, which could run any program; pickles are never read: save its arrays as NPZ or HDF5",
    "mat5": "a MATLAB file before 7.3; wanted one that MATLAB has saved with -v7.3",
    "unknown": "no file of a known kind; wanted HDF5, NPZ, TIFF or a table",
}
"""Kind of a file that no format has -> what to do."""


def find_format(inputs: Inputs, name: str | None) -> Format:
    """Return the format of some files.

    Parameters
    ----------
    inputs : Inputs
        The files.
    name : str or None
        The format that was asked for.

    Raises
    ------
    ContractError
        If no format is recognized.
    ValueError
        If there is no format of that name.
    """
    if name is not None:
        if name not in FORMATS:
            raise ValueError(f"--format {name}; wanted one of {', '.join(FORMATS)}")
        return FORMATS[name]
    for format in FORMATS.values():
        if format.recognizes(inputs):
            return format
    for path, kind in inputs.other:
        raise ContractError(f"{path}: {HINTS[kind]}")
    if inputs.tables and not inputs.keyed:
        raise ContractError(
            f"{inputs.name}: a table without frames; wanted the TIFF files that its positions belong to"
        )
    keys = [key for file in inputs.keyed for key in file.names()]
    pickled = [key for file in inputs.keyed for key in file.pickled]
    also = f"; pickled, and so not read: {', '.join(pickled)}" if pickled else ""
    raise ContractError(
        f"{inputs.name}: a layout of no known format; found {', '.join(keys[:20]) or 'no arrays'}{also}; known are "
        f"{', '.join(name for name, format in FORMATS.items() if format.supported)}: a plain one has the keys "
        "diffraction, xcoords, ycoords and probe"
    )


def read_scan(inputs: Inputs, options: ConversionOptions) -> RawScan:
    """Open the scan in some files; refuse it if it leaves a convention open that no option settles.

    Raises
    ------
    ContractError
        If the files have no known format, are invalid, leave a convention open, or one of them is not used.
    ValueError
        If an option names a format or variant that does not exist.
    """
    format = find_format(inputs, options.format)
    if options.variant is not None and options.variant not in format.variants:
        known = ", ".join(format.variants) or "none"
        raise ValueError(f"--variant {options.variant}: {format.title} has {known}")
    with reading(inputs.name, f"as {format.title}, it"):
        raw = format.read(inputs, options)
        check_raw(raw)
    if inputs.unused:
        names = " and ".join(map(str, inputs.unused))
        raise ContractError(f"{names}: not used by a scan that is read as {format.title}; wanted its files alone")
    if options.frames_last is not None and options.frames_last != raw.frames.last:
        order = "first" if options.frames_last else "last"
        raise ValueError(f"--frames-{'last' if options.frames_last else 'first'}: {format.title} has exposures {order}")
    if options.position_columns is not None and format is not tiff.FORMAT:
        raise ValueError(
            f"--position-columns {options.position_columns}: is for tables; --swap-positions exchanges x and y"
        )
    raw = replace(raw, conventions=(f"read as {format.title}", *raw.conventions))
    open_conventions = [convention for convention in raw.open if not _is_settled(convention, options)]
    if open_conventions:
        asked = "; ".join(f"{convention.question}: {convention.answers}" for convention in open_conventions)
        raise ContractError(f"{raw.name} ({format.title}) leaves open {asked}")
    return raw


def _is_settled(convention: OpenConvention, options: ConversionOptions) -> bool:
    given = (getattr(options, name) for name in convention.settled_by)
    return any(value is not None and value is not False for value in given)
