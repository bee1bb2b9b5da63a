"""first version"""

from __future__ import annotations

import argparse, json, os, random, statistics, subprocess, sys
from dataclasses import asdict
from tests.benchmarks import server
from tests.benchmarks.contenders import Task, Done


class Worker:
    def __init__(self, name, url):
        env = {**os.environ}
        env.pop("OPENAI_API_KEY", None)
        if name == "timestep-ordinary":
            env["TIMESTEP_ORDINARY_STEPS"] = "true"
        self.p = subprocess.Popen([sys.executable, "-m", "tests.benchmarks.contenders", name, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def ready(self):
        assert self.answer() == "ready"

    def answer(self):
        line = self.p.stdout.readline()
        if not line:
            raise RuntimeError("worker died")
        return json.loads(line)

    def tell(self, task):
        self.p.stdin.write(json.dumps(asdict(task)) + "\n"); self.p.stdin.flush()

    def stop(self):
        self.p.stdin.close(); self.p.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--contenders", default="plain,timestep,dbos-openai-agents")
    parser.add_argument("--turns", default="10,50")
    parser.add_argument("--concurrency", default="1,50")
    parser.add_argument("--sizes", default="200")
    parser.add_argument("--repeats", type=int, default=5)
    o = parser.parse_args()
    names = o.contenders.split(",")
    rng = random.Random(1)
    with server.running() as s:
        workers = {n: Worker(n, server.libpq(s.create("benchmark-" + n, migrated=n.startswith("timestep")))) for n in names}
        for w in workers.values():
            w.ready()
        cells = [(t, z, c) for t in map(int, o.turns.split(",")) for z in map(int, o.sizes.split(",")) for c in map(int, o.concurrency.split(","))]
        found = {}
        for _ in range(o.repeats):
            for t, z, c in cells:
                runs = max(c, 100 // t if c == 1 else c)
                if runs * t > 1000 and _ > 1: continue
                task = Task(runs, t, z, c)
                for n in rng.sample(names, len(names)):
                    before = s.counted()
                    workers[n].tell(task)
                    d = workers[n].answer()
                    after = s.counted()
                    k = runs * t
                    found.setdefault((t, z, c), {}).setdefault(n, []).append({
                        "ms": d["wall"] / k * 1000, "runs_s": runs / d["wall"], "cpu_ms": d["cpu"] / k * 1000,
                        "pg_ms": (after.cpu - before.cpu) / k * 1000, "wal_kib": (after.wal - before.wal) / k / 1024,
                        "writes": (after.writes - before.writes) / k, "peak_mib": d["peak"] / 2**20})
        for w in workers.values():
            w.stop()
        for cell, by in found.items():
            print("turns %d, %d B, concurrency %d" % cell)
            plain = [r["ms"] for r in by.get("plain", [])]
            over = {}
            for n, rows in by.items():
                med = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
                line = f"  {n:20}" + "".join(f"{k} {v:8.2f}  " for k, v in med.items())
                if plain and n != "plain":
                    over[n] = [r["ms"] - p for r, p in zip(rows, plain)]
                    line += f"over plain {statistics.median(over[n]):.2f} ms"
                print(line)
            if "dbos-openai-agents" in over:
                for n in over:
                    if n.startswith("timestep"):
                        r = [a / b for a, b in zip(over[n], over["dbos-openai-agents"])]
                        q = [a["runs_s"] / b["runs_s"] for a, b in zip(by[n], by["dbos-openai-agents"])]
                        print(f"  {n}: overhead {statistics.median(r):.2f} x, throughput {statistics.median(q):.2f} x the peer's")

main()
