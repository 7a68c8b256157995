"""OpenAI's directory in TensorFlow: DIRECTORY TENSORS.npz. Restored by its Saver into OpenAI's variables, compared."""

from __future__ import annotations

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf


def our_name(name: str) -> str:
    """Return our name of one of OpenAI's variables."""
    words = name.split("/")[1:]
    if len(words) == 1:
        return f"{words[0]}.weight"
    if words[0] != "ln_f":
        words[0] = f"h.{words[0][1:]}"
    return ".".join(words[:-1]) + (".bias" if words[-1] == "b" else ".weight")


def main() -> int:
    """Find the checkpoint as OpenAI's scripts do, restore it, and compare every variable bit for bit."""
    directory, ours = sys.argv[1], np.load(sys.argv[2])
    v1 = tf.compat.v1
    v1.disable_eager_execution()
    path = tf.train.latest_checkpoint(directory)
    listed = dict(tf.train.list_variables(path))
    with v1.Session() as session:
        variables = [v1.get_variable(name, shape, tf.float32) for name, shape in listed.items()]
        v1.train.Saver(variables).restore(session, path)
        values = dict(zip(listed, session.run(variables), strict=True))
    same = {our_name(name) for name, value in values.items()
            if np.array_equal(value.reshape(ours[our_name(name)].shape), ours[our_name(name)])}
    print(f"TensorFlow {tf.__version__}: {len(same)} of {len(ours.files)} tensors restored bit for bit")
    return 0 if same == set(ours.files) else 1


if __name__ == "__main__":
    sys.exit(main())
