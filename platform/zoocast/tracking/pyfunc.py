"""What makes a folder with a predictor one that MLflow can load: a description with its signature, and an example of input."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoocast.store.files import read_json

if TYPE_CHECKING:
    import numpy as np

__all__ = ["describe_model"]

LOADER, DESCRIPTION = "zoocast.nn.pyfunc", "predictor.json"
EXAMPLE, SERVED = "input_example.json", "serving_input_example.json"
OBSERVED, HORIZON = 10, 10  # frames of the example, and that are predicted unless another number is asked for


def describe_model(directory: Path, target: Path, model_id: str) -> bool:
    """Write MLflow's description of the predictor in `directory` into `target`; False when `directory` holds no predictor."""
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    try:
        frames: Any = (read_json(directory / DESCRIPTION) or {})["frames"]
        shape = [int(frames[name]) for name in ("channels", "height", "width")]
    except (KeyError, TypeError, ValueError):
        return False
    clips = Schema([TensorSpec(np.dtype("float32"), (-1, -1, *shape))])
    signature = ModelSignature(clips, clips, ParamSchema([ParamSpec("horizon", "long", HORIZON)]))
    example = {"artifact_path": EXAMPLE, "serving_input_path": SERVED, "type": "ndarray"}
    model = Model(signature=signature, saved_input_example_info=example, model_id=model_id)
    # `data` is the folder itself, so that it may lie anywhere.
    model.add_flavor("python_function", loader_module=LOADER, data=".", python_version=platform.python_version())
    model.save(str(target / "MLmodel"))
    inputs = _example(*shape).tolist()
    (target / EXAMPLE).write_text(json.dumps(inputs))
    (target / SERVED).write_text(json.dumps({"inputs": inputs}))
    return True


def _example(channels: int, height: int, width: int) -> np.ndarray:
    """A clip (1, OBSERVED, C, H, W) in [0, 1]: a bright square that moves to the right."""
    import numpy as np

    clip = np.zeros((1, OBSERVED, channels, height, width))
    side = max(1, min(height, width) // 4)
    for t in range(OBSERVED):
        left = t * (width - side) // OBSERVED
        clip[0, t, :, :side, left : left + side] = 1
    return clip
