"""A real Kafka broker for tests: one KRaft node in a folder of its own.

    with Kafka(tmp) as kafka:                    # fetches the jars once, formats, starts
        kafka.create_topic('t', partitions=6)
        kafka.produce('t', [(partition, key, value), ...])   # returns [(partition, offset), ...]
        kafka.freeze(); kafka.thaw(); kafka.kill(); kafka.start()

Jars lie in $MILLRACE_KAFKA_LIB, else build/kafka/lib (Maven Central, through mvn).
Needs Java 17 and confluent-kafka.
"""
import os
import shutil
import subprocess
import time

from lib.cluster import free_port
from lib.process import Process, alone

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def jars():
    """Folder of the broker's jars; fetched on first use."""
    lib = os.environ.get('MILLRACE_KAFKA_LIB') or os.path.join(ROOT, 'build', 'kafka', 'lib')

    def there():
        return os.path.isdir(lib) and any(n.startswith('kafka_2.13') for n in os.listdir(lib))
    if there():
        return lib
    with alone(lib):
        if there():
            return lib
        aside = lib + '.new'
        shutil.rmtree(aside, ignore_errors=True)
        os.makedirs(aside)
        subprocess.run(['mvn', '-q', '-B', '-Dstyle.color=never', '-f', os.path.join(HERE, 'kafka-pom.xml'), 'dependency:copy-dependencies',
                        '-DincludeScope=runtime', '-DoutputDirectory=' + aside], check=True, timeout=1200)
        shutil.rmtree(lib, ignore_errors=True)
        os.rename(aside, lib)
    return lib


class Kafka(Process):
    what = 'the broker'

    def __init__(self, folder, heap='512m', settings=None, port=None, cluster='bWlsbHJhY2UtdGVzdC0wMQ', proxied=None):
        """settings: extra lines for server.properties, as a dict.  cluster: its id.  proxied: (port, port of a proxy) of
        a second listener, whose clients are told to come through the proxy."""
        self.folder = os.path.join(os.path.abspath(folder), 'kafka')
        self.heap, self.settings, self.cluster = heap, dict(settings or {}), cluster
        self.port, self.controller = port or free_port(), free_port()
        self.bootstrap = '127.0.0.1:%d' % self.port
        if proxied:
            self.settings.update({
                'listeners': 'CLIENT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d,PROXIED://127.0.0.1:%d' % (self.port, self.controller, proxied[0]),
                'advertised.listeners': 'CLIENT://127.0.0.1:%d,PROXIED://127.0.0.1:%d' % (self.port, proxied[1]),
                'listener.security.protocol.map': 'CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT'})

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    # -- the process ---------------------------------------------------------
    def _java(self, *args, heap='128m'):
        return ['java', '-Xmx' + heap, '-Xms64m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=%d' % (4 if heap == self.heap else 1),
                '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn', '-cp', os.path.join(jars(), '*')] + list(args)

    def _format(self):
        os.makedirs(self.folder)
        conf = {
            'process.roles': 'broker,controller', 'node.id': '1',
            'controller.quorum.voters': '1@127.0.0.1:%d' % self.controller,
            'listeners': 'CLIENT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d' % (self.port, self.controller),
            'advertised.listeners': 'CLIENT://127.0.0.1:%d' % self.port,
            'listener.security.protocol.map': 'CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT',
            'inter.broker.listener.name': 'CLIENT', 'controller.listener.names': 'CONTROLLER',
            'log.dirs': os.path.join(self.folder, 'log'),
            'offsets.topic.replication.factor': '1', 'offsets.topic.num.partitions': '1',
            'transaction.state.log.replication.factor': '1', 'transaction.state.log.min.isr': '1',
            'transaction.state.log.num.partitions': '1',
            'group.initial.rebalance.delay.ms': '0', 'auto.create.topics.enable': 'false',
            'message.max.bytes': '20000000', 'replica.fetch.max.bytes': '20000000',
            'num.network.threads': '2', 'num.io.threads': '2', 'log.cleaner.dedupe.buffer.size': '8388608',
        }
        conf.update(self.settings)
        self.conf = os.path.join(self.folder, 'server.properties')
        with open(self.conf, 'w') as f:
            f.writelines('%s=%s\n' % kv for kv in conf.items())
        subprocess.run(self._java('kafka.tools.StorageTool', 'format', '-t', self.cluster, '-c', self.conf),
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def start(self, timeout=90):
        """Start (again), and return when topics can be made."""
        if not os.path.isdir(self.folder):
            self._format()
        self.launch(self._java('kafka.Kafka', self.conf, heap=self.heap), lambda: self.admin().list_topics(timeout=2), timeout,
                    os.path.join(self.folder, 'server.log'))

    # -- what is in it -------------------------------------------------------
    def admin(self):
        from confluent_kafka.admin import AdminClient
        return AdminClient({'bootstrap.servers': self.bootstrap, 'log_level': 0})

    def create_topic(self, name, partitions=1, config=None):
        from confluent_kafka.admin import NewTopic
        admin = self.admin()
        admin.create_topics([NewTopic(name, partitions, 1, config=config or {})])[name].result(30)
        end = time.time() + 30                  # until every partition has a leader
        while time.time() < end:
            t = admin.list_topics(name, timeout=5).topics[name]
            if t.error is None and len(t.partitions) == partitions and all(p.leader >= 0 for p in t.partitions.values()):
                return
            time.sleep(0.1)
        raise RuntimeError('topic %s has no leaders' % name)

    def delete_topic(self, name):
        admin = self.admin()                    # must live until the result is there
        admin.delete_topics([name])[name].result(30)

    def delete_records(self, topic, partition, before):
        from confluent_kafka import TopicPartition
        admin = self.admin()
        for f in admin.delete_records([TopicPartition(topic, partition, before)]).values():
            f.result(30)

    def add_partitions(self, name, total):
        from confluent_kafka.admin import NewPartitions
        admin = self.admin()
        admin.create_partitions([NewPartitions(name, total)])[name].result(30)

    def producer(self, **conf):
        from confluent_kafka import Producer
        return Producer({'bootstrap.servers': self.bootstrap, 'enable.idempotence': True, 'linger.ms': 5, 'log_level': 0,
                         'message.max.bytes': 20000000, 'queue.buffering.max.messages': 1000000, **conf})

    def produce(self, topic, messages, producer=None):
        """messages: (partition, key, value) or (partition, key, value, headers).  Returns (partition, offset) of each."""
        producer = producer or self.producer()
        placed = [None] * len(messages)

        def note(i):
            def delivered(err, msg):
                placed[i] = RuntimeError(str(err)) if err else (msg.partition(), msg.offset())
            return delivered
        for i, m in enumerate(messages):
            while True:
                try:
                    producer.produce(topic, value=m[2], key=m[1], partition=m[0], headers=m[3] if len(m) > 3 else None, on_delivery=note(i))
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        if producer.flush(60):
            raise RuntimeError('messages were not delivered within 60 s')
        for p in placed:
            if isinstance(p, Exception):
                raise p
        return placed

    def read_all(self, topic, isolation='read_committed', timeout=60):
        """Every message of a topic, by a reader that has nothing to do with ours: [(partition, offset, key, value)]."""
        from confluent_kafka import Consumer, TopicPartition, KafkaError
        c = Consumer({'bootstrap.servers': self.bootstrap, 'group.id': 'oracle-%d' % os.getpid(), 'enable.auto.commit': False,
                      'isolation.level': isolation, 'enable.partition.eof': True, 'auto.offset.reset': 'error', 'log_level': 0})
        todo = {p for p in c.list_topics(topic, timeout=10).topics[topic].partitions}
        c.assign([TopicPartition(topic, p, c.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[0]) for p in todo])
        out, end = [], time.time() + timeout
        while todo:
            for m in c.consume(5000, 0.5):
                if m.error():
                    if m.error().code() != KafkaError._PARTITION_EOF:
                        raise RuntimeError(m.error().str())
                    todo.discard(m.partition())
                else:
                    out.append((m.partition(), m.offset(), m.key(), m.value()))
            if time.time() > end:
                raise RuntimeError('the topic could not be read within %d s' % timeout)
        c.close()
        return out
