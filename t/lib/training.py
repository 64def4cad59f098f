"""What tests of training in the server share."""
import re

from .cluster import SqlError

# Data as they should not be, columns x and y and a label: (name, features, label, rows).
EDGES = [
    ("plain data", "i % 10 AS x, i % 7 AS y", "i % 2", 100),
    ("one row", "i AS x, i AS y", "i", 1),
    ("two rows", "i AS x, -i AS y", "i", 2),
    ("no row", "i AS x, i AS y", "i", 0),
    ("one class only", "i AS x, i % 7 AS y", "1", 100),
    ("a class of one row", "i AS x, i % 7 AS y", "(i = 50)::int", 100),
    ("no target", "i AS x, i % 7 AS y", "NULL::int", 100),
    ("a target that is NULL in half", "i % 10 AS x, i % 7 AS y", "CASE WHEN i % 4 < 2 THEN i % 2 END", 100),
    ("constant columns", "1 AS x, 2 AS y", "i % 2", 100),
    ("a constant column", "i % 10 AS x, 2 AS y", "i % 2", 100),
    ("a column of NULL", "i % 10 AS x, NULL::real AS y", "i % 2", 100),
    ("nothing but NULL", "NULL::real AS x, NULL::real AS y", "i % 2", 100),
    ("some NULL", "i % 10 AS x, CASE WHEN i % 3 > 0 THEN i % 7 END AS y", "i % 2", 100),
    ("NaN", "i % 10 AS x, 'NaN'::float8 AS y", "i % 2", 100),
    ("infinity", "i % 10 AS x, (CASE WHEN i = 5 THEN 'infinity' ELSE i::text END)::float8 AS y", "i % 2", 100),
    ("numbers too large for real", "i % 10 AS x, i * 1e300 AS y", "i % 2", 100),
    ("huge numbers", "i * 1e30 AS x, i % 7 * 1e-30 AS y", "i % 2", 100),
    ("equal columns", "i % 10 AS x, i % 10 AS y", "i % 2", 100),
    ("equal rows of other classes", "1 AS x, i % 2 AS y", "i % 3", 100),
    ("text", "i % 10 AS x, (i % 5)::text AS y", "i % 2", 100),
    ("text that never repeats", "i % 10 AS x, i::text AS y", "i % 2", 300),
    ("1,000 classes", "i % 1000 AS x, i % 31 AS y", "i % 1000", 2000),
    ("10,000 features", "wide(10000, i) AS x, 1 AS y", "i % 2", 40),
    ("arrays of other lengths", "wide(i, i) AS x, 1 AS y", "i % 2", 10),
    ("a query that writes", "writes(i) AS x, 1 AS y", "i % 2", 10),
    ("a division by zero", "1 / (i - 5) AS x, 1 AS y", "i % 2", 10),
]
# The errors are what people can act on; 22012 is the query's own error.
EXPECTED = ("22023", "22004", "22012", "25006", "42703", "42804", "54000")
EDGE_FUNCTIONS = """CREATE TABLE written (i int);
    CREATE FUNCTION wide(n int, seed int) RETURNS real[] LANGUAGE sql IMMUTABLE AS
        'SELECT array_agg((hashint4(seed * 31 + k) % 1000)::real) FROM generate_series(1, n) k';
    CREATE FUNCTION writes(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (i); RETURN i; END'"""


def algorithms(c):
    """Of this build: what the hint lists when one does not exist."""
    try:
        c.psql("SELECT millrace.train_model('x', 'nothing', 'SELECT 1 AS x', NULL)")
    except SqlError as e:
        return re.search(r"Known algorithms: ([^.]*)\.", str(e)).group(1).split(", ")
    raise AssertionError("an algorithm of the name \"nothing\"")
