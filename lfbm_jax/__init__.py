"""Latent flow-based models: a normalizing-flow prior and a generator, learned together."""

import sys

# distrax imports TensorFlow, through TensorFlow Probability, wherever it is installed, though it
# makes no use of it: seconds for every process. Here it finds none; whoever prepares a TFDS data
# set imports it afterwards.
if "tensorflow" not in sys.modules:
    sys.modules["tensorflow"] = None
    import distrax  # noqa: F401

    del sys.modules["tensorflow"]
