-- Servers, sources and who may do what to them; no broker is needed for any of it.
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_other LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_nologin NOLOGIN;
CREATE TABLE regress_target (a int, b text);
ALTER TABLE regress_target OWNER TO regress_mill;

-- The options of servers and user mappings are an allow-list, secrets only in mappings.
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers 'x', password 'y');
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers 'x', "plugin.library.paths" 'y');
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers 'x', isolation_level 'loose');
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '');
SET ROLE regress_mill;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1', ssl_ca_location '/etc/passwd');
RESET ROLE;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
CREATE USER MAPPING FOR regress_mill SERVER regress_k OPTIONS (brokers 'z');
CREATE USER MAPPING FOR regress_mill SERVER regress_k OPTIONS (username 'me', password 'secret');

-- The owner of a source must be able to log in, use the server and insert into the table, and be no superuser.
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target');
GRANT USAGE ON FOREIGN SERVER regress_k TO regress_mill, regress_nologin, regress_other;
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"owner": "regress_nologin"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"owner": "regress_other"}');
SET ROLE regress_other;
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"owner": "regress_mill"}');
RESET ROLE;
CREATE ROLE regress_super SUPERUSER LOGIN;
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"owner": "regress_super"}');
DROP ROLE regress_super;

-- Options are checked by name, kind and range.
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"worker": 2}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"workers": 0}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"start": "soon"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"start": "-5"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"start": "infinity"}');
SELECT millrace.create_source('regress_time', 'regress_k', 'topic', 'regress_target', '{"start": "2026-11-21 12:00:00.5+02"}');
SELECT options FROM millrace.sources WHERE name = 'regress_time';
SELECT millrace.drop_source('regress_time');
SELECT millrace.create_source('regress_time', 'regress_k', 'topic', 'regress_target', '{"start": "2026-11-21"}');
SELECT options FROM millrace.sources WHERE name = 'regress_time';
SELECT millrace.drop_source('regress_time');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"unknown_keys": true}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"columns": {"x": "none"}}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '[]');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"format": "xml"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"delimiter": "ab"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"quote": "\n"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"header": ["a", 1]}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"null": 0}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"columns": {"$thing": "a"}}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"columns": {"x": "a", "y": "a"}}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"tombstones": "delete"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"on_conflict": "update"}');
SELECT millrace.create_source('regress_s', 'regress_k', '', 'regress_target');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'pg_class', '{"owner": "regress_mill"}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'millrace.source_status');
SELECT millrace.create_source('regress_s', 'no_server', 'topic', 'regress_target');

-- A source belongs to the table's owner when a superuser makes it.
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"workers": 3, "columns": {"x": "a"}, "start": 17}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target');
SELECT name, topic, target, owner, options, state, generation FROM millrace.sources;

-- Pause, resume, rewind: by members of the owner only; each raises generation and epochs.
INSERT INTO millrace.source_offsets (source, partition, next_offset, last_offset) VALUES ('regress_s', 0, 100, 99), ('regress_s', 1, 50, 49);
SET ROLE regress_other;
SELECT millrace.pause_source('regress_s');
SELECT millrace.rewind_source('regress_s', 0);
SELECT millrace.drop_source('regress_s');
SET ROLE regress_mill;
SELECT millrace.pause_source('regress_s', 'night');
SELECT name, state, reason, messages_behind FROM millrace.source_status;
SELECT millrace.resume_source('regress_s');
SELECT millrace.rewind_source('regress_s', 5, partition => 1);
SELECT millrace.rewind_source('regress_s', to_time => '2026-01-01 00:00+00', partition => 0);
SELECT millrace.rewind_source('regress_s', 5, partition => 2);
SELECT millrace.rewind_source('regress_s');
SELECT millrace.rewind_source('regress_s', -1);
SELECT millrace.rewind_source('regress_s', 1, now());
-- Nobody writes these tables by hand.
UPDATE millrace.sources SET owner = 'regress_other';
DELETE FROM millrace.source_offsets;
RESET ROLE;
SELECT partition, next_offset, last_offset, epoch, extract(epoch FROM rewind_to) AS rewind_to FROM millrace.source_offsets ORDER BY 1;
SELECT state, reason, generation FROM millrace.sources;

SET ROLE regress_mill;
SELECT millrace.drop_source('regress_s');
SELECT millrace.drop_source('regress_s');
RESET ROLE;
SELECT count(*) FROM millrace.source_offsets;

DROP TABLE regress_target;
DROP SERVER regress_k CASCADE;
DROP ROLE regress_mill, regress_other, regress_nologin;
