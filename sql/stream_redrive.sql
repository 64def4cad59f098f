-- redrive_dead_letters: who may, and which letters are marked; no broker is needed for any of it.
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_other LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_nobody LOGIN;
CREATE TABLE regress_target (a int PRIMARY KEY, b text);
ALTER TABLE regress_target OWNER TO regress_mill;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_k TO regress_mill;
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target');
SELECT millrace.create_source('regress_keyed', 'regress_k', 'topic', 'regress_target', '{"on_conflict": "update"}');
INSERT INTO millrace.source_offsets (source, partition, next_offset) VALUES ('regress_s', 0, 100), ('regress_s', 1, 50), ('regress_keyed', 0, 100);
INSERT INTO millrace.dead_letters (id, source, topic, partition, "offset", value, sqlstate, error, value_bytes) VALUES
	(1001, 'regress_s', 'topic', 0, 7, 'x', '22P02', 'bad', 1),
	(1002, 'regress_s', 'topic', 0, 7, 'x', '22P02', 'the same message again, after a rewind', 1),
	(1003, 'regress_s', 'topic', 0, 8, NULL, '54000', 'too large: its value was not kept', 20000000),
	(1004, 'regress_s', 'topic', 0, 9, NULL, '22004', 'a tombstone', NULL),
	(1005, 'regress_s', 'topic', 1, 50, 'x', '22P02', 'will be read again', 1),
	(1006, 'regress_s', 'earlier', 1, 3, 'x', '22P02', 'of another topic', 1),
	(1007, 'regress_s', 'topic', 2, 3, 'x', '22P02', 'of a partition that is not there', 1),
	(1008, 'regress_s', 'topic', 1, 3, 'x', '22P02', 'bad', 1),
	(1009, 'regress_keyed', 'topic', 0, 3, 'x', '22P02', 'bad', 1);

-- By members of the source's owner only.
SET ROLE regress_nobody;
SELECT millrace.redrive_dead_letters('regress_s');
SET ROLE regress_other;
SELECT millrace.redrive_dead_letters('regress_s');
SET ROLE regress_mill;
SELECT millrace.redrive_dead_letters('none');
SELECT millrace.redrive_dead_letters(NULL);
SELECT millrace.redrive_dead_letters('regress_s', at_most => -1);

-- The oldest first; none twice; what cannot be redriven is passed over.
SELECT millrace.redrive_dead_letters('regress_s', at_most => 1);
SELECT id FROM millrace.dead_letters WHERE redrive_at IS NOT NULL ORDER BY id;
SELECT millrace.redrive_dead_letters('regress_s', ARRAY[1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, NULL]);
SELECT id FROM millrace.dead_letters WHERE redrive_at IS NOT NULL ORDER BY id;
SELECT millrace.redrive_dead_letters('regress_s');
SELECT millrace.redrive_dead_letters('regress_s');
SELECT id FROM millrace.dead_letters WHERE redrive_at IS NOT NULL ORDER BY id;
RESET ROLE;
SELECT name, generation FROM millrace.sources ORDER BY 1;
SET ROLE regress_mill;

-- Rows by key could be newer than the letters.
SELECT millrace.redrive_dead_letters('regress_keyed');
SELECT millrace.redrive_dead_letters('regress_keyed', overwrite => true);

-- Nobody marks them by hand; a rewind and drop_source take the marks away.
UPDATE millrace.dead_letters SET redrive_at = now();
SELECT millrace.rewind_source('regress_s', 5, partition => 0);
SELECT id FROM millrace.dead_letters WHERE redrive_at IS NOT NULL ORDER BY id;
SELECT millrace.redrive_dead_letters('regress_s');
SELECT millrace.drop_source('regress_s');
SELECT millrace.drop_source('regress_keyed');
SELECT id, attempts FROM millrace.dead_letters WHERE redrive_at IS NOT NULL ORDER BY id;
RESET ROLE;
DELETE FROM millrace.dead_letters WHERE source LIKE 'regress%';

DROP TABLE regress_target;
DROP SERVER regress_k CASCADE;
DROP ROLE regress_mill, regress_other, regress_nobody;
