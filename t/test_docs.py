#!/usr/bin/env python3
# timeout: 600
"""The SQL of the pages about learning runs as it stands there, in order, in a database that has the tables they speak of.

A page's blocks share a database of their own.  Left out is what needs a file, a server or an extension of the reader's.
"""
import os
import pathlib
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import REPO, Cluster, SqlError, find_pg_config

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_docs")).resolve()
# A block that holds one of these is not run.
NEEDS = ("pg_read_binary_file", "resnet", "minilm", "'cifar10'", "cron.schedule", "/deliveries/", "install_models", "export_onnx", "faces_pca")

STARS = """CREATE TABLE stars AS SELECT i AS id, i AS night, 20 + random() AS u, 19 + random() AS g, 18 + random() AS r, 18 + random() AS i, 17 + random() AS z,
    (i % 3) + random() * 1.5 AS redshift, random() AS noise, (ARRAY['STAR', 'GALAXY', 'QSO'])[1 + i % 3] AS class FROM generate_series(1, 3000) i;"""
# What each page takes for granted.
TABLES = {
    "README.md": "",
    "docs/learning.md": """CREATE TABLE flowers AS SELECT i AS id, (i % 3) + random() AS petal, 5 + random() AS sepal,
            (ARRAY['blue', 'white'])[1 + i % 2] AS colour, (ARRAY['setosa', 'versicolor', 'virginica'])[1 + i % 3] AS label FROM generate_series(1, 600) i""",
    "docs/evaluation.md": STARS + """CREATE TABLE answers AS SELECT class AS truth, CASE WHEN id % 7 = 0 THEN 'STAR' ELSE class END AS predicted, redshift AS score FROM stars;
        SELECT millrace.train_model('stars', 'random_forest', 'SELECT redshift, noise, class FROM stars', 'class')""",
    "docs/tuning.md": STARS + """CREATE TABLE stars_holdout AS SELECT * FROM stars WHERE id % 5 = 0;
        SELECT millrace.train_model('stars', 'random_forest', 'SELECT u, g, r, i, z, redshift, class FROM stars', 'class', format('{"n_estimators": %s}', n)::jsonb)
        FROM generate_series(1, 3) n; SELECT millrace.promote_model('stars', 1); SELECT millrace.promote_model('stars', 2)""",
    "docs/tabular.md": "",
    "docs/similarity.md": "",
    "docs/tasks.md": "",
    "docs/drift.md": """CREATE TABLE orders AS SELECT i AS id, '2026-01-05'::timestamptz + i * interval '5 min' AS created_at, (i % 97)::float8 AS amount, i % 80 AS age,
            (ARRAY['card', 'cash'])[1 + i % 2] AS payment, i % 3 = 0 AS repeat_customer, i % 2 = 0 AS said FROM generate_series(1, 16000) i;
        CREATE TABLE verdicts AS SELECT id AS order_id, said AS truth FROM orders;
        CREATE SCHEMA sales; CREATE MATERIALIZED VIEW sales.totals AS SELECT sum(amount) FROM orders""",
}


def blocks(page):
    return [b for b in re.findall(r"^```sql\n(.*?)^```", (REPO / page).read_text(), re.M | re.S)]


def main():
    with Cluster(find_pg_config(), TMP / "cluster", conf={"max_worker_processes": 16, "timezone": "UTC"}) as c:
        for number, (page, tables) in enumerate(TABLES.items()):
            db = f"page{number}"
            c.psql(f"CREATE DATABASE {db}")
            c.psql("CREATE EXTENSION IF NOT EXISTS millrace; " + tables, db=db)
            ran = 0
            for block in blocks(page):
                if any(word in block for word in NEEDS):
                    continue
                try:
                    c.psql("SET client_min_messages = error; " + block.replace("CREATE EXTENSION millrace;", ""), db=db)
                    ran += 1
                except SqlError as e:
                    tap.ok(False, f"{page}: a block runs")
                    tap.note(block.splitlines()[0])
                    tap.note(str(e)[:600])
            tap.ok(ran > 0, f"{page}: {ran} of {len(blocks(page))} blocks run")
    tap.done()


if __name__ == "__main__":
    main()
