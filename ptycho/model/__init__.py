"""Networks and their training: the only package that imports Keras. Importing it builds no network."""

from ptycho.backend import tensorflow

tensorflow()  # before anything imports Keras
