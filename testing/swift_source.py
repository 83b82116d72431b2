"""Swift, read with tree-sitter: no compiler of it runs here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def walk(node: Any) -> Iterator[Any]:
    yield node
    for child in node.children:
        yield from walk(child)


class Source:
    """One file of Swift.  Needs tree-sitter and tree-sitter-swift."""

    def __init__(self, text: str, name: str = "") -> None:
        import tree_sitter
        import tree_sitter_swift

        self.name = name
        self.text = text.encode()
        self.root = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language())).parse(self.text).root_node

    @classmethod
    def read(cls, path: Path) -> Source:
        return cls(path.read_text("utf-8"), path.name)

    def of(self, node: Any) -> str:
        return self.text[node.start_byte : node.end_byte].decode()

    def errors(self) -> list[str]:
        """Where it does not parse, by line."""
        wrong = [node for node in walk(self.root) if node.type == "ERROR" or node.is_missing]
        return [f"{self.name}:{node.start_point.row + 1}: {self.of(node)[:60]!r}" for node in wrong]

    def strings(self) -> set[str]:
        """The string literals without anything interpolated."""
        return {self.of(node) for node in walk(self.root) if node.type == "line_str_text"}

    def numbers(self) -> set[str]:
        return {self.of(node) for node in walk(self.root) if node.type in ("integer_literal", "real_literal")}

    def identifiers(self) -> set[str]:
        return {self.of(node) for node in walk(self.root) if node.type in ("simple_identifier", "type_identifier")}

    def imports(self) -> set[str]:
        return {self.of(node).split()[-1] for node in walk(self.root) if node.type == "import_declaration"}

    def constants(self) -> dict[str, str | int | float]:
        """``static let name = literal`` anywhere in the file."""
        found: dict[str, str | int | float] = {}
        for node in walk(self.root):
            value = node.child_by_field_name("value") if node.type == "property_declaration" else None
            if value is None or not self.of(node).startswith("static let"):
                continue
            name = self.of(node.child_by_field_name("name"))
            if value.type == "line_string_literal":
                found[name] = self.of(value)[1:-1]
            elif value.type == "integer_literal":
                found[name] = int(self.of(value).replace("_", ""))
            elif value.type == "real_literal":
                found[name] = float(self.of(value).replace("_", ""))
        return found

    def stored(self) -> dict[str, dict[str, str]]:
        """Struct to the keys under which it is decoded, to their types; extensions left out."""
        found = {}
        for node in walk(self.root):
            if node.type != "class_declaration" or not self.of(node).startswith("struct"):
                continue
            body = node.child_by_field_name("body")
            fields, keys = {}, {}
            for child in body.children:
                annotation = next((part for part in child.children if part.type == "type_annotation"), None)
                if child.type == "property_declaration" and self.of(child).startswith("let ") and annotation is not None:
                    fields[self.of(child.child_by_field_name("name"))] = self.of(annotation).lstrip(": ")
                if child.type == "class_declaration" and "CodingKey" in self.of(child).split("{")[0]:
                    keys = self._raw_values(child)
            found[self.of(node.child_by_field_name("name"))] = {keys.get(name, name): kind for name, kind in fields.items()}
        return found

    def _raw_values(self, enum: Any) -> dict[str, str]:
        entries = [node for node in walk(enum) if node.type == "enum_entry"]
        pairs = [self.of(node).removeprefix("case ").split(" = ") for node in entries]
        return {pair[0]: pair[1].strip('"') for pair in pairs if len(pair) == 2}
