"""Yaml files: plain mappings, read without surprises, with an error that names the file."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from nnunet_semisam.errors import UserError, printable
from nnunet_semisam.io.regular_files import MIB, read_text

MOST_BYTES = MIB
MOST_LEVELS = 20
NUMBER = re.compile(r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$")


class _PlainLoader(yaml.SafeLoader):
    """Yaml's safe loader, without what surprises.

    Of several equal names in a mapping yaml takes the last without a word: here they are an error. Yaml 1.1 takes
    ``1e-3`` and ``1.0e6`` for texts: here they are numbers, as in yaml 1.2. References (``*name``) and deep nesting
    are errors: no settings need them, and a few lines of them unfold to gigabytes.
    """

    levels = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "references (*name) are not allowed", event.start_mark)
        self.levels += 1
        if self.levels > MOST_LEVELS:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {MOST_LEVELS} levels", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.levels -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        counts = Counter(name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode))
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER, list("-+.0123456789"))


def read_mapping(path: str | Path, remedy: str, source: str | None = None) -> dict[str, Any]:
    """Return the content of a yaml file of lines ``name: value``; an empty file is an empty mapping.

    Args:
        path: The file.
        remedy: What to do if it is missing or damaged, for the error.
        source: How messages name the file; its path if not given.

    Raises:
        UserError: If it is no regular file, too large, no valid yaml, names something twice, refers to itself, or
            holds something else than a mapping with texts as names.
    """
    source = source or str(path)
    text = read_text(path, remedy, MOST_BYTES)
    try:
        content = yaml.load(text, Loader=_PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:  # ValueError: the 31st of February
        raise UserError(f"{source} is no valid yaml: {printable(str(error), 500)}. {remedy}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{source} must hold lines 'name: value', got a {type(content).__name__}. {remedy}")
    odd = [name for name in content if not isinstance(name, str)]
    if odd:
        raise UserError(f"{source} must hold lines 'name: value', got the name {printable(repr(odd[0]))}. {remedy}")
    return content
