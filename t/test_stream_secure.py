"""A broker that asks who we are: SASL (PLAIN, SCRAM) over TLS, client certificates; wrong certificates, names and
passwords are waited for with their reason, nothing is lost, and no secret shows.  Start at a time."""
# timeout: 600
import os
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.kafka import Kafka, free_port
from lib.stream import caught_up, clean_log, cluster, create, folder, literal, prepare, reason

SECRET = 'kanarienvogel-17'


def certificates(where):
    """A CA and a certificate for localhost, another CA, a client's certificate: paths by name."""
    os.makedirs(where, exist_ok=True)

    def openssl(*args):
        subprocess.run(('openssl',) + args, cwd=where, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    for ca in ('ca', 'other'):
        openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', ca + '.key', '-out', ca + '.pem', '-subj', '/CN=Test CA ' + ca)
    for name, extension, days in (('server', 'subjectAltName=DNS:localhost', 2), ('expired', 'subjectAltName=DNS:localhost', -1), ('client', 'extendedKeyUsage=clientAuth', 2)):
        with open(os.path.join(where, name + '.ext'), 'w') as f:
            f.write(extension + '\n')
        openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', name + '.key', '-out', name + '.csr', '-subj', '/CN=' + name)
        openssl('x509', '-req', '-in', name + '.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', str(days), '-extfile', name + '.ext', '-out', name + '.pem')
    read = {n: open(os.path.join(where, n)).read() for n in ('ca.pem', 'other.pem', 'server.pem', 'server.key', 'expired.pem', 'expired.key', 'client.pem', 'client.key')}
    for store, name in (('keystore.pem', 'server'), ('expired_store.pem', 'expired')):
        with open(os.path.join(where, store), 'w') as f:
            f.write(read[name + '.key'] + read[name + '.pem'])
    return read


def settings(where, ports, secure, mutual, expired):
    listener = 'listener.name.secure.'
    return {
        'listeners': 'CLIENT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d,SECURE://127.0.0.1:%d,MUTUAL://127.0.0.1:%d,EXPIRED://127.0.0.1:%d' % (ports + (secure, mutual, expired)),
        'advertised.listeners': 'CLIENT://127.0.0.1:%d,SECURE://localhost:%d,MUTUAL://localhost:%d,EXPIRED://localhost:%d' % (ports[0], secure, mutual, expired),
        'listener.security.protocol.map': 'CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL',
        'ssl.keystore.type': 'PEM', 'ssl.keystore.location': where + '/keystore.pem', 'ssl.truststore.type': 'PEM', 'ssl.truststore.location': where + '/ca.pem',
        'listener.name.mutual.ssl.client.auth': 'required',
        'listener.name.expired.ssl.keystore.type': 'PEM', 'listener.name.expired.ssl.keystore.location': where + '/expired_store.pem',
        'sasl.enabled.mechanisms': 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
        listener + 'plain.sasl.jaas.config': 'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="%s";' % SECRET,
        listener + 'scram-sha-256.sasl.jaas.config': 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
        listener + 'scram-sha-512.sasl.jaas.config': 'org.apache.kafka.common.security.scram.ScramLoginModule required;',
    }


def add_scram(kafka):
    from confluent_kafka.admin import UserScramCredentialUpsertion, ScramCredentialInfo, ScramMechanism
    admin = kafka.admin()
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        for f in admin.alter_user_scram_credentials([UserScramCredentialUpsertion('app', ScramCredentialInfo(mechanism, 8192), SECRET.encode())]).values():
            f.result(30)


def server(c, name, port, host='localhost', mapping=None, **options):
    given = {'brokers': '%s:%d' % (host, port), **options}
    c.psql(f"CREATE SERVER {name} FOREIGN DATA WRAPPER millrace_kafka OPTIONS ({', '.join(k + ' ' + literal(v) for k, v in given.items())}); GRANT USAGE ON FOREIGN SERVER {name} TO app; "
           f"CREATE USER MAPPING FOR app SERVER {name} OPTIONS ({', '.join(k + ' ' + literal(v) for k, v in (mapping or {'username': 'app', 'password': SECRET}).items())})")


def source(c, name, server):
    c.psql(f"SET ROLE app; CREATE TABLE {name} (id int); RESET ROLE; SELECT millrace.create_source('{name}', '{server}', 'topic', '{name}', '{{\"owner\": \"app\"}}')")


def exact(c, kafka, name, what):
    caught_up(c, name, 500)
    tap.same(c.psql(f'SELECT count(*), count(DISTINCT id) FROM {name}'), [('500', '500')], what)


def logins(c, kafka, secure, mutual, expired, pem):
    kafka.create_topic('topic', 2)
    kafka.produce('topic', [(i % 2, None, b'{"id": %d}' % i) for i in range(500)])
    for mechanism in ('PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'):
        name = mechanism.lower().replace('-', '_')
        server(c, 'k_' + name, secure, security_protocol='sasl_ssl', sasl_mechanism=mechanism, ssl_ca_pem=pem['ca.pem'])
        source(c, name, 'k_' + name)
        exact(c, kafka, name, mechanism + ' over TLS')
    server(c, 'k_mutual', mutual, mapping={'ssl_key_pem': pem['client.key']}, security_protocol='ssl', ssl_ca_pem=pem['ca.pem'], ssl_certificate_pem=pem['client.pem'])
    source(c, 'mutual', 'k_mutual')
    exact(c, kafka, 'mutual', "a client's certificate")


def refusals(c, kafka, secure, mutual, expired, pem):
    common = dict(security_protocol='sasl_ssl', sasl_mechanism='SCRAM-SHA-512')
    server(c, 'k_ca', secure, ssl_ca_pem=pem['other.pem'], **common)
    server(c, 'k_name', secure, host='127.0.0.1', ssl_ca_pem=pem['ca.pem'], **common)
    server(c, 'k_password', secure, mapping={'username': 'app', 'password': 'wrong-' + SECRET}, ssl_ca_pem=pem['ca.pem'], **common)
    server(c, 'k_bare', secure, mapping={'username': 'app'}, security_protocol='plaintext')
    server(c, 'k_expired', expired, security_protocol='ssl', ssl_ca_pem=pem['ca.pem'])
    for name, part in (('expired', 'certificate'), ('ca', 'certificate'), ('name', 'certificate'), ('password', 'uthentication'), ('bare', 'roker')):
        source(c, name, 'k_' + name)
        reason(c, name, part, 60)
    tap.same(c.psql("SELECT name, state FROM millrace.sources WHERE name IN ('ca', 'expired', 'name', 'password', 'bare') ORDER BY 1"), [(n, 'running') for n in ('bare', 'ca', 'expired', 'name', 'password')],
             'an unknown CA, an expired certificate, another name, a wrong password and a missing TLS are waited for, with the reason')
    tap.same(c.psql('SELECT (SELECT count(*) FROM ca), (SELECT count(*) FROM name), (SELECT count(*) FROM password), (SELECT count(*) FROM expired)'), [('0', '0', '0', '0')], 'and nothing is read')
    c.psql(f"ALTER SERVER k_ca OPTIONS (SET ssl_ca_pem {literal(pem['ca.pem'])}); ALTER SERVER k_name OPTIONS (SET brokers 'localhost:{secure}'); "
           f"ALTER USER MAPPING FOR app SERVER k_password OPTIONS (SET password {literal(SECRET)}); DROP USER MAPPING FOR app SERVER k_bare; "
           f"ALTER SERVER k_bare OPTIONS (SET brokers '{kafka.bootstrap}')")
    c.psql(f"ALTER SERVER k_expired OPTIONS (SET brokers 'localhost:{secure}', SET security_protocol 'sasl_ssl', ADD sasl_mechanism 'PLAIN')")
    for name in ('ca', 'expired', 'name', 'password', 'bare'):
        exact(c, kafka, name, f'{name}: put right, the source reads all by itself')


def secrets(c, where):
    shown = [r for q in ('SELECT * FROM millrace.sources', 'SELECT * FROM millrace.source_workers', 'SELECT * FROM millrace.source_status', 'SELECT * FROM millrace.status()', 'SELECT query, application_name FROM pg_stat_activity '
                         "WHERE backend_type LIKE 'millrace%'") for r in c.psql(q) if SECRET in repr(r)]
    tap.same(shown, [], 'no secret in what our views show')
    tap.ok(SECRET not in c.logs().replace('STATEMENT', ''), 'nor in the log')


def start_times(c, kafka):
    kafka.create_topic('timed', 2)
    producer = kafka.producer()
    now = int(time.time() * 1000)
    for i in range(100):
        producer.produce('timed', b'{"id": %d}' % i, partition=i % 2, timestamp=now - (100 - i) * 60000)
    producer.flush()
    c.psql('SET ROLE app; CREATE TABLE timed (id int); CREATE TABLE later (id int)')
    at = c.value(f'SELECT to_timestamp({(now - 40 * 60000) / 1000.0})')
    create(c, 'timed', 'timed', 'timed', '{"start": "%s"}' % at)
    create(c, 'later', 'timed', 'later', '{"start": "2100-01-01 00:00+00"}')
    caught_up(c, 'timed', 100)
    caught_up(c, 'later', 100)
    tap.same(c.psql('SELECT min(id), max(id), count(*) FROM timed'), [('60', '99', '40')], 'start at a time: what came from then on')
    producer.produce('timed', b'{"id": 100}', partition=0)
    producer.flush()
    caught_up(c, 'later', 101)
    tap.same(c.psql('SELECT id FROM later'), [('100',)], 'a time to come: from the end')


def main():
    if shutil.which('openssl') is None:
        tap.skip_all('needs the openssl program to make certificates')
    where = os.path.abspath(folder('stream_secure')) + '/certificates'
    pem = certificates(where)
    ports, secure, mutual, expired = (free_port(), free_port()), free_port(), free_port(), free_port()
    broker = Kafka(folder('stream_secure'), port=ports[0])
    broker.controller = ports[1]
    broker.settings.update(settings(where, ports, secure, mutual, expired))
    with cluster('stream_secure') as c, broker as kafka:
        prepare(c, kafka)
        add_scram(kafka)
        for test in (logins, refusals):
            test(c, kafka, secure, mutual, expired, pem)
        secrets(c, where)
        start_times(c, kafka)
        clean_log(c)
    tap.done()


if __name__ == '__main__':
    main()
