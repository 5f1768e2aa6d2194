"""Checks custom resources as an API server does: the schema of their definition, its defaults, the keys of its lists, and its CEL rules.

    check_resources.py DEFINITIONS RESOURCES

DEFINITIONS is a folder of definitions, RESOURCES a JSON file with an array of resources. Each line of the output is an error
("error: ..."), a rule that this program cannot evaluate ("not evaluated: KIND: RULE"), or a count ("evaluated: KIND: NUMBER").
Unknown fields are errors, as with `kubectl apply --validate=strict`. Transition rules (oldSelf) need an update, so they do
not count.
"""

import json
import pathlib
import re
import sys

import cel
import jsonschema


def close(schema):
    """Makes unknown fields errors wherever the definition lists the known ones."""
    if isinstance(schema, dict):
        is_open = schema.get("x-kubernetes-preserve-unknown-fields") is True
        if isinstance(schema.get("properties"), dict) and "type" in schema and not is_open:
            schema["additionalProperties"] = False
        for value in schema.values():
            close(value)
    elif isinstance(schema, list):
        for value in schema:
            close(value)


def apply_defaults(schema, value):
    """Sets the defaults, because an API server does so before it evaluates the rules."""
    if isinstance(value, dict):
        for name, part in schema.get("properties", {}).items():
            if name not in value and "default" in part:
                value[name] = json.loads(json.dumps(part["default"]))
            if name in value:
                apply_defaults(part, value[name])
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            for name in value.keys() - schema.get("properties", {}).keys():
                apply_defaults(others, value[name])
    elif isinstance(value, list):
        for item in value:
            apply_defaults(schema.get("items", {}), item)


def rules(schema, value, place):
    """Yields each rule that applies, with its place and value."""
    for rule in schema.get("x-kubernetes-validations", []):
        if "oldSelf" not in rule["rule"]:
            yield place, rule, value
    if isinstance(value, dict):
        for name, item in value.items():
            part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(part, dict):
                yield from rules(part, item, f"{place}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from rules(schema.get("items", {}), item, f"{place}[{number}]")


def duplicates(schema, value, place):
    """Yields the place of each list that has an item twice although the definition says that its items are a map or a set."""
    if isinstance(value, dict):
        for name, item in value.items():
            part = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
            if isinstance(part, dict):
                yield from duplicates(part, item, f"{place}.{name}")
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", [])
        kind = schema.get("x-kubernetes-list-type")
        if kind in ("map", "set"):
            seen = [json.dumps([item.get(key) for key in keys] if kind == "map" else item) for item in value]
            if len(set(seen)) < len(seen):
                yield place, f"two items with the same {' and '.join(keys) or 'value'}"
        for number, item in enumerate(value):
            yield from duplicates(schema.get("items", {}), item, f"{place}[{number}]")


def main(folder, resources):
    definitions = {}
    for path in pathlib.Path(folder).glob("*.json"):
        definition = json.loads(path.read_text())
        definitions[definition["group"], definition["kind"]] = definition
    evaluated, unknown = {}, set()
    for resource in json.loads(pathlib.Path(resources).read_text()):
        group, version = resource["apiVersion"].split("/")
        kind, name = resource["kind"], resource["metadata"]["name"]
        definition = definitions.get((group, kind))
        if definition is None or definition["version"] != version:
            print(f"error: {kind} {name}: no definition of {resource['apiVersion']}")
            continue
        schema = definition["schema"]
        close(schema)
        content = {key: value for key, value in resource.items() if key not in ("apiVersion", "kind", "metadata")}
        for error in jsonschema.Draft202012Validator(schema).iter_errors(content):
            print(f"error: {kind} {name}: {error.json_path}: {error.message}")
        apply_defaults(schema, content)
        for place, message in duplicates(schema, content, kind):
            print(f"error: {kind} {name}: {place}: {message}")
        for place, rule, value in rules(schema, content, kind):
            # Names that CEL reserves are written so in definitions.
            text = re.sub(r"__([a-z]+)__", r"\1", rule["rule"])
            try:
                is_valid = cel.evaluate(text, {"self": value})
            except Exception:  # noqa: BLE001: whatever the library cannot do is reported
                unknown.add((kind, " ".join(rule["rule"].split())))
                continue
            evaluated[kind] = evaluated.get(kind, 0) + 1
            if is_valid is not True:
                print(f"error: {kind} {name}: {place}: {rule.get('message', rule['rule'])}")
    for kind, rule in sorted(unknown):
        print(f"not evaluated: {kind}: {rule}")
    for kind, number in sorted(evaluated.items()):
        print(f"evaluated: {kind}: {number}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
