"""Several database servers read one topic, each some of its partitions, and together every message once."""
# timeout: 600
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, reason, run


def alone(c, kafka):
    """Option partitions without a control topic: the workers divide what is listed, and wait for what is not there yet."""
    c.psql('SET ROLE app; CREATE TABLE alone (id int, source_partition int, source_offset bigint)')
    kafka.create_topic('alone', 6)
    kafka.produce('alone', [(p, None, b'{"id": %d}' % i) for i in range(10) for p in range(6)])
    create(c, 'alone', 'alone', 'alone', '{"partitions": "4, 0-1, 7", "workers": 2}')
    caught_up(c, 'alone', 30)
    tap.same(c.psql('SELECT source_partition, count(*) FROM alone GROUP BY 1 ORDER BY 1'), [('0', '10'), ('1', '10'), ('4', '10')], 'listed partitions, and no other')
    tap.same(c.value("SELECT count(DISTINCT owner_pid) FROM millrace.source_offsets WHERE source = 'alone'"), '2', 'divided between two workers')
    reason_of = "SELECT string_agg(reason, ';') FROM millrace.source_workers WHERE source = 'alone'"
    tap.ok('partition 7 does not exist yet' in c.value(reason_of), 'a partition that is not there is told')
    tap.same(c.psql("SELECT * FROM millrace.release_partitions('alone', '{1, 7}')"), [('1', '10'), ('7', None)], 'release_partitions tells where they stand')
    kafka.produce('alone', [(p, None, b'{"id": 10}') for p in range(6)])
    caught_up(c, 'alone', 32)
    time.sleep(2)
    tap.same(c.psql('SELECT source_partition, count(*) FROM alone GROUP BY 1 ORDER BY 1'), [('0', '11'), ('1', '10'), ('4', '11')], 'released partitions are read no longer')
    c.psql("SELECT millrace.take_partitions('alone', '{1, 2}', '{10, 8}')")
    caught_up(c, 'alone', 44)
    tap.same(c.psql('SELECT source_partition, count(*) FROM alone GROUP BY 1 ORDER BY 1'), [('0', '11'), ('1', '11'), ('2', '3'), ('4', '11')],
             'partitions taken are read from where it was said')
    tap.same(c.value('SELECT count(*) - count(DISTINCT (source_partition, source_offset)) FROM alone'), '0', 'nothing twice')


def main():
    run('stream_share', (alone,))


if __name__ == '__main__':
    main()
