"""A tiny dataset whose unlabeled images are preprocessed, for several tests."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import tiny_nnunet

from nnunet_semisam.data.preprocess_unlabeled import preprocess_configuration
from nnunet_semisam.data.preprocessed_folder import IMAGES_SUFFIX


class World:
    """The tiny dataset: its unlabeled images, and one call that preprocesses them."""

    def __init__(self, root: Path) -> None:
        self.raw = root / "raw" / tiny_nnunet.DATASET
        self.preprocessed = root / "preprocessed" / tiny_nnunet.DATASET
        self.images = self.raw / "imagesUl"
        self.plans = json.loads((self.preprocessed / f"{tiny_nnunet.PLANS}.json").read_text())
        self.dataset_json = json.loads((self.preprocessed / "dataset.json").read_text())

    def folder(self, configuration: str = "2d") -> Path:
        return self.preprocessed / f"{tiny_nnunet.PLANS}_{configuration}_unlabeled"

    def files(self) -> list[str]:
        """All files, with their records of images where there is an image."""
        names = sorted(file.name for file in self.folder().iterdir())
        cases = [name.removesuffix(".b2nd") for name in names if name.endswith(".b2nd")]
        records = {f"{case}{IMAGES_SUFFIX}" for case in cases}
        assert records == {name for name in names if name.endswith(IMAGES_SUFFIX)}
        return [name for name in names if name not in records]

    def run(self, configuration: str = "2d", num_processes: int = 1) -> tuple[int, list[str]]:
        return preprocess_configuration(
            self.raw, self.preprocessed, self.plans, self.dataset_json, configuration, num_processes
        )

    def put(self, name: str, array: np.ndarray, spacing=tiny_nnunet.SPACING) -> Path:
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetSpacing(spacing)
        sitk.WriteImage(image, str(self.images / name))
        return self.images / name


def noise(seed: int = 0, shape: tuple[int, ...] = tiny_nnunet.SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape)
