"""What tests of training in the server share."""
import re

from .cluster import SqlError


def algorithms(c):
    """Of this build: what the hint lists when one does not exist."""
    try:
        c.psql("SELECT millrace.train_model('x', 'nothing', 'SELECT 1 AS x', NULL)")
    except SqlError as e:
        return re.search(r"Known algorithms: ([^.]*)\.", str(e)).group(1).split(", ")
    raise AssertionError("an algorithm of the name \"nothing\"")
