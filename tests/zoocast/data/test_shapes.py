import itertools

import numpy as np
import pytest

from zoocast.data.shapes import shape_images
from zoocast.data.splits import SPLITS


@pytest.mark.parametrize("size", [8, 14])
def test_the_splits_share_no_shape(size):
    shapes = {split: {shape.tobytes() for shape in shape_images(split, size)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not shapes[one] & shapes[other]
    # 1,800 in shares of 7 : 1 : 2, and no two of them alike.
    assert {split: len(images) for split, images in shapes.items()} == {"train": 1260, "validation": 180, "test": 360}


def test_shapes_are_bright_inside_dark_around_and_smooth_between():
    shapes = shape_images("validation", 14)
    assert shapes.dtype == np.uint8
    assert (shapes.max((1, 2)) == 255).all()
    # A frame of one pixel is all but empty: at any angle the corners lie in the image.
    border = np.ones((14, 14), bool)
    border[1:-1, 1:-1] = False
    assert shapes[:, border].mean() < 0.02 * 255
    between = ((shapes > 0) & (shapes < 255)).mean((1, 2))
    assert (between > 0.02).all()
    # Areas between those of the smallest and of the largest square: (0.4 * 14)^2 and (0.7 * 14)^2; crosses and triangles less.
    areas = shapes.sum((1, 2)) / 255
    assert areas.min() > 0.3 * (0.4 * 14) ** 2
    assert areas.max() <= 1.02 * (0.7 * 14) ** 2
