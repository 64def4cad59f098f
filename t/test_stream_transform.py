"""Option transform: rows made of messages by a function or a SELECT; what it passes over, its errors, its rights, its changes."""
# timeout: 600
import json
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


def selects(c, kafka):
    """A SELECT in place of a function: message is one row of the target's columns, whatever it came in a batch with."""
    c.psql("""SET ROLE app;
        CREATE TABLE parts (id bigint, name varchar(8), price numeric(10, 2), n int DEFAULT -1, twice bigint GENERATED ALWAYS AS (id * 2) STORED, source_offset bigint);
        CREATE TABLE countries (code int, country text); INSERT INTO countries SELECT i, 'c' || i FROM generate_series(0, 9) i;
        CREATE TYPE basket AS (id bigint, items jsonb, o bigint, source_key text);""")
    kafka.create_topic('baskets', 2)
    n = 3000
    kafka.produce('baskets', [(i % 2, b'\xff%d' % i, b'{"id": %d, "name": "a long name %d", "price": %d, "n": %s, "items": [%s]}' % (
        i, i, i % 100, b'"x"' if i == 13 else b'7', b','.join(b'{"k": %d}' % k for k in range(i % 4, 0, -1)))) for i in range(n)])

    def one(name, select, more='', target='parts'):
        c.psql(f'SET ROLE app; TRUNCATE {target}')
        create(c, name, 'baskets', target, '{"transform": %s%s}' % (json.dumps(select), more))
        caught_up(c, name, n)
        return counts(c, name)
    few = [i for i in range(n) if i % 100 > 90]
    tap.same(one('s1', "SELECT id, right(upper(name), 8) AS name, price * 1.215 AS price FROM message WHERE price > 90"), (str(len(few)), str(n - len(few)), '0', '0'), 'SELECT ... WHERE: other messages are passed over, and counted')
    tap.same(c.psql("SELECT count(*), sum(price), bool_and(n = -1 AND twice = 2 * id AND source_offset IS NULL AND name LIKE '%NAME ' || id OR id > 999) FROM parts"),
             [(str(len(few)), '%.2f' % sum(round((i % 100) * 1.215 + 1e-9, 2) for i in few), 't')],
             'expressions as an INSERT would take them; columns that are not given get their defaults, those not used are not looked at')
    tap.same(one('s2', 'SELECT id, name FROM message WHERE id < 50', ', "max_dead_percent": 100'), ('0', str(n - 50), '0', '50'), 'a text too long for its column is refused, never cut')
    tap.same(c.psql("SELECT DISTINCT sqlstate, stage FROM millrace.dead_letters WHERE source = 's2'"), [('22001', 'TASK_PUT')], 'by the INSERT')
    tap.same(one('s3', "SELECT id, (i->>'k')::int AS n, o AS source_offset FROM message, jsonb_array_elements(items) WITH ORDINALITY x (i, place) ORDER BY i->>'k' LIMIT 2",
                 ', "message_type": "public.basket", "columns": {"$offset": "o"}'), (str(n - n // 4), str(n // 4), '0', '0'), 'a row type of its own; several rows a message, and none')
    tap.same(c.psql("SELECT count(*), sum(n), bool_and(source_offset = id / 2) FROM parts"), [(str(sum(min(i % 4, 2) for i in range(n))), str(sum(sum(range(1, min(i % 4, 2) + 1)) for i in range(n))), 't')],
             'ORDER BY and LIMIT are within the message')
    tap.same(one('s4', "SELECT count(*) AS n, min(id) AS id, max(name) AS name FROM (SELECT m.id, country AS name FROM message m JOIN public.countries ON code = m.id % 10) x"), (str(n), '0', '0', '0'), 'so are aggregates; a join with a table')
    tap.same(c.psql("SELECT count(*), min(n), max(n), bool_and(name = 'c' || id % 10) FROM parts"), [(str(n), '1', '1', 't')], 'of which each message finds its row')
    tap.same(one('s5', "SELECT (value->>'id')::bigint AS id, source_offset, source_partition AS n, to_char(source_time, 'YYYY') AS name FROM message", ', "message_type": "jsonb"'), (str(n), '0', '0', '0'),
             'the whole value, and properties; a key that is no text harms nobody who does not ask for it')
    tap.same(c.psql("SELECT count(*), count(DISTINCT id), bool_and(id = source_offset * 2 + n AND name LIKE '20__') FROM parts"), [(str(n), str(n), 't')], 'each of its message')
    c.psql("SET ROLE app; CREATE FUNCTION check_id(i bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN IF i IN (13, 14, 2000) THEN RAISE EXCEPTION 'no %', i; END IF; RETURN i; END $$")
    tap.same(one('s6', 'SELECT public.check_id(id) AS id FROM message'), (str(n - 3), '0', '0', '3'), 'an error is its message\'s alone')
    tap.same(sorted(c.psql("SELECT error, sqlstate, stage FROM millrace.dead_letters WHERE source = 's6'")),
             [('no 13', 'P0001', 'TRANSFORMATION'), ('no 14', 'P0001', 'TRANSFORMATION'), ('no 2000', 'P0001', 'TRANSFORMATION')], 'and stands in its dead letter')
    c.psql("SET ROLE app; CREATE OR REPLACE FUNCTION check_id(i bigint) RETURNS bigint LANGUAGE sql AS 'SELECT -i'; RESET ROLE; SELECT millrace.redrive_dead_letters('s6')")
    c.wait_for("SELECT count(*) FROM millrace.dead_letters WHERE source = 's6'", '0')
    tap.same(c.psql('SELECT count(*), count(DISTINCT abs(id)), sum(id) FILTER (WHERE id < 0) FROM parts'), [(str(n), str(n), '-2027')], 'after a fix dead letters go through it again')
    c.psql("SELECT millrace.replay('s6', 0, 100, 'public.parts_again')")
    c.wait_for("SELECT state FROM millrace.replays WHERE source = 's6'", 'finished')
    tap.same(c.psql('SELECT count(*), sum(id) FROM parts_again'), [('200', str(-sum(range(200))))], 'a replay does, too')
    for k in range(1, 7):
        c.psql(f"SELECT millrace.drop_source('s{k}')")


def select_changes(c, kafka):
    """What a SELECT names changes, goes and comes back while the source runs."""
    c.psql("""SET ROLE app; CREATE TABLE noted (id text PRIMARY KEY, v int, note text);
        CREATE TABLE notes (id text, note text); INSERT INTO notes VALUES ('A', 'first');
        CREATE TYPE keyed AS (v int, source_key text); CREATE FUNCTION weigh(x int) RETURNS int LANGUAGE sql AS 'SELECT x * 10'""")
    kafka.create_topic('noted')
    create(c, 'noted', 'noted', 'noted', json.dumps({'transform': """
        SELECT upper(source_key) AS id, public.weigh(v) AS v, note FROM message LEFT JOIN public.notes n ON n.id = upper(source_key) WHERE v >= 0 -- the rest is noise""",
        'message_type': 'public.keyed', 'on_conflict': 'update', 'tombstones': 'delete'}))
    sent = [0]

    def send(*messages):
        kafka.produce('noted', [(0, k, v) for k, v in messages])
        sent[0] += len(messages)

    def shows(expected, name):
        caught_up(c, 'noted', sent[0])
        tap.same(c.psql('SELECT * FROM noted ORDER BY id'), expected, name)
    send((b'A', b'{"v": 1}'), (b'a', b'{"v": 2}'), (b'b', b'{"v": 3}'), (b'B', None), (b'b', b'{"v": -1}'), (b'c', b'{"v": 4}'), (b'C', None), (b'c', b'{"v": 5}'))
    shows([('A', '20', 'first'), ('C', '50', None)], 'upserts and tombstones, in order')
    c.psql("UPDATE notes SET note = 'second'")
    send((b'a', b'{"v": 6}'))
    shows([('A', '60', 'second'), ('C', '50', None)], 'a table that it reads is read anew by every batch')
    c.psql("SET ROLE app; CREATE OR REPLACE FUNCTION weigh(x int) RETURNS int LANGUAGE sql AS 'SELECT x'")
    send((b'a', b'{"v": 7}'))
    shows([('A', '7', 'second'), ('C', '50', None)], 'a function that it calls was replaced')
    c.psql("SET ROLE app; BEGIN; DROP FUNCTION weigh; CREATE FUNCTION weigh(x int) RETURNS numeric LANGUAGE sql AS 'SELECT x + 0.4'; COMMIT")
    send((b'a', b'{"v": 8}'))
    shows([('A', '8', 'second'), ('C', '50', None)], 'by one of another type, which is assigned as in an INSERT')
    c.psql("SET ROLE app; ALTER TABLE notes RENAME note TO remark")
    send((b'a', b'{"v": 9}'))
    reason(c, 'noted', 'source option "transform": column "note" does not exist')
    c.psql("SET ROLE app; DROP TABLE notes")
    reason(c, 'noted', 'source option "transform": relation "public.notes" does not exist')
    c.psql("CREATE TABLE notes AS SELECT 'A'::text AS id, 'third'::text AS note")
    reason(c, 'noted', 'permission denied for table notes')
    c.psql('GRANT SELECT ON notes TO app')
    shows([('A', '9', 'third'), ('C', '50', None)], 'a table that was dropped, and is forbidden, is waited for, with the reason')
    c.psql("""SELECT millrace.alter_source('noted', '{"transform": "SELECT lower(id) AS id, 1 AS v FROM message", "columns": {"$key": "id"}, "message_type": null}')""")
    send((b'A', b'{"v": 9}'))
    shows([('A', '9', 'third'), ('C', '50', None), ('a', '1', None)], 'alter_source gives it another one')
    tap.same(counts(c, 'noted')[3], '0', 'nothing died of all that')


def select_types(c, kafka):
    """What a column's type does to a value on assignment is done before rows of one key are told apart, and never by cutting."""
    c.psql("""SET ROLE app; CREATE DOMAIN short AS varchar(3) CHECK (VALUE <> 'no');
        CREATE TABLE typed (k numeric(6, 1) PRIMARY KEY, c char(4), d short, tags varchar(3)[], n bigint);
        CREATE TYPE untyped AS (k numeric, c text, d text, tags text[], n bigint);""")
    kafka.create_topic('typed')
    good = [(0, None, b'{"k": 1.04, "n": 1}'), (0, None, b'{"k": 1.01, "n": 2}'), (0, None, b'{"k": 2, "c": "ab", "d": "abc", "tags": ["abc"], "n": 3}')]
    bad = [(0, None, b'{"k": 3, "%s": %s}' % m) for m in ((b'd', b'"abcd"'), (b'd', b'"no"'), (b'c', b'"abcde"'), (b'tags', b'["abcd"]'), (b'k', b'1234567'))]
    kafka.produce('typed', good + bad)
    create(c, 'typed', 'typed', 'typed', json.dumps({'on_conflict': 'update', 'max_dead_percent': 100, 'message_type': 'public.untyped',
                                                     'transform': 'SELECT k, c, d, tags, n::int AS n FROM message'}))
    caught_up(c, 'typed', len(good + bad))
    tap.same(c.psql('SELECT * FROM typed ORDER BY k'), [('1.0', None, None, None, '2'), ('2.0', 'ab  ', 'abc', '{abc}', '3')], 'keys that become equal are one key')
    tap.same(c.psql("SELECT \"offset\", sqlstate FROM millrace.dead_letters WHERE source = 'typed' ORDER BY 1"),
             [('3', '22001'), ('4', '23514'), ('5', '22001'), ('6', '22001'), ('7', '22003')], 'what does not fit is refused')


def select_formats(c, kafka):
    """Lines, texts and arrays; a source that refuses unknown keys."""
    c.psql('SET ROLE app; CREATE TABLE lines (id int, name text, extra text)')
    kafka.create_topic('lines')
    kafka.produce('lines', [(0, None, b'1,one,x\n2,two,\n3,three,z'), (0, None, b'bad,two,')])
    create(c, 'csv', 'lines', 'lines', json.dumps({'format': 'csv', 'transform': 'SELECT extra AS name, id FROM message WHERE id > 1'}))
    caught_up(c, 'csv', 2)
    tap.same((c.psql('SELECT * FROM lines ORDER BY id'), counts(c, 'csv')), ([('2', None, None), ('3', 'z', None)], ('1', '0', '0', '1')), 'CSV: fields stay where they are, used or not; each line is a row of message')
    create(c, 'text', 'lines', 'lines', json.dumps({'format': 'text', 'message_type': 'text', 'start': 1, 'transform': 'SELECT 9 AS id, reverse(value) AS name, source_topic AS extra FROM message'}))
    caught_up(c, 'text', 2)
    tap.same(c.psql('SELECT * FROM lines WHERE id = 9'), [('9', ',owt,dab', 'lines')], 'text')
    kafka.create_topic('objects')
    kafka.produce('objects', [(0, None, b'[{"id": 11, "name": "a"}, {"id": 12, "name": "b"}]'), (0, None, b'{"id": 13, "nmae": "c"}')])
    create(c, 'strict', 'objects', 'lines', json.dumps({'array': 'rows', 'unknown_keys': 'refuse', 'transform': 'SELECT id FROM message'}))
    caught_up(c, 'strict', 2)
    tap.same((c.psql('SELECT id, name FROM lines WHERE id > 10 ORDER BY 1'), counts(c, 'strict')), ([('11', None), ('12', None)], ('1', '0', '0', '1')), 'a key that is known but not used is not refused')


def main():
    run('stream_transform', (rows, whole, upserts, changes, selects, select_changes, select_types, select_formats))


if __name__ == '__main__':
    main()
