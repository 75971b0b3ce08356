"""Pictures show what the arrays hold."""

import base64
import io
import re

import numpy as np
from PIL import Image

from nnunet_semisam.report.drawing import sprites


def pixels(uri):
    return Image.open(io.BytesIO(base64.b64decode(re.sub("^data:image/png;base64,", "", uri))))


def test_masks_are_outlined_and_empty_ones_see_through():
    label = np.zeros((2, 9, 9), np.int16)
    label[0, 2:7, 2:7] = 3
    picture = np.asarray(pixels(sprites.mask_sprite(label, (9, 9))).convert("RGBA"))
    assert picture.shape == (18, 9, 4)
    assert tuple(picture[4, 4]) == (*sprites.LABEL_COLORS[2], sprites.FILL_OPACITY)
    assert tuple(picture[2, 2]) == (*sprites.LABEL_COLORS[2], sprites.OUTLINE_OPACITY)
    assert picture[9:, :, 3].max() == picture[0, 0, 3] == 0


def test_thick_pixels_are_stretched_and_slices_made_small():
    assert sprites.target_size((100, 100), (2.0, 1.0)) == (200, 100)
    assert sprites.target_size((1000, 500), (1.0, 1.0)) == (200, 100)
    assert sprites.target_size((20, 30), (1.0, 1.0)) == (20, 30)
    assert pixels(sprites.gray_sprite(np.zeros((3, 20, 30), np.uint8), (10, 15))).size == (15, 30)
