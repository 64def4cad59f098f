-- Topics: who may ask for one, and what is written down; no broker is needed for it.
CREATE ROLE regress_out LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_other LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_user LOGIN IN ROLE millrace_user;
CREATE SERVER regress_o FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_o TO regress_out, regress_user;

-- An outbox's worker makes them.
SET ROLE regress_out;
SELECT millrace.create_topic('regress_o', 't');
SELECT millrace.create_outbox('regress_o');
SELECT millrace.create_topic('regress_o', 't');
SELECT millrace.create_topic('regress_o', 'u', 3, '{"replication": 2, "config": {"retention.ms": 86400000, "cleanup.policy": "compact"}}');
SELECT millrace.create_topic('regress_o', 't', 6);
SELECT topic, partitions, options, state, found, reason, failures, again_at IS NOT NULL AS due, generation FROM millrace.topics ORDER BY topic;

-- What cannot be meant is refused at once; what brokers judge is theirs to refuse.
SELECT millrace.create_topic('regress_o', '');
SELECT millrace.create_topic('regress_o', '..');
SELECT millrace.create_topic('regress_o', 'a b');
SELECT millrace.create_topic('regress_o', repeat('t', 250));
SELECT millrace.create_topic('regress_o', 't', 0);
SELECT millrace.create_topic('regress_o', 't', 100001);
SELECT millrace.create_topic('regress_o', 't', 1, '[]');
SELECT millrace.create_topic('regress_o', 't', 1, '{"replicas": 2}');
SELECT millrace.create_topic('regress_o', 't', 1, '{"replication": 0}');
SELECT millrace.create_topic('regress_o', 't', 1, '{"replication": "2"}');
SELECT millrace.create_topic('regress_o', 't', 1, '{"config": ["compact"]}');
SELECT millrace.create_topic('regress_o', 't', 1, '{"config": {"cleanup.policy": ["compact"]}}');
SELECT millrace.create_topic('regress_o', 't', 1, '{"config": null}');
SELECT millrace.create_topic('nowhere', 't');

-- Administrators with USAGE on the server may, and nobody writes to the table.
INSERT INTO millrace.topics (server, topic, partitions) VALUES ('regress_o', 'x', 1);
SET ROLE regress_other;
SELECT millrace.create_topic('regress_o', 'x');
SELECT millrace.forget_topic('regress_o', 't');
SET ROLE regress_user;
SELECT millrace.create_topic('regress_o', 'x');
SELECT topic FROM millrace.topics;

SET ROLE regress_out;
SELECT millrace.forget_topic('regress_o', 't'), millrace.forget_topic('regress_o', 't');
SELECT millrace.drop_outbox('regress_o');
SELECT count(*) FROM millrace.topics;
RESET ROLE;
DROP SERVER regress_o;
DROP ROLE regress_out, regress_other, regress_user;
