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


def shares(c, name):
    """partition -> (state, epoch) of a source."""
    return {int(p): (state, int(epoch)) for p, state, epoch in c.psql(f"SELECT partition, state, epoch FROM millrace.source_shares WHERE source = '{name}'")}


def holds(c, name, partitions, timeout=30):
    """Wait until these partitions are the source's."""
    c.wait_for(f"SELECT count(*) FROM millrace.source_shares WHERE source = '{name}' AND state = 'owned' AND partition IN ({','.join(map(str, partitions))})",
               str(len(partitions)), timeout)


def told(c, name, part, timeout=30):
    """Wait until a share of the source gives a reason that contains part."""
    c.wait_for(f"SELECT EXISTS (SELECT FROM millrace.source_shares WHERE source = '{name}' AND reason LIKE '%{part}%')", 't', timeout)


def protocol(c, kafka):
    """Two sources of one database share a topic as if they were two servers'."""
    c.psql('SET ROLE app; CREATE TABLE left_half (id int, source_partition int, source_offset bigint); CREATE TABLE right_half (LIKE left_half)')
    kafka.create_topic('halves', 4)
    options = '{"partitions": "%s", "control_topic": "halves-control", "lease_ms": 2000}'
    sent = [0]

    def produce(n):
        kafka.produce('halves', [(i % 4, None, b'{"id": %d}' % (sent[0] + i)) for i in range(n)])
        sent[0] += n

    def exact(what):
        c.wait_for("SELECT count(*) FROM (TABLE left_half UNION ALL TABLE right_half) u", str(sent[0]), 30)
        tap.same(c.psql("SELECT count(*), count(DISTINCT id) FROM (TABLE left_half UNION ALL TABLE right_half) u"), [(str(sent[0]),) * 2], what)

    produce(400)
    create(c, 'left', 'halves', 'left_half', options % '0-1')
    create(c, 'right', 'halves', 'right_half', options % '2-3')
    exact('each reads its part')
    tap.same((shares(c, 'left'), shares(c, 'right')), ({0: ('owned', 1), 1: ('owned', 1)}, {2: ('owned', 1), 3: ('owned', 1)}), 'partitions that nobody had')
    tap.same({k.decode().rsplit('/', 1)[0].count('/') for _, _, k, _ in kafka.read_all('halves-control')}, {5}, 'the control topic is made, its keys are topic/partition/identity')

    c.psql("SELECT millrace.take_partitions('right', '{1}')")
    told(c, 'right', 'is held by')
    tap.same(shares(c, 'right')[1], ('taking', 0), 'what another holds is waited for')
    produce(400)
    exact('and not read twice')
    c.psql("SELECT millrace.release_partitions('left', '{1}')")
    holds(c, 'right', [1])
    produce(400)
    exact('handed over')
    tap.same((shares(c, 'left')[1], shares(c, 'right')[1]), (('released', 1), ('owned', 2)), 'with epochs')

    # left dies: its offset is 300 and is told wrong, too old, then right
    time.sleep(1)               # its word follows
    c.psql("SELECT millrace.pause_source('left')")
    offset = int(c.value("SELECT next_offset FROM millrace.partition_offsets('left') WHERE partition = 0"))
    c.psql(f"SELECT millrace.take_over('right', '{{0}}', '{{{offset - 1}}}')")
    told(c, 'right', 'ask the copy again')
    c.psql(f"SELECT millrace.take_over('right', '{{0}}', '{{{offset}}}')")
    holds(c, 'right', [0])
    produce(400)
    exact('taken over')
    c.psql("SELECT millrace.resume_source('left')")
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'left'", 'halted')
    tap.ok('partition 0 was taken over by' in c.value("SELECT reason FROM millrace.sources WHERE name = 'left'"), 'who returns halts with the reason')
    tap.same(c.psql("SELECT state, doubled, missing FROM millrace.source_shares WHERE source = 'left' AND partition = 0"), [('lost', None, None)], 'nothing is doubled or missing')
    c.psql("SELECT millrace.resume_source('left')")
    time.sleep(1)
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'left'", 'halted')
    produce(400)
    exact('and stays fenced')

    # right is alive: nobody takes from it
    c.psql("SELECT millrace.take_over('left', '{0}', accept_duplicates => true)")
    told(c, 'left', 'has not been silent')
    time.sleep(5)
    tap.same((shares(c, 'left')[0][0], shares(c, 'right')[0][0]), ('taking', 'owned'), 'from one that lives nothing is taken')
    c.psql("SELECT millrace.release_partitions('right', '{0}')")
    holds(c, 'left', [0])
    produce(400)
    exact('but what it releases')

    # without its offset: what was committed after its last word is doubled, and told
    sent[0] += 400
    kafka.produce('halves', [(i % 4, None, b'{"id": %d}' % i) for i in range(sent[0] - 400, sent[0])])
    c.wait_for("SELECT count(*) FROM right_half WHERE source_partition = 2", str(sent[0] // 4))
    c.psql("SELECT millrace.pause_source('right')")
    stopped = int(c.value("SELECT next_offset FROM millrace.partition_offsets('right') WHERE partition = 2"))
    words = [json.loads(v) for _, _, k, v in kafka.read_all('halves-control') if k.startswith(b'halves/2/')]
    start = max(w['next'] for w in words)
    doubled = '[%d,%d)' % (start, stopped) if start < stopped else None
    c.psql("SELECT millrace.take_over('left', '{2}', accept_duplicates => true)")
    holds(c, 'left', [2])
    tap.same(c.psql("SELECT start_offset, doubled FROM millrace.source_shares WHERE source = 'left' AND partition = 2"), [(str(start), '[%d,)' % start)],
             'accept_duplicates begins at the last word, and tells from where on may be doubled')
    c.psql("SELECT millrace.resume_source('right')")
    c.wait_for("SELECT state FROM millrace.source_shares WHERE source = 'right' AND partition = 2", 'lost')
    tap.same(c.value("SELECT doubled FROM millrace.source_shares WHERE source = 'right' AND partition = 2"), doubled, 'who returns tells which are: %s' % doubled)
    c.psql("DELETE FROM right_half USING millrace.source_shares s WHERE s.source = 'right' AND s.partition = source_partition AND source_offset <@ s.doubled")
    produce(400)
    exact('without those nothing is doubled, and nothing missing')

    # two at once
    c.psql("SELECT millrace.release_partitions('right', '{1, 3}')")
    c.psql("SELECT millrace.pause_source('left')")
    at = c.value("SELECT next_offset FROM millrace.partition_offsets('left') WHERE partition = 0")
    c.psql('SET ROLE app; CREATE TABLE third (LIKE left_half)')
    create(c, 'third', 'halves', 'third', options % '1,3')
    holds(c, 'third', [1, 3])
    for name in ('right', 'third'):
        c.psql(f"SELECT millrace.take_over('{name}', '{{0}}', '{{{at}}}')")
    c.wait_for("SELECT string_agg(state, ',' ORDER BY state) FROM millrace.source_shares WHERE partition = 0 AND source <> 'left'", 'lost,owned', 30)
    tap.ok(True, 'of two that take the same partition one has it, and the other is told so')

    # a topic that forgets is refused; one that was made anew halts
    kafka.create_topic('forgets', 1)
    create(c, 'forgetful', 'halves', 'third', '{"partitions": [], "control_topic": "forgets"}')
    reason(c, 'forgetful', 'cleanup.policy is "delete"')
    c.psql("SELECT millrace.drop_source('forgetful'), millrace.drop_source('left'), millrace.drop_source('right')")
    kafka.delete_topic('halves-control')
    c.wait_for("SELECT state FROM millrace.sources WHERE name = 'third'", 'halted', 60)
    tap.ok('knows nothing' in c.value("SELECT reason FROM millrace.sources WHERE name = 'third'"), 'a control topic that was made anew halts')
    c.psql("SELECT millrace.take_over('third', array_agg(partition), array_agg(next_offset)) FROM millrace.partition_offsets('third') WHERE state = 'lost'")
    holds(c, 'third', [1, 3])
    tap.ok(True, 'until its offsets are given again')


def main():
    run('stream_share', (alone, protocol))


if __name__ == '__main__':
    main()
