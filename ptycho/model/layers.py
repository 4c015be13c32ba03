"""Forward model as Keras layers, each tested against `ptycho.physics.forward`.

Positions are those of a container, (B, 1, 2, C), order [x, y], relative to the group's center pixel. The probe is
shifted by their sub-pixel remainders, so that patches are whole-pixel windows and no interpolation blurs the object.
"""

import keras
import numpy as np
import tensorflow as tf

PACKAGE = "ptycho"
"""Name under which saved models refer to these classes."""


def split_positions(positions):
    """Split (B, 1, 2, C) positions into whole pixels (int32) and remainders, each as (y, x) of shape (B, C)."""
    pixel = tf.floor(positions + 0.5)
    rest = positions - pixel
    pixel = tf.cast(pixel, tf.int32)
    return (pixel[:, 0, 1], pixel[:, 0, 0]), (rest[:, 0, 1], rest[:, 0, 0])


@keras.saving.register_keras_serializable(package=PACKAGE)
class GroupCanvas(keras.layers.Layer):
    """Average the patches of a group on one canvas and cut them out again: overlapping patches then agree.

    Two one-hot matrices, for rows and columns, put a patch on the canvas, which is exact and fast. The average is
    weighted by the probe's intensity plus a thousandth of its peak.

    Parameters
    ----------
    n : int
        Side of a patch [px].
    spread : int
        Largest extent of a group's positions along an axis [px]; the sides of the canvas are n + spread + 2.
    """

    def __init__(self, n: int, spread: int, **kwargs):
        super().__init__(**kwargs)
        self.n, self.spread = n, spread
        self.size = n + spread + 2
        self.weight = self.add_weight(shape=(n, n), initializer="ones", trainable=False, name="weight")

    def set_probe(self, probe) -> None:
        """Set the weight of patches from an (n, n) complex probe."""
        intensity = np.abs(probe) ** 2
        self.weight.assign(intensity / intensity.max() + 1.0e-3)

    def call(self, patches, positions):
        """Take (B, n, n, C) complex64 patches and their positions, return the same shape."""
        (y, x), _ = split_positions(positions)
        rows, columns = self._placement(y), self._placement(x)
        patches = tf.transpose(patches, (0, 3, 1, 2))
        weight = tf.broadcast_to(self.weight, tf.shape(patches))
        parts = [weight * tf.math.real(patches), weight * tf.math.imag(patches), weight]
        real, imag, total = (tf.einsum("bcin,bcnm,bcjm->bij", rows, part, columns) for part in parts)
        total = tf.maximum(total, 1.0e-6)
        cut = [tf.einsum("bcin,bij,bcjm->bcnm", rows, part / total, columns) for part in (real, imag)]
        return tf.transpose(tf.complex(*cut), (0, 2, 3, 1))

    def _placement(self, pixel):
        """Return one-hot matrices, (B, C, size, n): pixel k of a patch is row start + k of the canvas."""
        low = tf.reduce_min(pixel, axis=1, keepdims=True)
        start = pixel - low + 1
        return tf.one_hot(start[..., None] + tf.range(self.n), self.size, axis=2, dtype=tf.float32)

    def get_config(self):
        return {**super().get_config(), "n": self.n, "spread": self.spread}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Detector(keras.layers.Layer):
    """Mean counts of patches on the detector: |F(O · shift(P, δ))|², as `ptycho.physics.forward.predict_intensity`.

    Parameters
    ----------
    n : int
        Side of a patch [px].
    trainable_probe : bool
        Refine the probe while training. It is stored as two real arrays: Adam does not converge on a complex one.
    """

    def __init__(self, n: int, trainable_probe: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.n, self.trainable_probe = n, trainable_probe
        for part in ("real", "imag"):
            variable = self.add_weight(
                shape=(n, n), initializer="zeros", trainable=trainable_probe, name=f"probe_{part}"
            )
            setattr(self, f"probe_{part}", variable)

    def set_probe(self, probe) -> None:
        """Set the (n, n) complex probe [sqrt(photon)]."""
        self.probe_real.assign(np.real(probe))
        self.probe_imag.assign(np.imag(probe))

    def call(self, patches, positions):
        """Take (B, n, n, C) complex64 patches, return (B, n, n, C) float32 mean counts, center at [n // 2, n // 2]."""
        _, (rest_y, rest_x) = split_positions(positions)
        frequency = tf.constant(np.fft.fftfreq(self.n), tf.float32)
        ramp_y = -2 * np.pi * rest_y[..., None] * frequency
        ramp_x = -2 * np.pi * rest_x[..., None] * frequency
        ramp = tf.exp(tf.complex(0.0, ramp_y))[..., :, None] * tf.exp(tf.complex(0.0, ramp_x))[..., None, :]
        probe = tf.complex(tf.convert_to_tensor(self.probe_real), tf.convert_to_tensor(self.probe_imag))
        shifted = tf.signal.ifft2d(tf.signal.fft2d(probe) * ramp)
        waves = shifted * tf.transpose(patches, (0, 3, 1, 2))
        far = tf.signal.fftshift(tf.signal.fft2d(waves), axes=(-2, -1)) / self.n
        return tf.transpose(tf.math.real(far) ** 2 + tf.math.imag(far) ** 2, (0, 2, 3, 1))

    def get_config(self):
        return {**super().get_config(), "n": self.n, "trainable_probe": self.trainable_probe}


@keras.saving.register_keras_serializable(package=PACKAGE)
class InverseDiffraction(keras.layers.Layer):
    """Estimate a patch from its pattern: one step of the error-reduction algorithm from a flat object.

    The measured amplitudes get the phases of the empty beam's far field and are propagated back to the sample plane,
    where the beam is divided out: O = conj(P) F⁻¹(a · FP / |FP|) / (|P|² + ε max|P|²), times a constant (Fienup, Appl.
    Opt. 21, 2758, 1982).

    Parameters
    ----------
    n : int
        Side of a pattern [px].
    transmittance : float
        Mean amplitude transmittance of the training data; O is divided by it.
    regularization : float
        ε, the damping where the probe is dim.
    """

    def __init__(self, n: int, transmittance: float = 1.0, regularization: float = 0.05, **kwargs):
        super().__init__(**kwargs)
        self.n, self.transmittance, self.regularization = n, transmittance, regularization
        for part in ("real", "imag"):
            setattr(
                self,
                f"probe_{part}",
                self.add_weight(shape=(n, n), initializer="zeros", trainable=False, name=f"probe_{part}"),
            )

    def set_probe(self, probe) -> None:
        """Set the (n, n) complex probe [sqrt(photon)]."""
        self.probe_real.assign(np.real(probe))
        self.probe_imag.assign(np.imag(probe))

    def call(self, amplitude):
        """Take (B, n, n, C) amplitudes, return (B C, n, n, 3): Re O - D, Im O and D = |P|² / (|P|² + ε max|P|²)."""
        probe = tf.complex(tf.convert_to_tensor(self.probe_real), tf.convert_to_tensor(self.probe_imag))
        intensity = tf.math.real(probe) ** 2 + tf.math.imag(probe) ** 2
        peak = tf.reduce_max(intensity)
        beam = tf.signal.fft2d(probe)
        phase = beam / tf.cast(tf.abs(beam) + 1.0e-6 * tf.reduce_max(tf.abs(beam)), tf.complex64)
        frames = tf.reshape(tf.transpose(amplitude, (0, 3, 1, 2)), (-1, self.n, self.n))
        frames = tf.signal.ifftshift(frames, axes=(-2, -1)) * (self.n / self.transmittance)
        wave = tf.signal.ifft2d(tf.cast(frames, tf.complex64) * phase)
        estimate = tf.math.conj(probe) * wave / tf.cast(intensity + self.regularization * peak, tf.complex64)
        damped = intensity / (intensity + self.regularization * peak)
        parts = [tf.math.real(estimate) - damped, tf.math.imag(estimate), tf.broadcast_to(damped, tf.shape(frames))]
        return tf.stack(parts, axis=-1)

    def get_config(self):
        options = {"n": self.n, "transmittance": self.transmittance, "regularization": self.regularization}
        return {**super().get_config(), **options}


@keras.saving.register_keras_serializable(package=PACKAGE)
class Regroup(keras.layers.Layer):
    """Collect (B C, n, n, 1) images of single patterns into groups, (B, n, n, C).

    Parameters
    ----------
    n : int
        Side of a pattern [px].
    channels : int
        C, patterns in a group.
    """

    def __init__(self, n: int, channels: int, **kwargs):
        super().__init__(**kwargs)
        self.n, self.channels = n, channels

    def call(self, images):
        return tf.transpose(tf.reshape(images, (-1, self.channels, self.n, self.n)), (0, 2, 3, 1))

    def get_config(self):
        return {**super().get_config(), "n": self.n, "channels": self.channels}


@keras.saving.register_keras_serializable(package=PACKAGE)
class ComplexPatches(keras.layers.Layer):
    """Join amplitudes and phases [rad], (B, n, n, 2C), into complex64 patches, (B, n, n, C)."""

    def call(self, inputs):
        amplitude, phase = tf.split(inputs, 2, axis=-1)
        return tf.complex(amplitude * tf.cos(phase), amplitude * tf.sin(phase))
