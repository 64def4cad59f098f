"""Messages of every format, through a real broker: CSV, text, bytes, arrays of objects; their poison; headers and keys as columns."""
# timeout: 600
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, reason, run


def dead(c, name):
    return c.psql(f"SELECT \"offset\", sqlstate FROM millrace.dead_letters WHERE source = '{name}' ORDER BY 1")


def csv(c, kafka):
    c.psql("SET ROLE app; CREATE TABLE csv (id int PRIMARY KEY, t text, n numeric, at timestamptz, a int[], given int DEFAULT 7, source_offset bigint)")
    kafka.create_topic('csv')
    lines = [b'1,"a ""quoted""\r\ntext",2.50,2026-11-21T00:00:00Z,"{1,2}",8', b'2,,,,,9\n3,"",,yesterday,,\n', b'4,x,1', b'5,"x,,,,', b'6,caf\xe9,,,,',
             b'7,x,,,,\n8,x,no number,,,\n', b'9,x,,,,\n1,twice,,,,', 'café,x,,,,'.encode(), '10,café,,,,1'.encode(), b'', None]
    kafka.produce('csv', [(0, None, v) for v in lines])
    create(c, 'csv', 'csv', 'csv', '{"format": "csv"}')
    caught_up(c, 'csv', len(lines))
    tap.same(c.psql("SELECT id, replace(t, chr(13), 'CR'), n, at AT TIME ZONE 'UTC', a, given, source_offset FROM csv WHERE id IN (1, 2, 10) ORDER BY id"),
             [('1', 'a "quoted"CR\ntext', '2.50', '2026-11-21 00:00:00', '{1,2}', '8', '0'), ('2', None, None, None, None, '9', '1'),
              ('10', 'café', None, None, None, '1', '8')], 'CSV: quotes, line breaks, NULL, arrays, properties')
    tap.same(c.psql("SELECT t, at = 'yesterday', given FROM csv WHERE id = 3"), [('', 't', None)], 'a quoted empty field is no NULL; an empty one is, and not the default')
    tap.same(dead(c, 'csv'), [('2', '22P04'), ('3', '22P04'), ('4', '22021'), ('5', '22P02'), ('6', '23505'), ('7', '22P02'), ('9', '22P04')], 'poison of a line takes its message, and no other')
    tap.same(c.psql('SELECT id FROM csv ORDER BY id'), [(i,) for i in ('1', '2', '3', '10')], 'so that a message is all rows or none')
    tap.same(c.psql("SELECT rows, dead, skipped FROM millrace.source_offsets WHERE source = 'csv'"), [('3', '7', '1')], 'counted by messages')

    c.psql('SET ROLE app; CREATE TABLE named (a int, b text, c int DEFAULT 3)')
    kafka.create_topic('named')
    kafka.produce('named', [(0, None, b"b;nobody;a\n'x;y';1;1\n\\N;;2\n"), (0, None, b'a\n5\n'), (0, None, b'a;a2\n5\n')])
    create(c, 'named', 'named', 'named', '{"format": "csv", "header": true, "delimiter": ";", "quote": "\'", "null": "\\\\N"}')
    caught_up(c, 'named', 3)
    tap.same(c.psql('SELECT a, b, c FROM named ORDER BY a'), [('1', 'x;y', '3'), ('2', None, '3'), ('5', None, '3')], 'header in the message, other delimiter, quote and NULL')
    tap.same(dead(c, 'named'), [('2', '22P04')], 'a line shorter than its header')

    c.psql('SET ROLE app; CREATE TABLE listed (a int, b text, c int DEFAULT 3)')
    kafka.create_topic('listed')
    kafka.produce('listed', [(0, None, b'1,2,3'), (0, None, b'1,2')])
    create(c, 'listed', 'listed', 'listed', '{"format": "csv", "header": ["x", "nobody", "a"], "columns": {"x": "b"}}')
    caught_up(c, 'listed', 2)
    tap.same(c.psql('SELECT * FROM listed'), [('3', '1', '3')], 'header in the options, and option columns')


def whole(c, kafka):
    c.psql('SET ROLE app; CREATE TABLE lines (value text, source_offset bigint); CREATE TABLE blobs (raw bytea NOT NULL, n int DEFAULT 5); '
           'CREATE TABLE documents (value jsonb); CREATE TABLE numbers (value int)')
    for t in ('lines', 'blobs', 'documents', 'numbers'):
        kafka.create_topic(t)
    kafka.produce('lines', [(0, None, 'ein Wört\n'.encode()), (0, None, b'\xff'), (0, None, b''), (0, None, b'a\0b'), (0, None, None)])
    create(c, 'lines', 'lines', 'lines', '{"format": "text"}')
    kafka.produce('blobs', [(0, None, bytes(range(256))), (0, None, b''), (0, None, None)])
    create(c, 'blobs', 'blobs', 'blobs', '{"format": "bytes", "columns": {"value": "raw"}}')
    kafka.produce('documents', [(0, None, b'[1, {"a": "b"}]'), (0, None, b'{'), (0, None, b'null')])
    create(c, 'documents', 'documents', 'documents', '{"format": "text"}')
    kafka.produce('numbers', [(0, None, b'17'), (0, None, b' 18 '), (0, None, b'x')])
    create(c, 'numbers', 'numbers', 'numbers', '{"format": "text"}')
    for t, n in (('lines', 5), ('blobs', 3), ('documents', 3), ('numbers', 3)):
        caught_up(c, t, n)
    tap.same(c.psql('SELECT * FROM lines ORDER BY 2'), [('ein Wört\n', '0'), ('', '2')], 'text: the whole message is a value')
    tap.same(dead(c, 'lines'), [('1', '22021'), ('3', '22021')], 'what is no UTF-8 is no text')
    tap.same(c.psql('SELECT raw, n FROM blobs ORDER BY raw'), [('\\x', '5'), ('\\x' + bytes(range(256)).hex(), '5')], 'bytes: as they are, into the column of option columns')
    tap.same(c.psql('SELECT * FROM documents ORDER BY 1'), [('null',), ('[1, {"a": "b"}]',)], 'text into jsonb: any JSON value')
    tap.same(dead(c, 'documents') + dead(c, 'numbers'), [('1', '22P02'), ('2', '22P02')], 'and into numbers, by the type')
    c.psql('SET ROLE app; CREATE TABLE nothing (x text); CREATE TABLE wrong (value text)')
    create(c, 'nothing', 'lines', 'nothing', '{"format": "text"}')
    reason(c, 'nothing', 'takes the value')
    create(c, 'wrong', 'lines', 'wrong', '{"format": "bytes"}')
    reason(c, 'wrong', 'not of type bytea')
    c.psql('ALTER TABLE nothing RENAME x TO value')
    caught_up(c, 'nothing', 5)
    tap.same(c.value('SELECT count(*) FROM nothing'), '2', 'a target without the column is waited for, with the reason')
    c.psql("SELECT millrace.drop_source('wrong')")


def arrays(c, kafka):
    c.psql('SET ROLE app; CREATE TABLE parts (id int PRIMARY KEY, source_offset bigint)')
    kafka.create_topic('parts')
    kafka.produce('parts', [(0, None, b'[{"id": 1}, {"id": 2}]'), (0, None, b'{"id": 3}'), (0, None, b'[]'), (0, None, b'[{"id": 4}, {"id": "x"}]'), (0, None, b'[{"id": 5}, {"id": 1}]'),
                            (0, None, b'[' + b','.join(b'{"id": %d}' % i for i in range(100, 2100)) + b']')])
    create(c, 'parts', 'parts', 'parts', '{"array": "rows"}')
    caught_up(c, 'parts', 6)
    tap.same(c.psql('SELECT id, source_offset FROM parts WHERE id < 100 ORDER BY 1'), [('1', '0'), ('2', '0'), ('3', '1')], 'an array of objects is as many rows, or none')
    tap.same(dead(c, 'parts'), [('3', '22P02'), ('4', '23505')], 'one bad row of an array takes its message')
    tap.same(c.value('SELECT count(*) FROM parts WHERE id >= 100'), '2000', 'more rows than a look at interrupts is apart')
    tap.same(c.psql("SELECT rows, dead, skipped FROM millrace.source_offsets WHERE source = 'parts'"), [('3', '2', '1')], 'an empty array is passed over and counted')


def main():
    run('stream_formats', (csv, whole, arrays))


if __name__ == '__main__':
    main()
