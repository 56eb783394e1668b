#!/usr/bin/env python3
"""Writes NOTICES.md: who made what is linked into the program, under which licence, with the notices they ask for.

Reads `cargo metadata`; run it after a dependency has changed. tests/notices.rs tells when that was forgotten.
"""
import json, pathlib, re, subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "NOTICES.md"
TARGET = "x86_64-unknown-linux-gnu"


def linked():
    metadata = json.loads(subprocess.check_output(
        ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET], cwd=ROOT))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    seen, todo = set(), [metadata["resolve"]["root"]]
    while todo:
        at = todo.pop()
        if at in seen:
            continue
        seen.add(at)
        if any("proc-macro" in target["kind"] for target in packages[at]["targets"]):
            continue
        for dependency in nodes[at]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                todo.append(dependency["pkg"])
    seen.discard(metadata["resolve"]["root"])
    crates = [packages[at] for at in seen if not any("proc-macro" in t["kind"] for t in packages[at]["targets"])]
    return sorted(crates, key=lambda package: (package["name"], package["version"]))


def notices(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    lines = []
    for file in sorted(folder.glob("*")):
        if file.is_file() and re.match(r"(?i)(licen[cs]e|copying|copyright|notice)", file.name):
            for line in file.read_text(errors="replace").splitlines():
                line = line.strip()
                if re.match(r"(?i)copyright (\(c\)|©|\d)", line) and line not in lines and "[yyyy]" not in line:
                    lines.append(line)
    return lines[:6]


def main():
    crates = linked()
    rows = [f"| {c['name']} {c['version']} | {c['license'] or 'see its file'} | {'; '.join(notices(c)) or '; '.join(c['authors'][:2])} |".replace("||", "| |")
            for c in crates]
    head = (ROOT / ".ci" / "notices-head.md").read_text()
    OUT.write_text(head + "\n| crate | licence | notice |\n|---|---|---|\n" + "\n".join(rows) + "\n")


main()
