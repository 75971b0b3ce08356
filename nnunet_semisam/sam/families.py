"""Which SAM models there are, where their weights come from and under which licence. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

RELEASE = "https://dl.fbaipublicfiles.com/segment_anything"


@dataclass(frozen=True)
class Family:
    """One model that can be named in the setting ``sam_model``.

    Attributes:
        name: Name of the model.
        file: File name of its weights.
        url: Where the weights are published; ``None`` if they are in this package.
        size: Size of the file in bytes.
        sha256: Hash of the file.
        licence: Licence of the weights.
        prompts: Kinds of prompts that the model was trained with.
    """

    name: str
    file: str
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str = "Apache-2.0"
    prompts: tuple[str, ...] = ("box", "points", "mask")


# File names, addresses and licence: github.com/facebookresearch/segment-anything, README, "Model Checkpoints". The six
# digits in a file name begin its MD5. SHA-256: as micro-sam publishes them (micro_sam/util.py); several other public
# lists agree. No byte of these files was at hand when this was written.
FAMILIES = {
    family.name: family
    for family in (
        Family("nano", "nano_sam.pt"),
        Family(
            "vit_b",
            "sam_vit_b_01ec64.pth",
            f"{RELEASE}/sam_vit_b_01ec64.pth",
            375_042_383,
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        ),
        Family(
            "vit_l",
            "sam_vit_l_0b3195.pth",
            f"{RELEASE}/sam_vit_l_0b3195.pth",
            1_249_524_607,
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
        Family(
            "vit_h",
            "sam_vit_h_4b8939.pth",
            f"{RELEASE}/sam_vit_h_4b8939.pth",
            2_564_550_879,
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        ),
    )
}
