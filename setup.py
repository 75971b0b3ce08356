"""Package metadata. Tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """Read the version without importing the package."""
    text = (HERE / "nnunet_semisam" / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.+)"', text).group(1)


def packages() -> list[str]:
    """Return all packages: those of nnunet_semisam, and the two top-level folders that are installed below it."""
    found = [*find_packages(HERE, include=["nnunet_semisam", "nnunet_semisam.*"]), "nnunet_semisam.trainers"]
    converters = find_packages(HERE, include=["dataset_conversion", "dataset_conversion.*"])
    return found + [f"nnunet_semisam.{name}" for name in converters]


SLURM, LA = ["submitit>=1.5"], ["h5py>=3.8"]
SAM2 = ["transformers>=5"]  # SAM 2, 2.1 and MedSAM2: maintained models with memory, one class for all sizes
SAM3D = ["medim>=0.1.2", "requests>=2"]  # SAM-Med3D's own network; medim imports requests and does not say so
LORA = ["peft>=0.18"]  # low-rank adapters that merge into the weights
NNINTERACTIVE = ["nninteractive>=2.5"]
DOCS = ["mkdocs-material>=9.5"]
TEST = [
    *SLURM,
    *LA,
    *SAM2,
    *SAM3D,
    *LORA,
    *DOCS,
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",  # inputs that nobody thought of, for every reader of files
    "ruff>=0.6",
    "build>=1",
    "playwright>=1.40",
]

if __name__ == "__main__":  # nnU-Net imports every module it finds below nnUNet_extTrainer, this file included
    setup(
        name="nnunet-semisam",
        version=version(),
        description="Semi-supervised nnU-Net v2 training with unlabeled cases and Segment Anything pseudo-labels",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        author="The nnunet-semisam authors",
        python_requires=">=3.10,<3.14",
        packages=packages(),
        package_dir={
            "nnunet_semisam": "nnunet_semisam",
            "nnunet_semisam.dataset_conversion": "dataset_conversion",
            "nnunet_semisam.trainers": "trainers",
        },
        package_data={
            "nnunet_semisam.report": ["assets/*"],
            "nnunet_semisam.sam.nano": ["weights/*.pt", "weights/*.md"],
        },
        entry_points={"console_scripts": ["nnunet-semisam = nnunet_semisam.cli:main"]},
        install_requires=[
            "nnunetv2>=2.8,<3",
            "torch>=2.6",
            "torchvision>=0.21",  # segment-anything imports it and does not say so
            "segment-anything>=1.0",
            "safetensors>=0.4",  # the files of adapted SAMs; nnU-Net's networks need it, too
            "SimpleITK>=2.2.1",
            "acvl-utils>=0.2.6",
            "batchgenerators>=0.25.1",
            "batchgeneratorsv2>=0.3.2",
            "blosc2>=3.0.0b4",
            "numpy>=1.24",
            "scipy>=1.10",
            "connected-components-3d>=3.12",
            "matplotlib>=3.7",
            "nibabel>=4",
            "pillow>=9.1",
            "threadpoolctl>=3",
            "tifffile>=2022.8.12",  # tif volumes; nnU-Net reads them with it, too
            "tqdm>=4.60",
            "pyyaml>=6",
            "timm>=1.0",  # MobileSAM's image encoder; nnU-Net's networks need it anyway
            "monai>=1.4",  # surface distances; needs nothing but torch and numpy
        ],
        extras_require={
            "test": TEST,
            "dev": [*TEST, "pre-commit>=3.7"],
            "docs": DOCS,
            "la": LA,
            "lora": LORA,
            "nninteractive": NNINTERACTIVE,
            "sam2": SAM2,
            "sam3d": SAM3D,
            "slurm": SLURM,
        },
        classifiers=[
            "Development Status :: 3 - Alpha",
            "Intended Audience :: Science/Research",
            "Intended Audience :: Healthcare Industry",
            "Operating System :: POSIX :: Linux",
            "Programming Language :: Python :: 3",
            "Programming Language :: Python :: 3.10",
            "Programming Language :: Python :: 3.11",
            "Programming Language :: Python :: 3.12",
            "Programming Language :: Python :: 3.13",
            "Topic :: Scientific/Engineering :: Medical Science Apps.",
        ],
    )
