"""Rooms are built on floors: imports run downward, never in a circle, and one file knows nnU-Net's trainer.

Read from the sources: imports inside functions and for type checking count like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PACKAGES = {
    "nnunet_semisam": CHECKOUT / "nnunet_semisam",
    "nnunet_semisam.trainers": CHECKOUT / "trainers",
    "nnunet_semisam.dataset_conversion": CHECKOUT / "dataset_conversion",
}
# From low to high. A module may import modules of its own floor and of those below. What is named here stands for
# itself and all that is in it; where two entries fit, the longer one counts.
FLOORS = (
    ("errors", "registry", "io", "trainers_folder", "labels", "ranks", "threads", "figures"),
    ("settings",),
    ("context",),
    ("methods", "gate"),
    ("sam", "prompts"),
    ("data", "splits"),
    ("generalists", "pseudo_labels"),
    ("training",),
    ("trainers", "jobs", "runs", "self_training", "small_plans", "checks", "adaptation", "model_export"),
    ("benchmark", "report", "demo", "annotation"),
    ("dataset_conversion",),
    ("commands", "cli"),
)
# Rooms that are themselves built on floors, low to high.
FLOORS_OF_ROOMS = {
    "methods": (("methods.parts",), ("methods",)),
    "report": (("report.reading",), ("report.drawing",), ("report.sections",), ("report",)),
    "dataset_conversion": (
        ("dataset_conversion.reading",),
        ("dataset_conversion.writing",),
        ("dataset_conversion",),
    ),
}
TRAINER_FILE = "training.trainer"
NNUNET_TRAINER = "nnUNetTrainer"
HOOKS = {
    "initialize",
    "train_step",
    "validation_step",
    "run_training",
    "do_split",
    "get_dataloaders",
    "get_training_transforms",
    "save_checkpoint",
    "load_checkpoint",
    "perform_actual_validation",
    "build_network_architecture",
    "configure_optimizers",
    "on_train_start",
    "on_train_end",
    "on_epoch_start",
    "on_epoch_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
}


@dataclass(frozen=True)
class Module:
    """A module of ours; names are without the leading ``nnunet_semisam.``"""

    name: str
    path: Path
    is_package: bool

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"), filename=str(self.path))


@dataclass(frozen=True, order=True)
class Import:
    """One import of a module of ours by another."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


@cache
def modules() -> dict[str, Module]:
    found = {}
    for package, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [*package.split("."), *path.relative_to(folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts).removeprefix("nnunet_semisam").removeprefix(".")
            found[name] = Module(name, path, is_package)
    return found


def inside(name: str) -> str | None:
    """Return a dotted name without the leading package, ``None`` if it is not of this package.

    Converters and trainers lie beside the package in a checkout, and are imported by either name.
    """
    if name == "nnunet_semisam":
        return ""
    if name.startswith("nnunet_semisam."):
        return name.removeprefix("nnunet_semisam.")
    return name if name.split(".")[0] in ("dataset_conversion", "trainers") else None


def imported_names(module: Module) -> Iterator[tuple[str, int]]:
    """Yield the full names that a module imports, with the line."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["nnunet_semisam", *filter(None, module.name.split("."))]
                kept = len(here) - node.level + module.is_package
                base = ".".join([*here[:kept], *filter(None, [base])])
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


@cache
def imports() -> tuple[Import, ...]:
    """Return all imports among our modules.

    ``from a import b`` is an import of ``a.b`` if that is a module, else of ``a``.
    """
    found = set()
    for module in modules().values():
        for full_name, line in imported_names(module):
            name = inside(full_name)
            if name is None:
                continue
            if name not in modules():
                name = name.rpartition(".")[0]
            if name in modules() and name != module.name:
                found.add(Import(module.name, name, line))
    return tuple(sorted(found))


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def floor_of(name: str, floors: tuple[tuple[str, ...], ...]) -> int | None:
    """Return the floor of a module: that of the longest entry that fits."""
    fitting = [(len(room), index) for index, rooms in enumerate(floors) for room in rooms if is_in(name, room)]
    return max(fitting)[1] if fitting else None


def room_of(name: str) -> str:
    return name.split(".")[0]


def upward(name: str, other: str) -> bool:
    """Return whether ``other`` stands on a higher floor than ``name``."""
    if room_of(name) != room_of(other):
        return floor_of(name, FLOORS) < floor_of(other, FLOORS)
    floors = FLOORS_OF_ROOMS.get(room_of(name))
    return floors is not None and floor_of(name, floors) < floor_of(other, floors)


def circles() -> list[list[str]]:
    """Return the groups of modules that import each other in a circle (strongly connected components, Tarjan)."""
    graph: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        graph[one.importer].add(one.imported)
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], index[other])
        if lowest[name] == index[name]:
            start = stack.index(name)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(found)


def in_lines(found: Iterable[object]) -> str:
    """Return findings one a line: pytest shows a text in full, and shortens a list."""
    return "\n".join(map(str, found))


def test_the_sources_are_found():
    """A guard of this file: without modules and imports all other tests would pass."""
    assert {"", "cli", "trainers.nnUNetTrainerSemiSAM", "dataset_conversion.from_nnunet"} <= modules().keys()
    known = {(one.importer, one.imported) for one in imports()}
    assert ("io.json_files", "io.atomic") in known  # from a module
    assert ("commands.doctor", "commands._checks") in known
    assert ("commands.benchmark", "benchmark.plan") in known  # inside a function
    assert ("commands.plan_mini", "data.datasets") in known  # for type checking
    assert ("trainers.nnUNetTrainerSemiSAM", "training.trainer") in known  # a folder beside the package


def test_every_module_stands_on_a_floor():
    assert [name for name in modules() if name and floor_of(name, FLOORS) is None] == []
    rooms = {room for floor in FLOORS for room in floor}
    assert sorted(room for room in rooms if room not in modules()) == []


def test_no_modules_import_each_other_in_a_circle():
    assert in_lines(circles()) == ""


def test_no_import_runs_upward():
    assert in_lines(one for one in imports() if one.imported and upward(one.importer, one.imported)) == ""


def test_no_two_rooms_import_each_other():
    """Stricter than the rule for modules: a room can be understood, and replaced, without those that use it."""
    neighbours: dict[tuple[str, str], list[Import]] = {}
    for one in imports():
        rooms = room_of(one.importer), room_of(one.imported)
        if rooms[0] != rooms[1] and all(rooms):
            neighbours.setdefault(rooms, []).append(one)
    both_ways = [(a, b) for a, b in neighbours if a < b and (b, a) in neighbours]
    assert in_lines(one for a, b in both_ways for one in [*neighbours[a, b], *neighbours[b, a]]) == ""


def test_no_room_of_the_library_knows_the_commands():
    users = [one for one in imports() if room_of(one.imported) == "commands"]
    assert in_lines(one for one in users if room_of(one.importer) not in ("commands", "cli")) == ""


def called(node: ast.expr) -> str:
    """Return the last part of a dotted name: ``nnUNetTrainer`` of ``a.b.nnUNetTrainer``."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def assigned_hooks(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the hooks that a module assigns to an object or class, with the line."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr in HOOKS:
                yield target.attr, node.lineno
        if isinstance(node, ast.Call) and called(node.func) == "setattr":
            target, name = node.args[:2]
            if isinstance(name, ast.Constant):
                if name.value in HOOKS:
                    yield name.value, node.lineno
            elif "trainer" in called(target).lower():
                yield "to a trainer what is not written here", node.lineno


def test_one_file_knows_nnunets_trainer():
    """A subclass may be named in ``trainers/``: it derives from ours and overrides nothing."""
    found = []
    for module in modules().values():
        if module.name == TRAINER_FILE:
            continue
        tree = module.tree
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and NNUNET_TRAINER in map(called, node.bases):
                found.append(f"{module.name}:{node.lineno} derives {node.name} from {NNUNET_TRAINER}")
        found += [f"{module.name}:{line} assigns {hook}" for hook, line in assigned_hooks(tree)]
    assert in_lines(found) == ""


def test_trainers_name_configurations_and_override_nothing():
    found = []
    for module in modules().values():
        if room_of(module.name) == "trainers":
            for node in ast.walk(module.tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                    found.append(f"{module.name}:{node.lineno}")
    assert in_lines(found) == ""
