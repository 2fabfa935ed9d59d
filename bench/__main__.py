"""`python -m bench [--json] [--list] [name ...]`: run benchmarks, all of them by default."""

import argparse
import json
import sys

from bench import harness


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help="benchmarks to run")
    parser.add_argument("--json", action="store_true", help="one JSON object for the whole run")
    parser.add_argument("--list", action="store_true", help="what there is, and what it asks")
    options = parser.parse_args()
    known = harness.names()
    for name in options.names:
        if name not in known:
            parser.error(f"no benchmark {name!r}; there are {', '.join(known)}")
    chosen = options.names or known
    if options.list:
        for name in chosen:
            print(f"{name:<12} {harness.question(name)}")
        return 0
    machine = harness.machine()
    if options.json:
        figures = [harness.as_json(name, f) for name in chosen for f in harness.run(name)]
        json.dump({"machine": machine, "figures": figures}, sys.stdout, indent=2)
        print()
        return 0
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name in chosen:
        print(f"\n{name}: {harness.question(name)}")
        group = ""
        for figure in harness.run(name):
            if figure.group != group:
                group = figure.group
                print(f" {group}")
            print(harness.as_line(figure), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
