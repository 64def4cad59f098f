"""Option transform: rows made of messages by a function; what it passes over, its errors, its rights, its changes."""
# timeout: 600
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, reason, run


def counts(c, name):
    return c.psql(f"SELECT sum(rows), sum(skipped), sum(deleted), sum(dead) FROM millrace.source_offsets WHERE source = '{name}'")[0]


def rows(c, kafka):
    """A function over a row type: filters, computes, multiplies; the message's properties are attributes like any other."""
    c.psql("""SET ROLE app;
        CREATE TABLE sums (id bigint, total numeric, twice bigint GENERATED ALWAYS AS (id * 2) STORED, dropped int, place text, seq int GENERATED ALWAYS AS IDENTITY);
        ALTER TABLE sums DROP dropped;
        CREATE TYPE reading AS (id bigint, v float8[], source_partition int, o bigint);
        CREATE FUNCTION sum_up(r reading) RETURNS sums LANGUAGE sql AS $$
            SELECT r.id, (SELECT sum(x)::numeric FROM unnest(r.v) x), 0, r.source_partition || '/' || r.o, 0 WHERE r.id % 3 <> 0 $$;
        CREATE FUNCTION unfold(r reading) RETURNS SETOF sums LANGUAGE plpgsql AS $$ BEGIN
            IF r.id = 13 THEN RAISE EXCEPTION 'thirteen'; END IF;
            FOR i IN 1 .. coalesce(cardinality(r.v), 0) LOOP RETURN NEXT ROW(r.id, r.v[i], 0, i::text, 0)::sums; END LOOP; END $$;""")
    kafka.create_topic('readings', 2)
    n = 3000
    kafka.produce('readings', [(i % 2, None, b'{"id": %d, "v": [%s], "other": 1}' % (i, b','.join(b'%d' % k for k in range(i % 4)))) for i in range(n)])
    create(c, 'sum', 'readings', 'sums', '{"transform": "public.sum_up", "columns": {"$offset": "o"}}')
    caught_up(c, 'sum', n)
    tap.same(c.psql("SELECT count(*), count(DISTINCT id), sum(total), sum(twice - 2 * id), bool_and(place = (id % 2) || '/' || (id / 2)), count(DISTINCT seq) FROM sums"),
             [(str(sum(i % 3 != 0 for i in range(n))), str(sum(i % 3 != 0 for i in range(n))), str(sum(sum(range(i % 4)) for i in range(n) if i % 3)), '0', 't', str(sum(i % 3 != 0 for i in range(n))))],
             'computed rows; generated, identity and dropped columns are left alone')
    tap.same(counts(c, 'sum'), (str(sum(i % 3 != 0 for i in range(n))), str(sum(i % 3 == 0 for i in range(n))), '0', '0'), 'NULL passes a message over, and is counted')
    c.psql("SELECT millrace.drop_source('sum'); TRUNCATE sums")
    create(c, 'unfold', 'readings', 'sums', '{"transform": "public.unfold(reading)", "columns": {"$offset": "o"}}')
    caught_up(c, 'unfold', n)
    tap.same(c.psql('SELECT count(*), sum(total) FROM sums'), [(str(sum(i % 4 for i in range(n) if i != 13)), str(sum(sum(range(i % 4)) for i in range(n) if i != 13)))], 'a set: as many rows a message')
    tap.same(counts(c, 'unfold'), (str(sum(i % 4 != 0 for i in range(n) if i != 13)), str(sum(i % 4 == 0 for i in range(n))), '0', '1'), 'counted by messages')
    tap.same(c.psql("SELECT error, sqlstate, detail LIKE '%unfold%' FROM millrace.dead_letters WHERE source = 'unfold'"), [('thirteen', 'P0001', 't')], 'an error of the function is its message\'s, with where it arose')


def whole(c, kafka):
    """Functions over jsonb and bytea, with other formats."""
    c.psql("""SET ROLE app; CREATE TABLE flat (id int, name text);
        CREATE FUNCTION flatten(j jsonb) RETURNS SETOF flat LANGUAGE sql AS $$ SELECT (e->>'id')::int, j->>'name' FROM jsonb_array_elements(j->'items') e $$;
        CREATE FUNCTION lengths(b bytea) RETURNS flat LANGUAGE sql AS $$ SELECT length(b), NULL $$;""")
    kafka.create_topic('nested')
    kafka.produce('nested', [(0, None, b'{"name": "a", "items": [{"id": 1}, {"id": 2}]}'), (0, None, b'{"name": "b", "items": []}'), (0, None, b'no json'), (0, None, b'{"items": [{"id": "x"}]}'), (0, None, None)])
    create(c, 'nested', 'nested', 'flat', '{"transform": "public.flatten"}')
    caught_up(c, 'nested', 5)
    tap.same(c.psql('SELECT * FROM flat ORDER BY 1'), [('1', 'a'), ('2', 'a')], 'jsonb in, rows out')
    tap.same((c.psql("SELECT \"offset\", sqlstate FROM millrace.dead_letters WHERE source = 'nested' ORDER BY 1"), counts(c, 'nested')), ([('2', '22P02'), ('3', '22P02')], ('1', '2', '0', '2')), 'poison before and within the function')
    create(c, 'lengths', 'nested', 'flat', '{"transform": "public.lengths", "format": "bytes", "start": 2}')
    caught_up(c, 'lengths', 5)
    tap.same(c.psql('SELECT id FROM flat WHERE name IS NULL ORDER BY 1'), [('7',), ('24',)], 'bytea in')

    c.psql("""SET ROLE app; CREATE TYPE textual AS (value text, source_offset bigint);
        CREATE FUNCTION over_text(t text) RETURNS flat LANGUAGE sql AS $$ SELECT 1, t $$; CREATE FUNCTION over_row(t textual) RETURNS flat LANGUAGE sql AS $$ SELECT t.source_offset, t.value $$""")
    for f in ('over_text', 'over_row'):
        create(c, f, 'nested', 'flat', '{"transform": "public.%s", "format": "bytes"}' % f)
        reason(c, f, 'not of type bytea')
        c.psql(f"SELECT millrace.drop_source('{f}')")
    tap.ok(True, 'bytes go into bytea only, not into text that nobody has checked')
    create(c, 'over_row', 'nested', 'flat', '{"transform": "public.over_row", "format": "text", "start": 2}')
    caught_up(c, 'over_row', 5)
    tap.same(c.psql("SELECT id, name FROM flat WHERE name LIKE 'no %'"), [('2', 'no json')], 'text into an attribute named value')

    schema = '{"type": "record", "name": "r", "fields": [{"name": "name", "type": "string"}, {"name": "items", "type": {"type": "array", "items": {"type": "record", "name": "i", "fields": [{"name": "id", "type": "int"}]}}}]}'
    c.psql(f"SELECT millrace.add_avro_schema('k', 5, '{schema}')")
    kafka.create_topic('avro')
    kafka.produce('avro', [(0, None, b'\0\0\0\0\x05\x02z\x04\x12\x14\x00')])
    create(c, 'avro', 'avro', 'flat', '{"transform": "public.flatten", "format": "avro"}')
    caught_up(c, 'avro', 1)
    tap.same(c.psql("SELECT id FROM flat WHERE name = 'z' ORDER BY 1"), [('9',), ('10',)], 'Avro to a function over jsonb')


def upserts(c, kafka):
    c.psql("""SET ROLE app; CREATE TABLE latest (id text PRIMARY KEY, v int);
        CREATE TYPE change AS (k text, v int);
        CREATE FUNCTION change_of(x change) RETURNS latest LANGUAGE sql AS $$ SELECT upper(x.k), x.v WHERE x.v >= 0 $$;""")
    kafka.create_topic('changes')
    kafka.produce('changes', [(0, b'A', b'{"v": 1}'), (0, b'a', b'{"v": 2}'), (0, b'b', b'{"v": 3}'), (0, b'B', None), (0, b'b', b'{"v": -1}'), (0, b'c', b'{"v": 4}'), (0, b'C', None), (0, b'c', b'{"v": 5}')])
    create(c, 'changes', 'changes', 'latest', '{"transform": "public.change_of", "columns": {"$key": "k"}, "on_conflict": "update", "tombstones": "delete"}')
    caught_up(c, 'changes', 8)
    tap.same((c.psql('SELECT * FROM latest ORDER BY 1'), counts(c, 'changes')), ([('A', '2'), ('C', '5')], ('5', '1', '2', '0')), 'a transform before upserts and deletes, in order')


def changes(c, kafka):
    """The function and its type change while the source runs; its right goes; a hostile one gains nothing."""
    c.psql("""SET ROLE app; CREATE TABLE shown (id int, note text); CREATE TYPE thing AS (id int);
        CREATE FUNCTION f(t thing) RETURNS shown LANGUAGE sql AS $$ SELECT t.id, current_user $$;""")
    kafka.create_topic('out')
    create(c, 'out', 'out', 'shown', '{"transform": "public.f"}')
    sent = [0]

    def send():
        kafka.produce('out', [(0, None, b'{"id": %d, "note": "new"}' % (sent[0] + k)) for k in range(50)])
        sent[0] += 50

    def note(expected, name):
        caught_up(c, 'out', sent[0])
        tap.same(c.psql(f'SELECT note, count(*) FROM shown WHERE id >= {sent[0] - 50} GROUP BY 1'), [(expected, '50')], name)
    send()
    note('app', "it runs as the source's owner")
    c.psql('SET ROLE app; CREATE OR REPLACE FUNCTION f(t thing) RETURNS shown LANGUAGE sql AS $$ SELECT t.id, \'replaced\' $$')
    send()
    note('replaced', 'replaced while running')
    c.psql('SET ROLE app; ALTER TYPE thing ADD ATTRIBUTE note text; CREATE OR REPLACE FUNCTION f(t thing) RETURNS shown LANGUAGE sql AS $$ SELECT t.id, t.note $$')
    send()
    note('new', 'an attribute added to its argument is filled')
    c.psql('SET ROLE app; DROP FUNCTION f(thing)')
    send()
    reason(c, 'out', 'f')
    c.psql('CREATE FUNCTION f(t thing) RETURNS shown LANGUAGE plpgsql AS $$ BEGIN EXECUTE \'ALTER ROLE app SUPERUSER\'; RETURN NULL; END $$')
    reason(c, 'out', 'superuser')
    c.psql("REVOKE EXECUTE ON FUNCTION f(thing) FROM PUBLIC; CREATE OR REPLACE FUNCTION f(t thing) RETURNS shown LANGUAGE sql AS $$ SELECT t.id, 'again' $$")
    reason(c, 'out', 'permission denied for function')
    c.psql('GRANT EXECUTE ON FUNCTION f(thing) TO app')
    note('again', 'a function that was dropped, hostile and forbidden is waited for; nothing is lost')
    tap.same((c.psql('SELECT count(*), count(DISTINCT id) FROM shown'), counts(c, 'out')), ([(str(sent[0]), str(sent[0]))], (str(sent[0]), '0', '0', '0')), 'each message once')
    for what, options in (('a function that does not exist', '{"transform": "public.nobody"}'), ('one of another type', '{"transform": "public.flatten"}'),
                          ('a mapped column that the argument lacks', '{"transform": "public.f", "columns": {"x": "nobody"}}')):
        try:
            create(c, 'no', 'out', 'shown', options)
            tap.ok(False, what + ' is refused')
        except Exception as e:
            tap.ok('ERROR' in str(e), what + ' is refused')


def main():
    run('stream_transform', (rows, whole, upserts, changes))


if __name__ == '__main__':
    main()
