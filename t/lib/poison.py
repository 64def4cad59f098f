"""Poison of many kinds for one table, and its mending: what the poison test and bench/poison.py share.

    SETUP            the table `readings`, as role app
    healthy(i)       value of message i (about 350 bytes, 20 floats)
    KINDS            name -> (value of message i or None for a tombstone, SQLSTATE, stage)
    MENDED, LOOSENED two rounds of mending: kinds that become rows with the first, and with the second
"""
import json

MAX_MESSAGE = 65536

SETUP = """SET ROLE app;
CREATE TABLE stations (id int PRIMARY KEY); INSERT INTO stations SELECT generate_series(1, 100);
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE readings (
    id bigint PRIMARY KEY, image_id text NOT NULL,
    descriptors real[] CONSTRAINT twenty CHECK (cardinality(descriptors) = 20),
    n smallint, u uuid, at timestamptz, code varchar(8), amount numeric(6,2), share percent,
    station int CONSTRAINT known_station REFERENCES stations,
    serial bigint CONSTRAINT one_serial UNIQUE,
    slot bigint,
    divisor int, ratio double precision GENERATED ALWAYS AS (100.0::float8 / divisor) STORED,
    note text,
    CONSTRAINT one_slot EXCLUDE USING btree (slot WITH =));
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused by the trigger'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW WHEN (new.note = 'refuse') EXECUTE FUNCTION refuse();
CREATE FUNCTION too_late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE check_violation USING MESSAGE = 'too late'; END $$;
CREATE CONSTRAINT TRIGGER too_late AFTER INSERT ON readings DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.note = 'late') EXECUTE FUNCTION too_late();"""


def row(i, **change):
    return {'id': i, 'image_id': 'img-%07d' % i, 'descriptors': [round(((i * 31 + k * 17) % 2000) / 1000 - 1, 4) for k in range(20)],
            'n': i % 30000, 'u': '%032x' % i, 'at': '2026-11-21T10:%02d:%02dZ' % (i // 60 % 60, i % 60), 'code': 'c%d' % (i % 1000),
            'amount': i % 9000 / 10, 'share': i % 101, 'station': i % 100 + 1, 'serial': i, 'slot': i, 'divisor': i % 7 + 1, 'note': 'ok', **change}


def text(r):
    return json.dumps(r, separators=(',', ':')).encode()


def healthy(i):
    return text(row(i))


# A fault of the value alone is found while it is decoded; one that only the table knows, by the INSERT.
VALUE, TARGET = 'VALUE_CONVERTER', 'TASK_PUT'
KINDS = {
    'no JSON': (lambda i: b'{id: %d}' % i, '22P02', VALUE),
    'truncated JSON': (lambda i: healthy(i)[:-30], '22P02', VALUE),
    'no object': (lambda i: b'[1,2,%d]' % i, '22P02', VALUE),
    'no UTF-8': (lambda i: text(row(i)).replace(b'"img-', b'"\xff\xfe'), '22021', VALUE),
    'zero byte': (lambda i: text(row(i)).replace(b'"img-', b'"img\\u0000'), '22P05', VALUE),
    'wrong type': (lambda i: text(row(i, divisor='many')), '22P02', VALUE),
    'word in an array': (lambda i: text(row(i, descriptors=['x'] * 20)), '22P02', VALUE),
    'array of arrays': (lambda i: text(row(i, descriptors=[[0.5] * 10] * 2)), '22P02', VALUE),
    'integer out of range': (lambda i: text(row(i, n=70000)), '22003', VALUE),
    'bad uuid': (lambda i: text(row(i, u='%d' % i)), '22P02', VALUE),
    'bad timestamp': (lambda i: text(row(i, at='2026-02-30T10:00:00Z')), '22008', VALUE),
    'too long for varchar': (lambda i: text(row(i, code='longer than eight')), '22001', VALUE),
    'numeric overflow': (lambda i: text(row(i, amount=123456.78)), '22003', VALUE),
    'nested too deep': (lambda i: text(row(i, note='@')).replace(b'"@"', b'[' * 300 + b']' * 300), '54001', VALUE),
    'too large': (lambda i: text(row(i, note='x' * MAX_MESSAGE)), '54000', VALUE),
    'tombstone': (lambda i: None, '22004', VALUE),
    'null where none may be': (lambda i: text(row(i, image_id=None)), '23502', TARGET),
    'domain': (lambda i: text(row(i, share=101)), '23514', TARGET),
    'check': (lambda i: text(row(i, descriptors=[0.5] * 19)), '23514', TARGET),
    'foreign key': (lambda i: text(row(i, station=i + 1000)), '23503', TARGET),
    # of an earlier message: with 1, 2, 3, 4 or 6 partitions one of its own
    'unique': (lambda i: text(row(i, serial=i - 60)), '23505', TARGET),
    'exclusion': (lambda i: text(row(i, slot=i - 60)), '23P01', TARGET),
    'generated column': (lambda i: text(row(i, divisor=0)), '22012', TARGET),
    'trigger': (lambda i: text(row(i, note='refuse')), 'P0001', TARGET),
    'deferred trigger': (lambda i: text(row(i, note='late')), '23514', TARGET),
}
NAMES = list(KINDS)
OF_TABLE = ['null where none may be', 'check', 'foreign key', 'unique', 'exclusion', 'generated column', 'trigger', 'deferred trigger']     # only the INSERT finds them

# What a user would mend first: constraints and types.  The triggers and the range of stations later.
MEND = """SET ROLE app; ALTER TABLE readings DROP CONSTRAINT twenty, DROP CONSTRAINT one_serial, DROP CONSTRAINT one_slot, ALTER image_id DROP NOT NULL,
    ALTER n TYPE int, ALTER code TYPE text, ALTER amount TYPE numeric, ALTER share TYPE int, ALTER u TYPE text;"""
MENDED = ['integer out of range', 'bad uuid', 'too long for varchar', 'numeric overflow', 'null where none may be', 'domain', 'check', 'unique', 'exclusion']
LOOSEN = """SET ROLE app; ALTER TABLE readings DROP CONSTRAINT known_station, DROP COLUMN ratio; DROP TRIGGER refuse ON readings; DROP TRIGGER too_late ON readings;"""
LOOSENED = ['foreign key', 'generated column', 'trigger', 'deferred trigger']


def kind_of(i, names=NAMES):
    """Name of the kind of poison that message i is, one in a hundred, or None."""
    return names[i // 100 % len(names)] if i % 100 == 37 else None


def message(i, names=NAMES):
    kind = kind_of(i, names) if names else None
    return KINDS[kind][0](i) if kind else healthy(i)
