"""How many channels an image file holds: one, but for photos, whose colours are channels."""

from __future__ import annotations

ONE_CHANNEL_A_FILE = ("SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "Tiff3DIO")


def holds_many_channels(reader: type) -> bool:
    """Return whether a file that this reader of nnU-Net reads may hold several channels.

    Example:
        >>> from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
        >>> holds_many_channels(NaturalImage2DIO)
        True
    """
    return reader.__name__ not in ONE_CHANNEL_A_FILE


def files_can_be_all(files: int, channels: int, reader: type) -> bool:
    """Return whether a case with so many files can have all its channels.

    Args:
        files: Image files of the case.
        channels: Channels that ``dataset.json`` names.
        reader: nnU-Net's reader class of the dataset.
    """
    return files == channels or (0 < files < channels and holds_many_channels(reader))
