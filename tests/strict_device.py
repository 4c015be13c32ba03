"""A pretended GPU: NumPy in disguise, whose arrays refuse what CuPy's refuse, so that silent transfers fail here.

Its arrays do not mix with the host's, become NumPy arrays only through `to_host`, and are read as numbers by `float`,
`int` and `bool` alone. Its functions have no `where=`; its reductions return arrays without axes.
"""

import operator

import numpy as np
from scipy import fft

from ptycho.reconstruction.devices import Device
from ptycho.reconstruction.passes import Passes

SCALARS = (int, float, complex, np.generic)
BINARY = ("add", "sub", "mul", "truediv", "pow", "matmul", "lt", "le", "gt", "ge", "eq", "ne", "and_", "or_")
PROPERTIES = ("shape", "dtype", "ndim", "size", "nbytes")
METHODS = ("astype", "conj", "copy", "max", "mean", "min", "ravel", "reshape", "sum", "view")
ARRAYS = ("real", "imag", "T")


class StrictArray:
    """An array of the pretended GPU."""

    __array_ufunc__ = None  # NumPy's operators refuse it
    __array_priority__ = 100

    def __init__(self, values, device):
        self._values, self._device = np.asarray(values), device

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion of a device array to NumPy")

    def __getitem__(self, key):
        return self._device.wrap(self._values[self._device.unwrap(key)])

    def __setitem__(self, key, value):
        self._values[self._device.unwrap(key)] = self._device.unwrap(value)

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        raise TypeError("a loop over a device array: one launch, or transfer, per item")

    def __float__(self):
        return float(self._values)

    def __int__(self):
        return int(self._values)

    def __bool__(self):
        return bool(self._values)

    def __neg__(self):
        return self._device.wrap(-self._values)

    def __invert__(self):
        return self._device.wrap(~self._values)


def _binary(function, swapped):
    def method(self, other):
        pair = self._values, self._device.unwrap(other)
        return self._device.wrap(function(*(pair[::-1] if swapped else pair)))

    return method


def _in_place(function):
    def method(self, other):
        self._values = function(self._values, self._device.unwrap(other))
        return self

    return method


def _method(name):
    def method(self, *arguments, **options):
        unwrap = self._device.unwrap
        return self._device.wrap(getattr(self._values, name)(*map(unwrap, arguments), **options))

    return method


for _name in BINARY:
    _word = _name.rstrip("_")
    setattr(StrictArray, f"__{_word}__", _binary(getattr(operator, _name), swapped=False))
    if _word not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(StrictArray, f"__r{_word}__", _binary(getattr(operator, _name), swapped=True))
    if _word in ("add", "sub", "mul", "truediv"):
        setattr(StrictArray, f"__i{_word}__", _in_place(getattr(operator, f"i{_word}")))
for _name in METHODS:
    setattr(StrictArray, _name, _method(_name))
for _name in PROPERTIES:
    setattr(StrictArray, _name, property(lambda self, name=_name: getattr(self._values, name)))
for _name in ARRAYS:
    setattr(StrictArray, _name, property(lambda self, name=_name: self._device.wrap(getattr(self._values, name))))


class StrictNamespace:
    """Functions of a NumPy-like module that take and return the pretended GPU's arrays only."""

    def __init__(self, module, device):
        self._module, self._device = module, device

    def __getattr__(self, name):
        function = getattr(self._module, name)
        if isinstance(function, type):
            raise AttributeError(f"{name}: take types from NumPy")

        def call(*arguments, **options):
            if "where" in options:
                raise TypeError(f"{name}: CuPy has no where=")
            unwrap = self._device.unwrap
            given = {key: unwrap(value) for key, value in options.items()}
            return self._device.wrap(function(*map(unwrap, arguments), **given))

        if isinstance(function, np.ufunc):
            call.at = self._at
        return call

    def _at(self, target, index, values):
        if target.dtype.kind == "c":
            raise TypeError("CuPy's add.at has no complex numbers")
        np.add.at(*map(self._device.unwrap, (target, index, values)))


class StrictDevice(Device):
    """The pretended GPU; `moved` lists the sizes of all arrays that have gone there or come back."""

    def __init__(self, block_size=None):
        xp, transforms = StrictNamespace(np, self), StrictNamespace(fft, self)
        fields = {"name": "a pretended GPU", "xp": xp, "fft": transforms, "passes": Passes(xp, transforms)}
        self.__dict__.update(fields, size=block_size, moved=[])

    def __setattr__(self, name, value):
        self.__dict__[name] = value

    def wrap(self, value):
        """Return results as arrays of the device; NumPy's numbers, too, as CuPy does."""
        return StrictArray(value, self) if isinstance(value, np.ndarray | np.generic) else value

    def unwrap(self, value):
        """Return the values of an argument; refuse arrays of the host."""
        if isinstance(value, StrictArray):
            return value._values
        if isinstance(value, tuple | list):
            return type(value)(map(self.unwrap, value))
        if isinstance(value, np.ndarray):
            raise TypeError("an array of the host among those of a device")
        return value

    def to_device(self, array):
        self.moved.append(np.size(array))
        return StrictArray(np.array(array), self)

    def to_host(self, array):
        assert isinstance(array, StrictArray), type(array)
        self.moved.append(array.size)
        return array._values.copy()

    def block_size(self, size, wave_bytes):
        return self.size or size
