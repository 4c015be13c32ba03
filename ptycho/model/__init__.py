"""Networks and their training: the only part of the package that imports Keras. Importing it builds nothing."""

from ptycho.backend import tensorflow

tensorflow()  # before anything imports Keras
