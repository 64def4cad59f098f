# timeout: 900
"""8,000 real JPEG images through a real Kafka: every one stored, described, predicted three times, with its
model version and offset; accuracy of the shipped models on them, and a paired test between profiles."""
import base64
import json
import math
import os
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster
from lib.kafka import Kafka
from lib.tap import data, done, note, ok, same, skip_all

archive = data('cifar10_jpeg.tar.gz')
if not archive:
    skip_all('no real data (cifar10_jpeg.tar.gz)')
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_pipeline_cifar')


def mcnemar(b, c):
    """Two-sided p of the exact binomial test: b and c are the images only one of the two got right."""
    n, k = b + c, min(b, c)
    if n == 0:
        return 1.0
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2 ** n)


images = []
with tarfile.open(archive) as t:
    for m in t:
        parts = m.name.split('/')
        if m.isfile() and parts[-3] == 'test':
            images.append(('%s/%s' % (parts[-2], parts[-1]), t.extractfile(m).read()))
images.sort(key=lambda i: i[0].split('/')[1] + i[0])        # classes mixed, as a stream would be
same(len(images), 8000, 'the archive has 8,000 test images')

conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 16, 'shared_buffers': '256MB'}
with Kafka(folder) as kafka, Cluster(os.environ['PG_CONFIG'], os.path.join(folder, 'pg'), conf=conf) as c:
    kafka.create_topic('images-input-stream', partitions=4)
    c.psql("CREATE EXTENSION millrace; SELECT millrace.install_models(); CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler; "
           "GRANT CREATE ON DATABASE postgres TO mill; "
           "CREATE SERVER kafka FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '%s'); "
           "GRANT USAGE ON FOREIGN SERVER kafka TO mill; SELECT millrace.start()" % kafka.bootstrap)
    kafka.create_topic('image-features-stream', partitions=3)
    c.psql("""SELECT millrace.create_outbox('kafka');
           SELECT millrace.create_pipeline('images', options =>
           '{"server": "kafka", "images_topic": "images-input-stream", "publish_topic": "image-features-stream", "source": {"workers": 2}}')""", user='mill')
    placed = kafka.produce('images-input-stream', [
        (i % 4, name.encode(), json.dumps({'image_id': name, 'content': base64.b64encode(content).decode()}).encode())
        for i, (name, content) in enumerate(images)])
    c.wait_for('SELECT count(*) FROM images.predictions', expect='24000', timeout=300)

    same(c.psql('SELECT (SELECT count(*) FROM images.images), (SELECT count(*) FROM images.descriptors), '
                '(SELECT count(*) FROM images.predictions), (SELECT count(*) FROM images.failures), '
                '(SELECT count(*) FROM millrace.dead_letters)'),
         [('8000', '8000', '24000', '0', '0')], '8,000 images, 8,000 descriptors, 24,000 predictions, no failure')
    same(c.value("SELECT count(*) FROM images.predictions p JOIN millrace.models m ON p.model = m.name || ':' || m.version "
                 "WHERE p.source_topic = 'images-input-stream' AND p.source_partition IS NOT NULL AND p.source_offset IS NOT NULL"),
         '24000', 'each prediction names an existing model version and its message')
    c.wait_for('SELECT waiting FROM millrace.outbox_status', expect='0', timeout=60)
    left = [json.loads(v) for _, _, k, v in kafka.read_all('image-features-stream')]
    stored = {r[0]: json.loads(r[1]) for r in c.psql('SELECT image_id, to_jsonb(descriptors) FROM images.descriptors')}
    same((len(left), {m['image_id']: m['descriptors'] for m in left} == stored, {m['descriptor_count'] for m in left}), (8000, True, {20}),
         'the descriptors of every image left for Kafka, once')
    where = {(r[1], r[2]): r[0] for r in c.psql('SELECT image_id, source_partition, source_offset FROM images.images')}
    ok(all(where.get((str(p), str(o))) == images[i][0] for i, (p, o) in enumerate(placed)),
       'topic, partition and offset of each row are those the broker gave its message')
    same(c.value("SELECT count(*) FROM images.descriptors WHERE descriptor_count = 20 AND cardinality(descriptors) = 20"),
         '8000', 'descriptors are 20 numbers')
    same(c.value("SELECT count(*) FROM images.predictions p JOIN images.runs r USING (run_id) "
                 "WHERE r.model_name || ':' || r.model_version = p.model AND p.source_offset BETWEEN "
                 "(r.source_offsets -> p.source_partition::text ->> 0)::bigint AND (r.source_offsets -> p.source_partition::text ->> 1)::bigint"),
         '24000', 'each prediction belongs to a run whose model and offsets contain it')

    accuracy = {r[0]: float(r[1]) for r in c.psql(
        "SELECT profile, avg((split_part(image_id, '/', 1) = label)::int) FROM images.predictions GROUP BY profile")}
    for profile in ('fast', 'balanced', 'accurate'):
        us = c.value("SELECT round(1000 * avg(classify_ms)::numeric, 2) FROM images.predictions WHERE profile = '%s'" % profile)
        note('%-9s accuracy %.2f %%, %s us per row' % (profile, 100 * accuracy[profile], us))
        ok(accuracy[profile] >= 0.88, 'profile %s is right on at least 88 %% of CIFAR-10 JPEG' % profile)
    ok(max(accuracy.values()) >= 0.89, 'the best profile is right on at least 89 %')
    for a, b in (('fast', 'balanced'), ('fast', 'accurate'), ('balanced', 'accurate')):
        only_a, only_b = map(int, c.psql(
            "SELECT count(*) FILTER (WHERE x AND NOT y), count(*) FILTER (WHERE y AND NOT x) FROM (SELECT "
            "bool_or(split_part(image_id, '/', 1) = label) FILTER (WHERE profile = '%s') AS x, "
            "bool_or(split_part(image_id, '/', 1) = label) FILTER (WHERE profile = '%s') AS y "
            "FROM images.predictions GROUP BY image_id) s" % (a, b))[0])
        note('McNemar %s against %s: %d right only by the first, %d only by the second, p = %.3g' %
             (a, b, only_a, only_b, mcnemar(only_a, only_b)))
    for row in c.psql('SELECT * FROM images.descriptor_size_comparison ORDER BY descriptors'):
        note('%s descriptors (%s, %s bytes), %s: accuracy %s, classify %s us, project %s us' % row)
    same(sorted({r[0] for r in c.psql('SELECT descriptors FROM images.descriptor_size_comparison')}, key=int), ['10', '20', '50'],
         'descriptor_size_comparison covers 10, 20 and 50 components')
    for view in ('latency_by_stage', 'throughput', 'class_distribution', 'classifier_comparison', 'descriptor_savings', 'lag'):
        ok(c.psql('SELECT * FROM images.%s' % view), 'view %s has rows' % view)
    same(c.value('SELECT sum(messages_behind) FROM images.lag'), '0', 'lag is zero at the end')
done()
