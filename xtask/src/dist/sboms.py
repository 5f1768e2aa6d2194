"""Validates SBOMs: CycloneDX by its JSON schema, SPDX by the rules of the specification. Arguments: the files."""

import pathlib
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document


def faults(path: pathlib.Path) -> list[str]:
    if path.name.endswith(".cdx.json"):
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(path.read_text())
        return [] if error is None else [str(error)]
    document = parse_file(str(path))
    return [message.validation_message for message in validate_full_spdx_document(document)]


found = [f"{name}: {fault}" for name in sys.argv[1:] for fault in faults(pathlib.Path(name))]
print(*found, sep="\n", end="", file=sys.stderr)
sys.exit(1 if found else 0)
