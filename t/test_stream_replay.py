"""Ranges of a topic read again into shadow tables while live ingestion goes on: exact to the offset whatever is killed, by offset
and by time, with dead letters of their own; halted, cancelled, dropped; with transform, upserts, Avro.  The oracle is a reading
of the topic by another library."""
# lane: waits
# timeout: 600
import base64
import json
import os
import signal
import struct
import sys
import threading
import time
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.kafka import Kafka
from lib.stream import caught_up, create, folder, gone, literal, reason, run, wait_up, worker_pids

COLUMNS = 'id bigint, v text, source_partition int, source_offset bigint, source_time timestamptz'


def replay(c, source, begin, end, into, options='{}'):
    return c.value(f"SELECT millrace.replay('{source}', {begin}, {end}, '{into}', {literal(options)})")


def refused(c, why, *what):
    try:
        replay(c, *what)
        tap.ok(False, f'not refused: {why}')
    except SqlError as e:
        tap.ok(why in str(e), f'refused: {why}')


def state(c, name, wanted='finished', timeout=60):
    c.wait_for(f"SELECT state = '{wanted}' FROM millrace.sources WHERE name = '{name}'", 't', timeout)


def asked(messages, ranges):
    """Places of the messages in {partition: (from, to)}."""
    return sorted((p, o) for p, o, *_ in messages if p in ranges and ranges[p][0] <= o < ranges[p][1])


def places(c, table):
    return sorted((int(p), int(o)) for p, o in c.psql(f'SELECT source_partition, source_offset FROM {table}'))


def letters(c, name):
    return sorted((int(p), int(o)) for p, o in c.psql(f"SELECT partition, \"offset\" FROM millrace.dead_letters WHERE source = '{name}'"))


def figures(c, name):
    return c.psql(f"SELECT state, messages, messages_left, rows, dead, ended_at IS NOT NULL FROM millrace.replays WHERE replay = '{name}'")[0]


def feed(kafka, topic, n, partitions, begin=0):
    """Numbered messages; every hundredth is no row."""
    kafka.produce(topic, [(i % partitions, b'%d' % i, b'{"id": "x"}' if i % 100 == 7 else b'{"id": %d, "v": "%d"}' % (i, i)) for i in range(begin, begin + n)])


def ranges(c, kafka):
    """Every form of from and to."""
    kafka.create_topic('ranges', 3)
    c.psql(f'SET ROLE app; CREATE TABLE ranges ({COLUMNS}, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (id)); '
           "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO heard VALUES (1); RETURN NULL; END $$; CREATE TABLE heard (n int); "
           'CREATE TRIGGER loud AFTER INSERT ON ranges EXECUTE FUNCTION loud()')
    create(c, 'ranges', 'ranges', 'ranges', '{"workers": 2}')
    feed(kafka, 'ranges', 1000, 3)
    caught_up(c, 'ranges', 1000)
    c.wait_for('SELECT clock_timestamp() > max(source_time) + interval \'20 ms\' FROM ranges', 't')
    middle = c.value('SELECT clock_timestamp()')
    time.sleep(0.05)
    feed(kafka, 'ranges', 500, 3, 1000)
    caught_up(c, 'ranges', 1500)
    c.psql("SELECT millrace.pause_source('ranges')")
    heard = c.value('SELECT count(*) FROM heard')
    feed(kafka, 'ranges', 100, 3, 1500)          # beyond where the source stands
    messages = kafka.read_all('ranges')
    dead = {(p, o) for p, o, _, v in messages if b'"x"' in v}
    all_of = lambda begin, end: {p: (begin, end) for p in range(3)}
    middles = {p: (1002 - p) // 3 for p in range(3)}     # offset of the first message after the middle
    cases = [('NULL', 'NULL', all_of(0, 500)), ('100', '200', all_of(100, 200)), ('100', '100', {}), ('490', '100000', all_of(490, 10 ** 9)),
             ('\'{"1": 20}\'', '\'{"1": 30}\'', {1: (20, 30)}), ('\'{"0": 17, "2": 499}\'', 'NULL', {0: (17, 500), 2: (499, 500)}), ('NULL', '\'{"2": 5}\'', {2: (0, 5)}),
             (f"timestamptz '{middle}'", "'infinity'", {p: (middles[p], 10 ** 9) for p in range(3)}), ("'-infinity'", f"'{middle}'::timestamptz", {p: (0, middles[p]) for p in range(3)})]
    for i, (begin, end, want) in enumerate(cases):
        name = replay(c, 'ranges', begin, end, f'shadow_{i}', '{"workers": 2}' if i % 2 else '{}')
        state(c, name)
        there = asked(messages, want)
        tap.same((places(c, f'shadow_{i}'), letters(c, name)), ([m for m in there if m not in dead], [m for m in there if m in dead]), f'from {begin} to {end}: rows and dead letters')
        rows, bad = len([m for m in there if m not in dead]), len([m for m in there if m in dead])
        tap.same(figures(c, name), ('finished', str(rows + bad), '0', str(rows), str(bad), 't'), 'its figures')
        assert c.psql(f"SELECT messages, messages_behind FROM millrace.stat_sources WHERE name = '{name}'") == [(str(rows + bad), '0')]
        gone(c, worker_pids(c, name))
    refused(c, 'the replay of partition 2 would end before it begins', 'ranges', '\'{"0": 17, "2": 499}\'', '400', 'shadow_none')
    tap.same((c.value('SELECT count(*) FROM heard'), letters(c, 'ranges')), (heard, [m for m in asked(messages, all_of(0, 500)) if m in dead]), 'no trigger of the target fired, no dead letter of the source was touched')
    tap.same(c.psql("SELECT sum(next_offset), max(state) FROM millrace.source_offsets, millrace.sources WHERE name = source AND source = 'ranges'"), [('1500', 'paused')], 'nor the source itself')
    c.psql('ALTER TABLE shadow_0 DROP CONSTRAINT shadow_0_pkey, ALTER id TYPE text')
    name = c.value("SELECT replay FROM millrace.replays WHERE \"into\" = 'public.shadow_0'")
    c.value(f"SELECT millrace.redrive_dead_letters('{name}')")
    c.wait_for(f"SELECT count(*) = 0 FROM millrace.dead_letters WHERE source = '{name}'", 't')
    state(c, name)
    tap.same(places(c, 'shadow_0'), asked(messages, all_of(0, 500)), 'dead letters of a finished replay are redriven into its table')


class Steady:
    """Messages at a steady rate, from a thread."""

    def __init__(self, kafka, topic, partitions, rate=400):
        self.kafka, self.topic, self.partitions, self.rate, self.sent, self.on = kafka, topic, partitions, rate, 0, True
        self.thread = threading.Thread(target=self.run)

    def run(self):
        producer = self.kafka.producer()
        while self.on:
            for i in range(self.sent, self.sent + self.rate // 20):
                producer.produce(self.topic, value=b'{"id": %d}' % (10 ** 6 + i), partition=i % self.partitions)
            self.sent += self.rate // 20
            producer.poll(0)
            time.sleep(0.05)
        producer.flush(30)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.on = False
        self.thread.join()


def killed(c, kafka):
    """Two replays at once beside a steady live stream; their workers killed, the server stopped and started."""
    n, partitions = 12000, 4
    kafka.create_topic('killed', partitions)
    c.psql(f'SET ROLE app; CREATE TABLE killed ({COLUMNS})')
    create(c, 'killed', 'killed', 'killed', '{"workers": 2}')
    feed(kafka, 'killed', n, partitions)
    caught_up(c, 'killed', n)
    for table in ('again', 'once_more'):         # statement triggers that take their time
        c.psql(f"""SET ROLE app; CREATE TABLE {table} ({COLUMNS}, PRIMARY KEY (source_partition, source_offset));
            CREATE FUNCTION {table}_slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.1); RETURN NULL; END $$;
            CREATE TRIGGER slowly AFTER INSERT ON {table} EXECUTE FUNCTION {table}_slowly()""")
    with Steady(kafka, 'killed', partitions) as live:
        one = replay(c, 'killed', '100', '2900', 'again', '{"batch_rows": 200, "workers": 2}')
        two = replay(c, 'killed', '\'{"3": 0}\'', 'NULL', 'once_more', '{"batch_rows": 50}')
        seen = []
        for how in (signal.SIGKILL, 'fast', signal.SIGKILL, signal.SIGTERM):
            before = int(c.value(f"SELECT coalesce(sum(rows), 0) FROM millrace.source_offsets WHERE source = '{one}'"))
            c.wait_for(f"SELECT sum(rows) > {before + 300} FROM millrace.source_offsets WHERE source = '{one}'", 't')
            c.wait_for(f"SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN millrace.source_workers w USING (pid) WHERE w.source = '{one}' AND wait_event = 'PgSleep')", 't', every=0.02)
            seen.append(c.value(f"SELECT state FROM millrace.sources WHERE name = '{one}'"))
            if how == 'fast':
                c.stop('fast')
                c.start()
            else:
                os.kill(worker_pids(c, one)[0], how)
                wait_up(c)
        tap.same(seen, ['running'] * 4, 'killed and stopped four times in the middle of it')
        state(c, one, timeout=120)
        state(c, two, timeout=120)
    messages = kafka.read_all('killed')
    want = [m for m in asked(messages, {p: (100, 2900) for p in range(partitions)})]
    tap.same(sorted(places(c, 'again') + letters(c, one)), want, 'its range, each message once')
    end = int(c.value(f"SELECT (\"to\" ->> '3')::bigint FROM millrace.replays WHERE replay = '{two}'"))
    tap.same(sorted(places(c, 'once_more') + letters(c, two)), asked(messages, {3: (0, end)}), 'and the other one, to where the source stood')
    tap.ok(end >= n // partitions, 'which was not before its own rows')
    caught_up(c, 'killed', len(messages))
    tap.same(sorted(places(c, 'killed') + letters(c, 'killed')), sorted(m[:2] for m in messages), f'live ingestion of {live.sent} messages went on meanwhile')


def slow_source(c, kafka, name, n=2000, partitions=2):
    """A source whose replays take a second or two: a table for them with a slow trigger."""
    kafka.create_topic(name, partitions)
    c.psql(f"""SET ROLE app; CREATE TABLE {name} ({COLUMNS}); CREATE TABLE {name}_shadow ({COLUMNS});
        CREATE FUNCTION {name}_slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END $$;
        CREATE TRIGGER slowly AFTER INSERT ON {name}_shadow EXECUTE FUNCTION {name}_slowly()""")
    create(c, name, name, name)
    feed(kafka, name, n, partitions)
    caught_up(c, name, n)
    name = replay(c, name, 'NULL', 'NULL', f'{name}_shadow', '{"batch_rows": 100}')
    c.wait_for(f"SELECT sum(rows) > 0 FROM millrace.source_offsets WHERE source = '{name}'", 't')
    return name


def ends(c, kafka):
    """Paused, cancelled, dropped; the source dropped under it; its table dropped under it."""
    name = slow_source(c, kafka, 'ends')
    c.psql(f"SELECT millrace.pause_source('{name}')")
    still = places(c, 'ends_shadow')
    time.sleep(0.5)
    tap.same((places(c, 'ends_shadow'), figures(c, name)[0]), (still, 'paused'), 'a paused replay stands still')
    c.psql(f"SELECT millrace.resume_source('{name}')")
    c.wait_for(f'SELECT count(*) > {len(still)} FROM ends_shadow', 't')
    c.psql("SELECT millrace.drop_source('ends')")
    c.psql(f"SELECT millrace.cancel_replay('{name}')")
    still = places(c, 'ends_shadow')
    time.sleep(0.5)
    tap.same((places(c, 'ends_shadow'), figures(c, name)[0], figures(c, name)[5]), (still, 'cancelled', 't'), 'so does a cancelled one, and it says when it ended')
    gone(c, worker_pids(c, name))
    c.psql(f"SELECT millrace.resume_source('{name}')")
    state(c, name)
    tap.same(sorted(places(c, 'ends_shadow') + letters(c, name)), [(p, o) for p in range(2) for o in range(1000)], 'resumed after all it ends where it would have, though its source is dropped')

    name = slow_source(c, kafka, 'dropped')
    c.psql(f"SELECT millrace.drop_source('{name}')")
    still = places(c, 'dropped_shadow')
    time.sleep(0.5)
    tap.same((places(c, 'dropped_shadow') == still, len(still) < 2000, c.psql(f"SELECT 1 FROM millrace.replays WHERE replay = '{name}'")), (True, True, []), 'a replay that is dropped leaves its rows and nothing else')

    name = slow_source(c, kafka, 'gone')
    c.psql('DROP TABLE gone_shadow')
    reason(c, name, 'does not exist')
    c.psql(f"SET ROLE app; CREATE TABLE gone_shadow ({COLUMNS}); RESET ROLE; SELECT millrace.resume_source('{name}')")
    state(c, name)
    tap.ok(0 < len(places(c, 'gone_shadow')) < 2000, 'one whose table went away waits for it, and goes on')


def kept(c, kafka):
    """Past the end of retention; compaction and transactions at the end of the range; a cluster that is another one."""
    kafka.create_topic('kept', 2)
    c.psql(f'SET ROLE app; CREATE TABLE kept ({COLUMNS})')
    create(c, 'kept', 'kept', 'kept')
    feed(kafka, 'kept', 400, 2)
    caught_up(c, 'kept', 400)
    kafka.delete_records('kept', 1, 70)
    name = replay(c, 'kept', '0', '150', 'kept_shadow')
    reason(c, name, 'offset 0 of partition 1 is next, but the broker keeps only those from 70 on')
    tap.same((figures(c, name)[0], places(c, 'kept_shadow')), ('halted', []), 'a range that is no longer kept halts the replay, with partition and first offset, before a row is written')
    c.psql(f"SELECT millrace.rewind_source('{name}', 70, partition => 1)")
    state(c, name)
    messages = kafka.read_all('kept')
    tap.same(sorted(places(c, 'kept_shadow') + letters(c, name)), asked(messages, {0: (0, 150), 1: (70, 150)}), 'rewind_source lets it begin there')
    name = replay(c, 'kept', 'NULL', 'NULL', 'kept_all')
    state(c, name)
    tap.same(sorted(places(c, 'kept_all') + letters(c, name)), asked(messages, {0: (0, 200), 1: (0, 200)}), 'without a beginning it begins at what is kept')

    kafka.create_topic('fewer', 3)
    c.psql(f'SET ROLE app; CREATE TABLE fewer ({COLUMNS})')
    create(c, 'fewer', 'fewer', 'fewer')
    feed(kafka, 'fewer', 30, 3)
    caught_up(c, 'fewer', 30)
    c.psql("SELECT millrace.pause_source('fewer')")
    kafka.delete_topic('fewer')
    time.sleep(1)
    kafka.create_topic('fewer', 1)
    name = replay(c, 'fewer', 'NULL', 'NULL', 'fewer_again')
    reason(c, name, 'does not exist any more: the topic was made anew')
    tap.same(places(c, 'fewer_again'), [], 'a partition that is no more halts the replay')
    name = replay(c, 'fewer', '\'{"0": 0}\'', 'NULL', 'fewer_one')
    reason(c, name, 'up to offset 10, but it ends before 0: the topic was made anew or truncated')
    tap.same(places(c, 'fewer_one'), [], 'so does one that ends before where the source stands')

    # The last offsets of the range are no messages: markers of transactions, one aborted.
    kafka.create_topic('marked', 1)
    producer = kafka.producer(**{'transactional.id': 'marked'})
    producer.init_transactions()
    for k in range(3):
        producer.begin_transaction()
        for i in range(10):
            producer.produce('marked', value=b'{"id": %d}' % (k * 10 + i), partition=0)
        producer.flush()
        (producer.abort_transaction if k == 2 else producer.commit_transaction)()
    c.psql(f'SET ROLE app; CREATE TABLE marked ({COLUMNS})')
    create(c, 'marked', 'marked', 'marked')
    caught_up(c, 'marked', 33)
    for end, rows in (('NULL', 20), ('22', 20), ('11', 10), ('25', 20)):
        name = replay(c, 'marked', 'NULL', end, f'marked_{end}')
        state(c, name)
        tap.same((c.value(f'SELECT count(*) FROM marked_{end}'), figures(c, name)[2]), (str(rows), '0'), f'a range that ends in no message comes to its end ({end})')


def compact(kafka, topic):
    """Wait until a topic with few keys is compacted: a segment is closed by a message that comes later."""
    before, end = len(kafka.read_all(topic)), time.monotonic() + 60
    while True:
        kafka.produce(topic, [(0, b'last', b'{"id": "last", "v": "9"}')])
        messages = kafka.read_all(topic)
        if len(messages) < before // 2:
            return messages
        assert time.monotonic() < end, 'the topic is not compacted'
        time.sleep(0.5)


def rewinds(c, kafka):
    """rewind_source beyond the end, before the beginning, into what was compacted, onto rows that are there."""
    kafka.create_topic('back', 2)
    c.psql('SET ROLE app; CREATE TABLE back (id bigint PRIMARY KEY, source_partition int, source_offset bigint)')
    create(c, 'back', 'back', 'back', '{"max_dead_percent": 100}')
    kafka.produce('back', [(i % 2, None, b'{"id": %d}' % i) for i in range(200)])
    caught_up(c, 'back', 200)

    def rewind(how):
        c.psql(f"SELECT millrace.rewind_source('back', {how})")
    rewind('to_offset => 150')
    reason(c, 'back', 'offset 150 of partition 0 was asked for, but the partition ends before 100')
    rewind('to_offset => 100')
    rewind("to_time => 'infinity'")
    c.wait_for("SELECT count(*) FROM millrace.source_offsets WHERE source = 'back' AND rewind_to IS NOT NULL", '0')     # it has looked where the end is
    kafka.produce('back', [(i % 2, None, b'{"id": %d}' % i) for i in range(200, 220)])
    caught_up(c, 'back', 220)
    tap.same((c.value('SELECT count(*) FROM back'), letters(c, 'back')), ('220', []), 'an offset beyond the end halts the source; a time beyond it is the end')
    kafka.delete_records('back', 1, 40)
    rewind('to_offset => 30')
    reason(c, 'back', 'offset 30 of partition 1 is next, but the broker keeps only those from 40 on')
    tap.same(c.value("SELECT state FROM millrace.sources WHERE name = 'back'"), 'halted', 'one before the beginning halts it')
    rewind("to_time => '2000-01-01 00:00+00'")   # the timestamp that PostgreSQL counts as 0
    caught_up(c, 'back', 220)
    c.wait_for("SELECT count(*) = 180 FROM millrace.dead_letters WHERE source = 'back'", 't')
    tap.same((c.value('SELECT count(*) FROM back'), letters(c, 'back')), ('220', [(p, o) for p in range(2) for o in range(40 * p, 110)]),
             'a time before it is the beginning; messages whose rows are there are dead letters, by their key')

    kafka.create_topic('few', 1, {'cleanup.policy': 'compact', 'segment.ms': '100', 'min.cleanable.dirty.ratio': '0.001', 'delete.retention.ms': '100'})
    c.psql('SET ROLE app; CREATE TABLE few (id text, v int, source_partition int, source_offset bigint)')
    kafka.produce('few', [(0, b'%d' % (i % 10), b'{"id": "%d", "v": %d}' % (i % 10, i)) for i in range(500)])
    left = compact(kafka, 'few')
    create(c, 'few', 'few', 'few')
    end = left[-1][1] + 1
    caught_up(c, 'few', end)
    tap.same(places(c, 'few'), [m[:2] for m in left], 'a compacted topic is read')
    c.psql("TRUNCATE few; SELECT millrace.rewind_source('few', 100)")
    caught_up(c, 'few', end)
    c.wait_for('SELECT count(*) > 0 FROM few', 't')
    tap.same(places(c, 'few'), [m[:2] for m in left if m[1] >= 100], 'rewound to an offset that was compacted away it goes on with the next one')
    gap = next(b[1] for a, b in zip([(0, -1)] + left, left) if b[1] - a[1] > 10)
    for name, begin, stop in (('a', 0, gap - 1), ('b', 5, gap + 1), ('c', gap - 5, end)):
        one = replay(c, 'few', begin, stop, f'few_{name}')
        state(c, one)
        tap.same((places(c, f'few_{name}'), figures(c, one)[2]), (asked(left, {0: (begin, stop)}), '0'), f'a replay of {begin} to {stop} of it is what is left')


def models(c, kafka):
    """Pipeline images: descriptors replayed with another model version differ from the live predictions where classify() does."""
    c.psql("""GRANT millrace_admin, millrace_modeler TO app; GRANT CREATE ON DATABASE postgres TO app; SET ROLE app;
        CREATE TABLE points AS SELECT ARRAY[x, y]::real[] AS d, CASE WHEN x + y > 10 THEN 'far' ELSE 'near' END AS one, CASE WHEN x + y > 7 THEN 'far' ELSE 'near' END AS two
            FROM generate_series(0, 10) x, generate_series(0, 10) y;
        SELECT millrace.train_model('line', 'logistic_regression', 'SELECT d, one FROM points ORDER BY d', 'one', '{"C": 100}');
        SELECT millrace.train_model('line', 'random_forest', 'SELECT d, two FROM points ORDER BY d', 'two', '{"n_estimators": 15, "random_state": 1}');
        SELECT millrace.promote_model('line', 1);""")
    kafka.create_topic('features', 2)
    c.psql("""SET ROLE app; SELECT millrace.create_pipeline('images', options => '{"server": "k", "features_topic": "features"}');
        DELETE FROM images.profiles; INSERT INTO images.profiles (profile, model) VALUES ('line', 'line')""")

    def vector(i):
        return [(i * 37 % 101) / 10, (i * 53 % 97) / 9.7]
    n = 3000
    kafka.produce('features', [(i % 2, None, b'{"image_id": "x", "descriptors": "bad"}' if i % 50 == 9 else json.dumps({'image_id': f'i{i}', 'descriptors': vector(i), 'descriptor_count': 2}).encode()) for i in range(n)])
    caught_up(c, 'images_descriptors', n)
    name = c.value("""SET ROLE app; SELECT images.replay(200, 1200, '{"line": "line:2"}', options => '{"batch_rows": 200}')""")
    kafka.produce('features', [(i % 2, None, json.dumps({'image_id': f'i{i}', 'descriptors': vector(i)}).encode()) for i in range(n, n + 500)])
    state(c, name)
    caught_up(c, 'images_descriptors', n + 500)
    read = [(json.loads(v), p, o) for p, o, _, v in kafka.read_all('features') if 200 <= o < 1200]
    good = {m['image_id']: m['descriptors'] for m, _, _ in read if m['image_id'] != 'x'}
    said = {version: dict(zip(good, (r[0] for r in c.psql(f"SELECT (classify(d::real[], 'line:{version}')).label FROM unnest({literal('{' + ','.join(chr(34) + json.dumps(d).replace('[', '{').replace(']', '}') + chr(34) for d in good.values()) + '}')}::text[]) WITH ORDINALITY t(d, i) ORDER BY i")))) for version in (1, 2)}
    differ = sorted(i for i in good if said[1][i] != said[2][i])
    tap.ok(100 < len(differ) < 900, f'the versions differ about {len(differ)} of {len(good)} descriptors')
    tap.same([r[0] for r in c.psql(f"SELECT image_id FROM images.replay_diff WHERE replay = '{name}' AND changed ORDER BY image_id COLLATE \"C\"")], differ, 'and so do the replay and the live predictions, nowhere else')
    tap.same(c.psql(f"SELECT count(*), bool_and(same_message), min(live_model), max(live_model), min(replayed_model), max(replayed_model) FROM images.replay_diff WHERE replay = '{name}'"),
             [(str(len(good)), 't', 'line:1', 'line:1', 'line:2', 'line:2')], 'each of the range once, of the same message, by these versions')
    tap.same(c.psql(f'SELECT image_id, label FROM {name}.predictions ORDER BY image_id COLLATE "C"'), sorted(said[2].items()), 'what the other version says is what classify() says')
    tap.same(c.psql(f"SELECT images, compared, changed FROM images.replay_agreement WHERE replay = '{name}'"), [(str(len(good)), str(len(good)), str(len(differ)))], 'the summary counts the same')
    tap.same(sorted((a, b, int(k)) for a, b, k in c.psql(f"SELECT live_label, replayed_label, images FROM images.replay_confusion WHERE replay = '{name}'")),
             sorted((a, b, sum(said[1][i] == a and said[2][i] == b for i in good)) for a, b in {(said[1][i], said[2][i]) for i in good}), 'and so does the confusion')
    tap.same(letters(c, name), sorted((p, o) for m, p, o in read if m['image_id'] == 'x'), 'what is no row is a dead letter of the replay')
    tap.same(c.psql(f"SELECT sum(r.rows), count(DISTINCT p.run_id) = count(DISTINCT r.run_id), bool_and(r.model_version = 2) FROM {name}.runs r JOIN (SELECT DISTINCT run_id FROM {name}.predictions) p USING (run_id)"),
             [(str(len(good)), 't', 't')], 'lineage: its runs name the version')
    tap.same(c.value('SELECT count(*) FROM images.predictions'), str(n + 500 - n // 50), 'live predictions are all there, and none more')
    c.psql("SET ROLE app; SELECT millrace.drop_pipeline('images')")
    tap.same(c.psql("SELECT name FROM millrace.sources WHERE name LIKE 'images%'"), [], 'the pipeline takes its shadow with it')


def photo(i):
    """A small PNG."""
    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    rows = b''.join(b'\0' + bytes((x * (i + 3) + y * 7 * i) % 256 for x in range(3 * 32)) for y in range(32))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', 32, 32, 8, 2, 0, 0, 0)) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')


def photos(c, kafka):
    """Pipeline images: photos replayed, extracted and classified anew."""
    c.psql('GRANT millrace_admin, millrace_modeler TO app; GRANT CREATE ON DATABASE postgres TO app; SELECT millrace.install_models()')
    kafka.create_topic('photos', 1)
    c.psql("""SET ROLE app; SELECT millrace.create_pipeline('images', 'pictures', options => '{"server": "k", "images_topic": "photos"}');""")
    kafka.produce('photos', [(0, None, json.dumps({'image_id': f'p{i}', 'content': base64.b64encode(b'broken' if i % 10 == 4 else photo(i)).decode()}).encode()) for i in range(60)])
    caught_up(c, 'pictures_images', 60)
    name = c.value("""SET ROLE app; SELECT pictures.replay(20, 50, '{"fast": "cifar10_fast", "tiny": "cifar10_fast"}')""")
    state(c, name)
    tap.same(c.psql(f"SELECT profile, images, compared, changed FROM pictures.replay_agreement WHERE replay = '{name}' ORDER BY 1"), [('fast', '27', '27', '0'), ('tiny', '27', '0', '0')],
             'photos of the range are classified again, by the profiles asked for')
    tap.same(c.psql(f'SELECT image_id, descriptors FROM {name}.descriptors ORDER BY source_offset'), c.psql('SELECT image_id, descriptors FROM pictures.descriptors WHERE source_offset >= 20 AND source_offset < 50 ORDER BY source_offset'),
             'their descriptors are the same')
    tap.same(c.psql(f'SELECT image_id, stage FROM {name}.failures ORDER BY 1'), [('p24', 'extract'), ('p34', 'extract'), ('p44', 'extract')], "broken ones are failures of the shadow's own")
    tap.same(c.value('SELECT count(*) FROM pictures.failures'), '6', 'and the live ones stay as they were')


def forms(c, kafka):
    """Sources with a transform, with upserts and deletes, with Avro."""
    kafka.create_topic('lines', 1)
    c.psql("""SET ROLE app; CREATE TYPE order_in AS (id int, items jsonb, source_offset bigint);
        CREATE TABLE lines (id int, sku text, source_offset bigint);
        CREATE FUNCTION lines_of(o order_in) RETURNS SETOF lines LANGUAGE sql AS $$ SELECT o.id, i ->> 'sku', o.source_offset FROM jsonb_array_elements(o.items) i $$""")
    create(c, 'lines', 'lines', 'lines', '{"transform": "lines_of"}')
    kafka.produce('lines', [(0, None, json.dumps({'id': i, 'items': [{'sku': f's{k}'} for k in range(i % 4)]}).encode()) for i in range(200)])
    caught_up(c, 'lines', 200)
    name = replay(c, 'lines', '50', '150', 'lines_shadow')
    state(c, name)
    tap.same((c.psql('SELECT * FROM lines_shadow ORDER BY 1, 2'), c.value(f"SELECT skipped FROM millrace.replays WHERE replay = '{name}'")),
             (c.psql('SELECT * FROM lines WHERE id >= 50 AND id < 150 ORDER BY 1, 2'), '25'), 'a transform makes the rows of a replay, too')
    c.psql("SET ROLE app; CREATE FUNCTION lines_upper(o order_in) RETURNS SETOF lines LANGUAGE sql AS $$ SELECT o.id, upper(i ->> 'sku'), o.source_offset FROM jsonb_array_elements(o.items) i $$")
    name = replay(c, 'lines', '50', '150', 'lines_upper', '{"transform": "lines_upper(order_in)"}')
    state(c, name)
    tap.same(c.psql('SELECT * FROM lines_upper ORDER BY 1, 2'), c.psql('SELECT id, upper(sku), source_offset FROM lines WHERE id >= 50 AND id < 150 ORDER BY 1, 2'), 'another transform makes others')
    c.psql('SET ROLE app; CREATE TABLE lines_other (id int, sku text)')
    refused(c, 'cannot be a transform for table "lines_other"', 'lines', '50', '150', 'lines_other')

    kafka.create_topic('keys', 2)
    c.psql('SET ROLE app; CREATE TABLE keys (id text PRIMARY KEY, v int)')
    create(c, 'keys', 'keys', 'keys', '{"key_format": "text", "on_conflict": "update", "tombstones": "delete"}')
    sent = [(k % 2, b'k%d' % k, None if i % 7 == 3 else b'{"v": %d}' % i) for i in range(1000) for k in (i * i % 50,)]
    kafka.produce('keys', sent)
    caught_up(c, 'keys', 1000)
    name = replay(c, 'keys', 'NULL', 'NULL', 'keys_all')
    part = replay(c, 'keys', 'NULL', '200', 'keys_part')
    state(c, name)
    state(c, part)
    tap.same(c.psql('SELECT * FROM keys_all ORDER BY 1'), c.psql('SELECT * FROM keys ORDER BY 1'), 'an upserting source replayed whole is the same table')
    want = {}
    for p, o, key, value in kafka.read_all('keys'):
        if o < 200:
            want.pop(key.decode(), None)
            if value is not None:
                want[key.decode()] = str(json.loads(value)['v'])
    tap.same(dict(c.psql('SELECT id, v FROM keys_part')), want, 'and in part, what it was then')

    kafka.create_topic('binary', 1)
    schema = {'type': 'record', 'name': 'r', 'fields': [{'name': 'id', 'type': 'long'}, {'name': 'v', 'type': 'string'}]}
    c.psql(f"SELECT millrace.add_avro_schema('k', 7, {literal(json.dumps(schema))}); SET ROLE app; CREATE TABLE binary_rows ({COLUMNS})")
    create(c, 'binary', 'binary', 'binary_rows', '{"format": "avro"}')
    kafka.produce('binary', [(0, None, b'\0\0\0\0\x07' + bytes([2 * (i % 60)]) + b'\x04ab') for i in range(100)])
    caught_up(c, 'binary', 100)
    name = replay(c, 'binary', '10', '90', 'binary_shadow')
    state(c, name)
    tap.same(c.psql('SELECT * FROM binary_shadow ORDER BY source_offset'), c.psql('SELECT * FROM binary_rows WHERE source_offset >= 10 AND source_offset < 90 ORDER BY source_offset'), 'Avro')


if __name__ == '__main__':
    run('stream_replay', (ranges, rewinds, kept, models, photos, forms, ends, killed), kafka=Kafka(folder('stream_replay'), settings={'log.cleaner.backoff.ms': '200'}), killed=True)
