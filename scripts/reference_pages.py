# SPDX-License-Identifier: Apache-2.0
"""Generates the reference pages of the documentation from the code, as a hook of mkdocs.

    reference/configuration.md   every field, with type, default and range, from the configuration's schema
    reference/commands.md        every command with its options, from the command line
    reference/python.md          every name of `learn2compress.__all__`, from its signature and docstring
    reference/files.md           the fields of report.json and of `lineage --json`, from their JSON Schemas
    contributing.md, changelog.md  the files of the repository's top folder

The pages exist only while the site is built, so that they never differ from the code.
"""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

SCHEMAS = {
    "report.json": "report.schema.json",
    "lineage --json, verify --json and the other queries": "lineage.schema.json",
}
RANGES = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages; called by mkdocs."""
    root = Path(config["config_file_path"]).parent
    pages = {
        "reference/configuration.md": describe_configuration(),
        "reference/commands.md": describe_commands(),
        "reference/python.md": describe_python(),
        "reference/files.md": describe_files(root),
        "contributing.md": copy_page(root / "CONTRIBUTING.md"),
        "changelog.md": copy_page(root / "CHANGELOG.md"),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def copy_page(path: Path) -> str:
    """Reads a page of the top folder, with its links as seen from docs/."""
    text = path.read_text(encoding="utf-8").replace("](docs/", "](")
    return text.replace("](CHANGELOG.md)", "](changelog.md)").replace("](CONTRIBUTING.md)", "](contributing.md)")


def describe_configuration() -> str:
    """Writes a table of fields for each section of the configuration."""
    from learn2compress.schemas.config import Config

    schema = Config.model_json_schema()
    lines = [
        "# Configuration",
        "",
        "`learn2compress init` writes these fields with descriptions and defaults. Sizes are written as `24KB`, "
        "`1.5MB` (1,000 bytes) or `24KiB` (1,024), counts as `2M` or `500K`. An unknown field is refused. Any "
        "field can be overridden on the command line: `--set distill.epochs=3`.",
    ]
    for name, reference in schema["properties"].items():
        section = _definition(schema, reference)
        lines += ["", f"## {name}", "", " ".join(section.get("description", "").split()), ""]
        lines += _table(schema, section)
    return "\n".join(lines) + "\n"


def describe_commands() -> str:
    """Writes the help of every command."""
    import typer
    from typer.cli import get_docs_for_click

    from learn2compress.cli.main import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="learn2compress")
    text = get_docs_for_click(obj=command, ctx=context, name="learn2compress", title="Commands")
    return text.replace("\N{NO-BREAK SPACE}", " ")


def describe_python() -> str:
    """Writes the signature and the docstring of every name that the package offers."""
    import learn2compress

    found = {name: getattr(learn2compress, name) for name in learn2compress.__all__}
    lines = [
        "# Python",
        "",
        "`import learn2compress as l2c` offers these names; nothing heavy is imported before a function is called. "
        "The errors that a user can correct are subclasses of `Learn2CompressError`, with a message of one line.",
    ]
    for name, thing in sorted(found.items(), key=lambda item: (inspect.isclass(item[1]), item[0])):
        lines += ["", f"## {name}", ""]
        if not inspect.isclass(thing):
            lines += ["```python", _signature(name, thing), "```", ""]
        lines += _docstring(inspect.getdoc(thing) or "")
        for method, of in vars(thing).items() if inspect.isclass(thing) else ():
            function = of.fget if isinstance(of, property) else getattr(of, "func", of)  # cached_property has func
            if method.startswith("_") or not inspect.isfunction(function) or not function.__doc__:
                continue
            call = "" if function is not of else "(…)"
            lines += ["", f"### {name}.{method}{call}", "", *_docstring(inspect.getdoc(function) or "")]
    return "\n".join(lines) + "\n"


def _signature(name: str, function: Any) -> str:
    """Writes a signature with one parameter on each line, and types without their modules."""
    signature = inspect.signature(function)
    lines, keyword = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword:
            lines.append("    *,")
            keyword = True
        lines.append(f"    {parameter},")
    returns = inspect.formatannotation(signature.return_annotation)
    text = f"{name}(\n" + "\n".join(lines) + f"\n) -> {returns}"
    text = re.sub(r"\b(?:collections\.abc|typing|pathlib|learn2compress\.[\w.]+)\.(?=[A-Z])", "", text)
    text = re.sub(r"(: |-> )'([^'\n]*)'", r"\1\2", text)  # an annotation that is written as text
    return re.sub(r"<built-in function (\w+)>", r"\1", text)


def _docstring(text: str) -> Iterator[str]:
    """Converts a docstring to Markdown: the sections Args, Attributes and Raises become lists."""
    section = ""
    for line in text.splitlines():
        head = re.fullmatch(r"(Args|Attributes|Returns|Raises):", line)
        entry = re.match(r"    ([\w, ]+): (.*)", line)
        if head:
            section = head[1]
            yield from (f"**{section}**", "")
        elif section in ("Args", "Attributes", "Raises") and entry and not line.startswith("     "):
            yield f"- `{entry[1]}`: {entry[2]}"
        else:
            yield f"  {line.strip()}" if section and line.strip() and section != "Returns" else line.strip()


def describe_files(root: Path) -> str:
    """Writes a table of fields for each documented JSON file.

    Args:
        root: Folder of the repository.
    """
    lines = ["# Files for programs", "", "Each of these has a JSON Schema in the package `learn2compress.schemas`."]
    for title, file in SCHEMAS.items():
        schema = json.loads((root / "schemas" / file).read_text(encoding="utf-8"))
        lines += ["", f"## {title}", "", f"Schema: `schemas/{file}`."]
        if "properties" in schema:
            lines += ["", *_table(schema, schema)]
        for name, definition in schema.get("$defs", {}).items():
            if "properties" in definition:
                lines += ["", f"### {name}", "", " ".join(definition.get("description", "").split()), ""]
                lines += _table(schema, definition)
    return "\n".join(lines) + "\n"


def _table(schema: dict[str, Any], section: dict[str, Any]) -> Iterator[str]:
    required = section.get("required", ())
    yield "| field | type | default | description |"
    yield "| --- | --- | --- | --- |"
    for key, field in section["properties"].items():
        default = "required" if key in required else f"`{json.dumps(field.get('default'), ensure_ascii=False)}`"
        cells = (f"`{key}`", _type(schema, field), default, field.get("description", ""))
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _type(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """Writes the type of a field and its range in words."""
    if "$ref" in field:
        target = _definition(schema, field)
        if target.get("type") == "object" and "properties" in target:
            return f"{field['$ref'].rsplit('/', 1)[1]}: {', '.join(f'`{key}`' for key in target['properties'])}"
        return _type(schema, target)
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    for union in ("anyOf", "oneOf", "allOf"):
        if union in field:
            return " or ".join(dict.fromkeys(_type(schema, part) for part in field[union]))
    name = field.get("type", "any")
    if name == "array" and isinstance(field.get("items"), dict):
        return f"list of {_type(schema, field['items'])}"
    if name == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"mapping to {_type(schema, field['additionalProperties'])}"
    bounds = [f"{sign} {field[key]:g}" for key, sign in RANGES.items() if key in field]
    return " ".join([str(name), *bounds])


def _definition(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    reference = field.get("$ref") or field["allOf"][0]["$ref"]
    return schema["$defs"][reference.rsplit("/", 1)[1]]


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")
