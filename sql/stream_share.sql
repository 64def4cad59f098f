-- Option partitions and the functions that change it; no broker is needed for any of it.
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_other LOGIN IN ROLE millrace_admin;
CREATE TABLE regress_target (a int, b text);
ALTER TABLE regress_target OWNER TO regress_mill;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_k TO regress_mill;
SET ROLE regress_mill;

-- A list or a text; in order, each once.
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"partitions": "7, 0-3,2"}');
SELECT options FROM millrace.sources;
SELECT millrace.create_source('regress_c', 'regress_k', 'topic', 'regress_target', '{"partitions": [5, 4], "control_topic": "control", "lease_ms": 5000}');
SELECT millrace.create_source('regress_none', 'regress_k', 'topic', 'regress_target', '{"partitions": ""}');
SELECT millrace.create_source('regress_all', 'regress_k', 'topic', 'regress_target');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": "3-1"}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": "1,"}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": [1.5]}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": [-1]}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": "0-100000"}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": 4}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"control_topic": "control"}');
SELECT millrace.create_source('regress_x', 'regress_k', 'topic', 'regress_target', '{"partitions": [1], "control_topic": ""}');

-- Without a control topic the functions change the option and tell or take offsets.
RESET ROLE;
INSERT INTO millrace.source_offsets (source, partition, next_offset, high_watermark) VALUES ('regress_s', 1, 100, 120), ('regress_s', 7, 50, 60);
SET ROLE regress_mill;
SELECT * FROM millrace.release_partitions('regress_s', '{2, 1}');
SELECT * FROM millrace.release_partitions('regress_s', '{1}');
SELECT millrace.take_partitions('regress_s', '{9, 1}', '{500, 90}');
SELECT millrace.take_partitions('regress_s', '{1}');
SELECT millrace.take_partitions('regress_s', '{2}');
SELECT options, generation FROM millrace.sources WHERE name = 'regress_s';
SELECT partition, next_offset, epoch, high_watermark FROM millrace.source_offsets ORDER BY 1;
SELECT * FROM millrace.partition_offsets('regress_s');
SELECT millrace.take_partitions('regress_none', '{3}');
SELECT options FROM millrace.sources WHERE name = 'regress_none';
SELECT * FROM millrace.release_partitions('regress_none', '{3}');
SELECT options FROM millrace.sources WHERE name = 'regress_none';
SELECT millrace.take_over('regress_s', '{4}', '{7}');

-- With one they say what the workers shall bring about.
SELECT millrace.take_partitions('regress_c', '{0}');
SELECT millrace.take_partitions('regress_c', '{0}', '{10}');
SELECT millrace.take_over('regress_c', '{1, 2}');
SELECT millrace.take_over('regress_c', '{1, 2}', '{10, 20}');
SELECT millrace.take_over('regress_c', '{3}', accept_duplicates => true);
SELECT partition, state, take_over, from_offset, accept_duplicates FROM millrace.source_shares ORDER BY 1;
SELECT options -> 'partitions' FROM millrace.sources WHERE name = 'regress_c';
RESET ROLE;
UPDATE millrace.source_shares SET state = 'owned', epoch = 1, claim_epoch = 1 WHERE partition = 2;
SET ROLE regress_mill;
SELECT millrace.take_over('regress_c', '{2}', '{20}');
SELECT millrace.take_partitions('regress_c', '{2}');
SELECT * FROM millrace.release_partitions('regress_c', '{1, 2}');
SELECT partition, state FROM millrace.source_shares ORDER BY 1;

-- What is wrong with the arguments; who may.
SELECT millrace.take_partitions('regress_all', '{1}');
SELECT millrace.release_partitions('regress_c', NULL);
SELECT millrace.release_partitions('regress_c', '{}');
SELECT millrace.release_partitions('regress_c', '{4,4}');
SELECT millrace.release_partitions('regress_c', '{4,NULL}');
SELECT millrace.take_over('regress_c', '{4, 6}', '{1}');
SELECT millrace.take_over('regress_c', '{6}', '{-1}');
SET ROLE regress_other;
SELECT millrace.release_partitions('regress_c', '{4}');
SELECT millrace.take_over('regress_c', '{6}', '{1}');
RESET ROLE;
SELECT millrace.drop_source(name) FROM millrace.sources;
SELECT count(*) FROM millrace.source_shares;
DROP SERVER regress_k;
DROP TABLE regress_target;
DROP ROLE regress_mill, regress_other;
