"""Topics that create_topic() asks for: made by the outbox's worker on brokers that make none by themselves, never altered, and what stands
against it told; brokers away, frozen, restarted."""
# timeout: 300
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import run


def partitions(kafka, topic):
    """How many a topic has, by a client that has nothing to do with ours; None: there is no such topic."""
    t = kafka.admin().list_topics(timeout=10).topics.get(topic)
    return len(t.partitions) if t else None


def ask(c, topic, n, options='{}'):
    c.psql(f"SELECT millrace.create_topic('k', '{topic}', {n}, '{options}')")


def wait(c, topic, state, timeout=30):
    c.wait_for(f"SELECT state FROM millrace.topics WHERE topic = '{topic}'", state, timeout)


def made(c, kafka):
    c.psql("BEGIN; SELECT millrace.create_topic('k', 'one', 3, '{\"config\": {\"retention.ms\": 3600000}}'); SELECT millrace.publish('k', 'one', 'first'); COMMIT")
    wait(c, 'one', 'ready')
    tap.same(partitions(kafka, 'one'), 3, 'a topic is made with the partitions that were asked for')
    tap.same(c.psql("SELECT found, reason, made_at IS NOT NULL, again_at FROM millrace.topics"), [('3', None, 't', None)], 'and the table says so')
    t = time.monotonic()
    c.wait_for("SELECT waiting FROM millrace.outbox_status", '0', 30)
    tap.ok(time.monotonic() - t < 5, 'a message of the same transaction was not before it')
    tap.same([v for _, _, _, v in kafka.read_all('one')], [b'first'], 'and is there')
    from confluent_kafka.admin import ConfigResource
    admin = kafka.admin()
    (f,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, 'one')]).values()
    tap.same(f.result(30)['retention.ms'].value, '3600000', 'with its config')
    ask(c, 'one', 3)
    wait(c, 'one', 'ready')
    tap.same(c.value("SELECT generation FROM millrace.topics WHERE topic = 'one'"), '2', 'asked for again it is as it was')


def there(c, kafka):
    kafka.create_topic('few', 2)
    kafka.create_topic('many', 5)
    ask(c, 'few', 3)
    ask(c, 'many', 3)
    wait(c, 'many', 'ready')
    wait(c, 'few', 'too few partitions')
    tap.same(partitions(kafka, 'few'), 2, 'a topic that is there is not altered')
    tap.ok('it has 2 partitions, 3 are wanted' in c.value("SELECT reason FROM millrace.topics WHERE topic = 'few'"), 'that it has too few stands in the table')
    c.wait_for("SELECT state || ' ' || reason LIKE 'running topic \"few\": it has 2 partitions%' FROM millrace.status() WHERE kind = 'outbox'", 't', 10)
    tap.ok(True, 'and in status()')
    kafka.add_partitions('few', 3)
    wait(c, 'few', 'ready')
    c.wait_for("SELECT reason IS NULL FROM millrace.outbox_status", 't', 10)
    tap.ok(True, 'when somebody has added them all is well')
    tap.same(c.psql("SELECT found, made_at FROM millrace.topics WHERE topic = 'many'"), [('5', None)], 'more are welcome')


def refused(c, kafka):
    ask(c, 'much', 1, '{"replication": 3}')
    c.wait_for("SELECT failures >= 3 FROM millrace.topics WHERE topic = 'much'", 't', 30)
    told = c.psql("SELECT state, reason, again_at - clock_timestamp() < '9 s' FROM millrace.topics WHERE topic = 'much'")[0]
    tap.ok(told[0] == 'wanted' and 'eplication' in told[1] and told[2] == 't', 'brokers that refuse say why, and are asked again: %s' % told[1])
    c.psql("SELECT millrace.publish('k', 'one', 'second')")
    c.wait_for("SELECT waiting FROM millrace.outbox_status", '0', 10)
    tap.ok(True, 'messages for other topics leave meanwhile')
    c.wait_for("SELECT reason LIKE '%much%' FROM millrace.status() WHERE kind = 'outbox'", 't', 10)
    ask(c, 'much', 1)
    wait(c, 'much', 'ready')
    tap.same(partitions(kafka, 'much'), 1, 'asked for as brokers can make it, it is made')
    tap.same(c.psql("SELECT millrace.forget_topic('k', 'much'), millrace.forget_topic('k', 'much')"), [('t', 'f')], 'forgotten')
    tap.same(partitions(kafka, 'much'), 1, 'it stays in Kafka')


def away(c, kafka):
    kafka.kill()
    ask(c, 'later', 2)
    time.sleep(3)
    kafka.start()
    wait(c, 'later', 'ready', 60)
    tap.same(partitions(kafka, 'later'), 2, 'brokers that were away make it when they are back')
    kafka.delete_topic('later')
    c.psql("SELECT millrace.pause_outbox('k')")
    c.psql("SELECT millrace.resume_outbox('k')")
    end = time.monotonic() + 60
    while partitions(kafka, 'later') != 2 and time.monotonic() < end:
        time.sleep(0.5)
    tap.same(partitions(kafka, 'later'), 2, 'deleted in Kafka, it is made again when the worker connects next')


def frozen(c, kafka):
    """The worker ends in time whatever it waits for."""
    kafka.freeze()
    ask(c, 'frozen', 1)
    time.sleep(1)
    t = time.monotonic()
    c.psql("SELECT millrace.pause_outbox('k')")
    c.wait_for("SELECT count(*) FROM millrace.worker_slots() WHERE kind = 'outbox' AND pid IS NOT NULL", '0', 20)
    tap.ok(time.monotonic() - t < 5, 'paused while brokers do not answer, it ends in %.1f s' % (time.monotonic() - t))
    c.psql("SELECT millrace.resume_outbox('k')")
    time.sleep(1)
    took = c.stop('fast')
    tap.ok(took < 5, 'so does the server, in %.1f s' % took)
    kafka.thaw()
    c.start()
    wait(c, 'frozen', 'ready', 60)
    tap.same(partitions(kafka, 'frozen'), 1, 'and the topic is made')


def dropped(c, kafka):
    c.psql("SELECT millrace.drop_outbox('k', true)")
    tap.same(c.psql("SELECT count(*) FROM millrace.topics"), [('0',)], 'an outbox that is dropped forgets its topics')


def main():
    run('stream_topics', (made, there, refused, away, frozen, dropped), setup=lambda c, kafka: c.psql("SELECT millrace.create_outbox('k', '{\"owner\": \"app\"}')"))


if __name__ == '__main__':
    main()
