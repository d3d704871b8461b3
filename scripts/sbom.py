"""sbom.py ALL.json OUT.json < crates: keeps what is compiled in, and puts no path of this machine into it.

cargo-cyclonedx lists optional dependencies that no feature asks for, and what only builds or tests. `cargo tree` knows
better: its lines, `name vVERSION …`, say what stays.
"""

import json
import sys

all_path, out_path = sys.argv[1:]
with open(all_path, encoding="utf-8") as file:
    sbom = json.load(file)
built = {tuple(line.split()[:2]) for line in sys.stdin if line.strip()}

own = sbom["metadata"]["component"]
own_ref = own["bom-ref"]
built.remove((own["name"], "v" + own["version"]))
kept = [part for part in sbom["components"] if (part["name"], "v" + part["version"]) in built]
refs = {part["bom-ref"] for part in kept}

missing = built - {(part["name"], "v" + part["version"]) for part in kept}
unlicensed = [part["name"] for part in kept if not part.get("licenses")]
if missing or unlicensed:
    sys.exit(f"missing: {sorted(missing)}; without a licence: {unlicensed}")

sbom["components"] = kept
sbom["dependencies"] = [
    {**edges, "dependsOn": [ref for ref in edges.get("dependsOn", []) if ref in refs]}
    for edges in sbom["dependencies"]
    if edges["ref"] in refs or edges["ref"] == own_ref
]
own.pop("components", None)
own["purl"] = own["purl"].split("?")[0]
text = json.dumps(sbom, indent=2).replace(own_ref, own["purl"])
with open(out_path, "w", encoding="utf-8") as file:
    file.write(text + "\n")
print(f"{out_path}: {len(kept)} crates, {own['name']} {own['version']}")
