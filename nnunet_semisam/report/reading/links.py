"""Links in the folder of a benchmark: those that lead to somebody's other files are not followed."""

from __future__ import annotations

from pathlib import Path

from nnunet_semisam.errors import UserError


def refuse_link_out(path: Path, root: Path) -> None:
    """Refuse a file that is a link to a file elsewhere.

    A page shows texts and pictures, and pages are sent around: nobody who sends a benchmark may choose what is shown of
    the machine of whoever makes its page. Folders may be links, for example to a larger disk.

    Args:
        path: The file.
        root: The folder of the benchmark.

    Raises:
        UserError: If it is such a link, or one that leads back to itself.
    """
    if not path.is_symlink():
        return
    try:
        target = path.resolve()
        allowed = target.is_relative_to(root.resolve()) or target.parent == path.parent.resolve()
    except (OSError, RuntimeError):  # a circle
        allowed = False
    if not allowed:
        raise UserError(f"{path} is a link that leads out of the benchmark, and is not followed.")
