"""Pipeline datasets in use: its names, two of them side by side, rows of frozen versions, upgrades and restores with data in it."""
# timeout: 300
import io
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config

try:
    import numpy as np
    import psycopg
    from PIL import Image
except ImportError as e:
    tap.skip_all(f'needs {e.name}')


def one(db, sql, *args):
    row = db.execute(sql, args).fetchone()
    return row[0] if row else None


def refused(db, sql, state, name, *args):
    try:
        db.execute(sql, args)
        tap.ok(False, f'{name}: refused')
    except psycopg.Error as e:
        tap.same(e.sqlstate, state, f'{name}: {e.diag.message_primary}')


def photo(seed):
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC).save(out, 'JPEG')
    return out.getvalue()


def fill(db, schema):
    """A data set of two splits with a leak, an image whose header is cut short (it is exported without labels), and a box beyond its image."""
    db.execute(f"SELECT {schema}.create_dataset('set', class_names => '{{a,b}}')")
    for split, seed in [('train', n) for n in range(20)] + [('val', n) for n in range(19, 26)]:
        image = one(db, f"INSERT INTO {schema}.images (dataset, split, path, content) VALUES ('set', %s, %s, %s) RETURNING image_id",
                    split, f'{seed}.jpg', photo(seed)[:400] if seed == 3 else photo(seed))
        db.execute(f'INSERT INTO {schema}.annotations (image_id, class_id, x1, y1, x2, y2) VALUES (%s, %s, 5, 5, 40, %s)', (image, seed % 2, 90 if seed == 4 else 50))
    db.execute(f"INSERT INTO {schema}.problems (dataset, path, kind) VALUES ('set', 'x.txt', 'missing_columns')")


STATE = """SELECT jsonb_build_object('state', encode(dataset_state('set'), 'hex'),
	'images', (SELECT jsonb_agg(jsonb_build_array(image_id, since, until) ORDER BY image_id) FROM images),
	'annotations', (SELECT jsonb_agg(jsonb_build_array(annotation_id, since, until) ORDER BY annotation_id) FROM annotations),
	'problems', (SELECT jsonb_agg(jsonb_build_array(problem_id, since, until) ORDER BY problem_id) FROM problems),
	'versions', (SELECT jsonb_agg(v) FROM versions v), 'kinds', (SELECT jsonb_agg(k ORDER BY k.kind) FROM kinds k), 'checks', (SELECT jsonb_agg(c ORDER BY c.check) FROM checks c),
	'pairs', (SELECT count(*) FROM resumen_fugas), 'facts', (SELECT count(*) FROM facts), 'hashes', (SELECT sum(cardinality(images)) FROM hash_blocks))"""


def state(db, schema):
    with db.transaction(force_rollback=True):
        db.execute(f'SET LOCAL search_path = {schema}')
        return one(db, STATE)


def names(db):
    for name in ("o'brien", '50%s', 'back\\slash', 'a$$b', ''):
        refused(db, "SELECT millrace.create_pipeline('datasets', %s)", '42602', f'pipeline {name!r}', name)
    for name in ('With space', 'qu"ote', '2nd'):
        schema = '"%s"' % name.replace('"', '""')
        db.execute("SELECT millrace.create_pipeline('datasets', %s)", (name,))
        fill(db, schema)
        db.execute(f"SELECT {schema}.audit('set')")
        tap.same(('<svg' in one(db, f"SELECT {schema}.report('set')"), one(db, f"SELECT count(*) FROM {schema}.export_files('set')")), (True, 27 * 2),
                 f'pipeline {name!r} audits, reports and exports')
        tap.same(one(db, f"SELECT {schema}.remove_leaks('set')"), 2, f'pipeline {name!r} fixes')
        db.execute('SELECT millrace.drop_pipeline(%s)', (name,))
    tap.same((one(db, 'SELECT count(*) FROM datasets.datasets'), one(db, 'SELECT count(*) FROM other.datasets')), (1, 1), 'pipelines keep to themselves')


def frozen(db):
    """What was trained on stays, whichever way one tries."""
    db.execute("SELECT datasets.audit('set')")
    db.execute("SELECT datasets.remove_leaks('set')")
    db.execute("SELECT datasets.waive('set', kind, 'a test') FROM (SELECT DISTINCT kind FROM datasets.blocking_findings('set')) k")
    db.execute("SELECT datasets.begin_training('set')")
    before = state(db, 'datasets')
    mine = '= (SELECT min(image_id) FROM datasets.images WHERE until IS NULL)'
    gone = '= (SELECT min(image_id) FROM datasets.images WHERE until = 2)'
    for what, sql in (('content', f"UPDATE datasets.images SET content = 'x' WHERE image_id {mine}"),
                      ('content and end', f"UPDATE datasets.images SET content = 'x', until = 9 WHERE image_id {mine}"),
                      ('split', f"UPDATE datasets.images SET split = 'x' WHERE image_id {mine}"),
                      ('removal', f'DELETE FROM datasets.images WHERE image_id {mine}'),
                      ('end', f'UPDATE datasets.images SET until = 2 WHERE image_id {mine}'),
                      ('return', f'UPDATE datasets.images SET until = NULL WHERE image_id {gone}'),
                      ('late begin', f'UPDATE datasets.images SET since = 3 WHERE image_id {mine}'),
                      ('box', f'UPDATE datasets.annotations SET x1 = 0 WHERE image_id {mine}'),
                      ('return of a box', f'UPDATE datasets.annotations SET until = 5 WHERE image_id {gone}')):
        refused(db, sql, '55000', f'frozen: {what}')
    tap.same(state(db, 'datasets'), before, 'nothing of it has changed')
    tap.same(one(db, f'UPDATE datasets.images SET content = content, since = since WHERE image_id {mine} RETURNING until'), None, 'what changes nothing is not refused')
    tap.same(one(db, "SELECT datasets.new_version('set', 'test')"), 3, 'a version behind it')
    db.execute(f'UPDATE datasets.images SET until = 3 WHERE image_id {mine}')
    tap.same(one(db, 'UPDATE datasets.images SET until = NULL WHERE until = 3 RETURNING image_id') is not None, True, 'in versions that are not frozen rows go and come')


def upgraded_and_restored(c, db, folder):
    db.execute("SELECT datasets.audit('set')")
    db.execute("UPDATE datasets.kinds SET severity = 'off' WHERE kind = 'dark'")
    before = state(db, 'datasets')
    for _ in range(2):
        db.execute("SELECT millrace.upgrade_pipeline('datasets')")
    tap.same(state(db, 'datasets'), before, 'upgrade_pipeline() keeps data, and what was set')
    dump = os.path.join(folder, 'dump')
    c.program('pg_dump', '-Fc', '-f', dump, '-d', c.dsn())
    db.execute('CREATE DATABASE restored')
    c.program('pg_restore', '-e', '-d', c.dsn('restored'), dump)
    with psycopg.connect(c.dsn('restored'), autocommit=True) as copy:
        tap.same(state(copy, 'datasets'), before, 'pg_dump and pg_restore keep versions, facts and pairs')
        tap.same(one(copy, 'SELECT stale FROM datasets.health'), False, 'the audit is of this state')
        refused(copy, 'DELETE FROM datasets.images', '55000', 'restored: frozen')
        tap.same(one(copy, "INSERT INTO datasets.images (dataset, path, content) VALUES ('set', 'new.jpg', %s) RETURNING since", photo(99)), 3, 'what comes is of the newest version')
        copy.execute("SELECT datasets.audit('set')")
        tap.same(one(copy, "SELECT figures ->> 'new_images' FROM datasets.runs ORDER BY run_id DESC LIMIT 1"), '1', 'an audit there measures what is new')
        copy.execute("SELECT millrace.upgrade_pipeline('datasets')")
    db.execute('DELETE FROM datasets.datasets')
    tap.same(one(db, 'SELECT (SELECT count(*) FROM datasets.images) + (SELECT count(*) FROM datasets.runs) + (SELECT count(*) FROM datasets.facts)'), 0, 'a data set goes with all that belongs to it')


def main():
    folder = os.path.abspath(os.environ.get('MILLRACE_TMP', 'tmp/test_datasets_keep'))
    with Cluster(find_pg_config(), os.path.join(folder, 'pg'), conf={'fsync': 'off'}) as c, psycopg.connect(c.dsn(), autocommit=True) as db:
        db.execute('CREATE EXTENSION millrace')
        for name in ('datasets', 'other'):
            db.execute("SELECT millrace.create_pipeline('datasets', %s)", (name,))
            fill(db, name)
        names(db)
        frozen(db)
        upgraded_and_restored(c, db, folder)
    tap.done()


main()
