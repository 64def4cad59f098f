"""Dead letters run again after a fix: one percent of poison of several kinds leaves none behind and no row twice, whatever is
killed meanwhile; what fails again stays; rows that may be newer are not overwritten unasked."""
# timeout: 600
import json
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.stream import caught_up, create, run, wait_up


def letters(c, name):
    return int(c.value(f"SELECT count(*) FROM millrace.dead_letters WHERE source = '{name}'"))


def redrive(c, name, rest=''):
    return int(c.value(f"SELECT millrace.redrive_dead_letters('{name}'{rest})"))


def settled(c, name, timeout=60):
    """Wait until no letter of the source is marked."""
    c.wait_for(f"SELECT NOT EXISTS (SELECT FROM millrace.dead_letters WHERE source = '{name}' AND redrive_at IS NOT NULL)", 't', timeout)


def counters(c, name):
    """Rows and dead as source_offsets counts them, and as the tables are."""
    return (c.psql(f"SELECT sum(rows), sum(dead) FROM millrace.source_offsets WHERE source = '{name}'")[0],
            c.psql(f"SELECT (SELECT count(*) FROM {name}), (SELECT count(*) FROM millrace.dead_letters WHERE source = '{name}')")[0])


def poison(kind, i):
    """A message that the table refuses now and will take when it is mended."""
    bad = [{'v': 'longer than ten'}, {'n': -1}, {'n': 13}, {'n': 99}, {'u': None}, {'n': 1e12}, {'big': 2 ** 40}, {'n': 77}]
    return json.dumps({'id': i, 'v': 'ok', 'n': 1, 'u': 'x', 'big': 1, **bad[kind % len(bad)]}).encode()


def strict(c, kafka):
    """Poison of many kinds; the source is killed again and again while its letters are redriven and live messages arrive."""
    n, partitions = 20000, 3
    c.psql("""SET ROLE app;
        CREATE TABLE strict (id bigint, v varchar(10), n numeric(10,2) CHECK (n > 0), u text NOT NULL, big int, source_partition int, source_offset bigint, source_time timestamptz,
            source_key text, source_headers jsonb);
        CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.n = 13 THEN RAISE EXCEPTION 'thirteen'; END IF;
            IF new.n = 99 THEN new.n := 1 / 0; END IF;
            RETURN new; END $$;
        CREATE TRIGGER picky BEFORE INSERT ON strict FOR EACH ROW EXECUTE FUNCTION picky();
        CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.n = 77 THEN RAISE check_violation USING MESSAGE = 'late'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON strict DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();""")
    kafka.create_topic('strict', partitions)

    def message(i):
        value = poison(i // 100, i) if i % 100 == 5 else json.dumps({'id': i, 'v': 'ok', 'n': 1, 'u': 'x', 'big': 1}).encode()
        return i * 7 % partitions, b'key-%d' % i, value, [('n', b'%d' % i), ('raw', b'\xff'), ('none', None)]
    kafka.produce('strict', [message(i) for i in range(n)])
    create(c, 'strict', 'strict', 'strict', '{"workers": 2}')
    caught_up(c, 'strict', n, 180)
    planted = n // 100
    tap.same(letters(c, 'strict'), planted, 'one percent is dead')
    times = dict(c.psql("SELECT convert_from(key, 'UTF8'), ts FROM millrace.dead_letters WHERE source = 'strict'"))

    tap.same(redrive(c, 'strict'), planted, 'without a fix all are tried')
    settled(c, 'strict')
    tap.same(c.psql("SELECT count(*), min(attempts), max(attempts), count(DISTINCT sqlstate) FROM millrace.dead_letters WHERE source = 'strict'"), [(str(planted), '1', '1', '6')], 'and fail again, each once')
    tap.same(*counters(c, 'strict'), 'the counters agree')

    c.psql("""ALTER TABLE strict ALTER v TYPE text, ALTER n TYPE numeric, ALTER big TYPE bigint, ALTER u DROP NOT NULL, DROP CONSTRAINT strict_n_check;
        DROP TRIGGER picky ON strict; DROP TRIGGER late ON strict;
        CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END $$;
        CREATE TRIGGER slowly AFTER INSERT ON strict EXECUTE FUNCTION slowly()""")
    killed, sent, live, rounds = 0, n, 0, 0
    while letters(c, 'strict') > 0 and rounds < 60:
        rounds += 1
        left = letters(c, 'strict')
        redrive(c, 'strict', ', at_most => 20')
        if rounds % 2:      # in the middle of the transaction: nothing of it may be there
            c.wait_for("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'millrace source' AND wait_event = 'PgSleep')", 't', every=0.02)
            pid = c.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace source' AND wait_event = 'PgSleep' LIMIT 1")
            os.kill(int(pid), signal.SIGTERM if rounds % 4 == 1 else signal.SIGKILL)
            killed += 1
            wait_up(c)
        more = [message(i) for i in range(sent, sent + 40) if i % 100 != 5]
        kafka.produce('strict', more)
        sent, live = sent + 40, live + len(more)
        settled(c, 'strict')
        caught_up(c, 'strict', n + live)    # the next kill shall find letters at work, not these
        assert letters(c, 'strict') < left, 'no letter was redriven'
    tap.ok(killed >= 5, f'workers were killed {killed} times in {rounds} rounds')
    tap.same(letters(c, 'strict'), 0, 'redrive leaves none')
    tap.same(c.psql('SELECT count(*), count(DISTINCT id), count(DISTINCT (source_partition, source_offset)) FROM strict'), [(str(n + live),) * 3], 'every message is one row')
    tap.same(*counters(c, 'strict'), 'the counters agree')
    got = dict(c.psql('SELECT source_key, source_time FROM strict WHERE id % 100 = 5'))
    tap.same([(k, t, got.get(k)) for k, t in times.items() if got.get(k) != t][:3], [], 'with the time of the message')
    tap.same(c.psql("SELECT source_headers, source_key = 'key-' || id FROM strict WHERE id = 305"),
             [('[{"key": "n", "value": "305"}, {"hex": "ff", "key": "raw"}, {"key": "none", "value": null}]', 't')], 'and its key and headers')


def choices(c, kafka):
    """Paused sources, ids, at_most, what cannot be redriven, rewinds."""
    c.psql('SET ROLE app; CREATE TABLE choice (id int)')
    kafka.create_topic('choice')
    kafka.produce('choice', [(0, None, b'{"id": "x%d"}' % i) for i in range(6)] + [(0, None, b'{"id": 1, "x": "%s"}' % (b'y' * 5000)), (0, None, None)])
    create(c, 'choice', 'choice', 'choice', '{"max_message_bytes": 2000, "max_dead_percent": 100, "tombstones": "dead_letter"}')
    caught_up(c, 'choice', 8)
    tap.same(letters(c, 'choice'), 8, 'eight dead letters')
    c.psql("SELECT millrace.pause_source('choice'); ALTER TABLE choice ALTER id TYPE text")
    first = [r[0] for r in c.psql("SELECT id FROM millrace.dead_letters WHERE source = 'choice' ORDER BY id LIMIT 2")]
    tap.same((redrive(c, 'choice', ', ARRAY[%s]' % first[1]), redrive(c, 'choice', ', at_most => 1'), redrive(c, 'choice', ', ARRAY[%s, 0]' % ', '.join(first))), (1, 1, 0), 'ids and at_most choose; nothing is marked twice')
    time.sleep(1)
    tap.same(c.value('SELECT count(*) FROM choice'), '0', 'a paused source waits')
    c.psql("SELECT millrace.resume_source('choice')")
    settled(c, 'choice')
    tap.same(c.psql('SELECT id FROM choice ORDER BY 1'), [('x0',), ('x1',)], 'until it is resumed')
    tap.same(redrive(c, 'choice'), 5, 'all others but the one without its value')
    settled(c, 'choice')
    tap.same(c.psql("SELECT sqlstate, attempts FROM millrace.dead_letters WHERE source = 'choice' ORDER BY id"), [('54000', '0'), ('22004', '1')], 'what fails again stays, with its count')
    tap.same((c.value('SELECT count(*) FROM choice'), c.psql("SELECT rows, dead FROM millrace.source_offsets WHERE source = 'choice'")), ('6', [('6', '2')]), 'the others are rows')
    c.psql("SELECT millrace.pause_source('choice')")
    tap.same(redrive(c, 'choice'), 1, 'marked again')
    c.psql("SELECT millrace.rewind_source('choice', 7)")
    settled(c, 'choice')
    tap.same(redrive(c, 'choice'), 0, 'a rewind takes marks away: the message is read again, and is not redriven before that')
    c.psql("SELECT millrace.resume_source('choice')")
    caught_up(c, 'choice', 8)
    tap.same((letters(c, 'choice'), redrive(c, 'choice')), (3, 1), 'of two letters of one message the newest is redriven')
    settled(c, 'choice')


def keyed(c, kafka):
    """Rows by key: refused unless asked for."""
    c.psql('SET ROLE app; CREATE TABLE keyed (id text PRIMARY KEY, v smallint, w int)')
    kafka.create_topic('keyed')
    kafka.produce('keyed', [(0, b'a', b'{"v": 70000}'), (0, b'b', b'{"v": 70000}'), (0, b'a', b'{"v": 2}')])
    create(c, 'keyed', 'keyed', 'keyed', '{"key_format": "text", "on_conflict": "update", "tombstones": "delete"}')
    caught_up(c, 'keyed', 3)
    c.psql('ALTER TABLE keyed ALTER v TYPE int')
    try:
        redrive(c, 'keyed')
        tap.ok(False, 'refused')
    except SqlError as e:
        tap.ok('could overwrite newer rows' in str(e), 'letters that could overwrite newer rows are refused')
    b = c.value("SELECT id FROM millrace.dead_letters WHERE source = 'keyed' AND key = 'b'")
    tap.same(redrive(c, 'keyed', f', ARRAY[{b}], overwrite => true'), 1, 'unless asked for')
    settled(c, 'keyed')
    tap.same(c.psql('SELECT id, v FROM keyed ORDER BY 1'), [('a', '2'), ('b', '70000')], 'one chosen letter')
    redrive(c, 'keyed', ', overwrite => true')
    settled(c, 'keyed')
    tap.same((c.psql('SELECT id, v FROM keyed ORDER BY 1'), letters(c, 'keyed')), ([('a', '70000'), ('b', '70000')], 0), 'overwritten, as asked for')


def main():
    run('stream_redrive', (choices, keyed, strict), killed=True)


if __name__ == '__main__':
    main()
