"""Prints where Python looks for modules, and which modules in the given folders hide another one."""

import os
import sys

paths = sys.path[1:]
# A file cannot hide what Python has imported by now.
imported = set(sys.modules)
own = {os.path.realpath(folder) for folder in [".", *sys.argv[1:]]}
others = [path for path in paths if os.path.realpath(path) not in own]
# From here on, no file of the app is imported.
sys.path = others

import importlib.machinery
import json
import pkgutil

# Packages install these by mistake, and no app imports them.
UNUSED = {"docs", "examples", "test", "tests"}

shadows = []
for finder, name, _ in pkgutil.iter_modules(sys.argv[1:]):
    if name in imported or name in UNUSED:
        continue
    hidden = importlib.machinery.PathFinder.find_spec(name, others)
    file = finder.find_spec(name).origin
    if hidden and hidden.has_location and not os.path.samefile(hidden.origin, file):
        shadows.append({"name": name, "file": file, "hidden": hidden.origin})
print("\n" + json.dumps({"paths": paths, "shadows": shadows}))
