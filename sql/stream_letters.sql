-- Options about dead letters, checked where they are given; alter_source; purge_dead_letters.
SET client_min_messages = warning;
CREATE ROLE regress_letters LOGIN;
CREATE TABLE letters (id int PRIMARY KEY);
GRANT INSERT ON letters TO regress_letters;
CREATE SERVER regress_in FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers 'localhost:1');
CREATE SERVER regress_dead FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers 'localhost:1');
GRANT USAGE ON FOREIGN SERVER regress_in TO regress_letters;
CREATE FUNCTION try(options jsonb) RETURNS void LANGUAGE sql AS
	$$ SELECT millrace.create_source('regress_letters', 'regress_in', 'topic', 'letters', options || '{"owner": "regress_letters"}') $$;

-- Values of their kind and range.
SELECT try('{"dead_window": 0}');
SELECT try('{"max_dead_letters": -1}');
SELECT try('{"max_dead_letter_bytes": "many"}');
SELECT try('{"dead_letter_topic": ""}');
SELECT try('{"dead_letter_server": "regress_dead"}');

-- The topic: not the source's own; its owner may publish there; there is an outbox.
SELECT try('{"dead_letter_topic": "topic"}');
SELECT try('{"dead_letter_topic": "dead", "dead_letter_server": "nowhere"}');
SELECT try('{"dead_letter_topic": "dead", "dead_letter_server": "regress_dead"}');
GRANT USAGE ON FOREIGN SERVER regress_dead TO regress_letters;
SELECT try('{"dead_letter_topic": "dead", "dead_letter_server": "regress_dead"}');
GRANT millrace_user TO regress_letters;
SELECT try('{"dead_letter_topic": "dead", "dead_letter_server": "regress_dead"}');
SELECT millrace.create_outbox('regress_dead', '{"owner": "regress_letters"}');
SELECT try('{"dead_letter_topic": "topic", "dead_letter_server": "regress_dead", "max_dead_letters": 10}');

-- alter_source: what is given, and no more; null takes away; checked as in create_source; not the owner.
SELECT millrace.alter_source('regress_letters', '{"max_dead_letters": 20, "dead_window": 50}');
SELECT millrace.alter_source('regress_letters', '{"dead_letter_topic": null, "dead_letter_server": null}');
SELECT options, generation FROM millrace.sources WHERE name = 'regress_letters';
SELECT millrace.alter_source('regress_letters', '{"max_dead_percent": 101}');
SELECT millrace.alter_source('regress_letters', '{"dead_letter_topic": "topic"}');
SELECT millrace.alter_source('regress_letters', '{"owner": "postgres"}');
SELECT millrace.alter_source('regress_letters', '[1]');
SELECT millrace.alter_source('nobody', '{}');
SET ROLE regress_letters;
SELECT millrace.alter_source('regress_letters', '{}');
RESET ROLE;

-- purge_dead_letters: by time or by age; not what waits to be redriven, nor another source's.
INSERT INTO millrace.dead_letters (source, topic, partition, "offset", key, value, sqlstate, error, at, redrive_at) VALUES
	('regress_letters', 'topic', 0, 1, 'k', 'value', '22P02', 'old', '2001-01-01 00:00+00', NULL),
	('regress_letters', 'topic', 0, 2, NULL, NULL, '22004', 'old', '2001-01-02 00:00+00', NULL),
	('regress_letters', 'topic', 0, 3, 'k', 'value', '22P02', 'waits', '2001-01-01 00:00+00', '2001-01-03 00:00+00'),
	('regress_letters', 'topic', 0, 4, 'k', 'value', '22P02', 'new', now(), NULL),
	('regress_other', 'topic', 0, 4, 'k', 'value', '22P02', 'of another', '2001-01-01 00:00+00', NULL);
SELECT * FROM millrace.purge_dead_letters('regress_letters');
SELECT * FROM millrace.purge_dead_letters('regress_letters', now(), '1 day');
SELECT * FROM millrace.purge_dead_letters('regress_letters', before => '2001-01-01 12:00+00');
SELECT * FROM millrace.purge_dead_letters('regress_letters', older_than => '1 hour');
SELECT source, "offset", error FROM millrace.dead_letters WHERE source LIKE 'regress%' ORDER BY 1, 2;
SET ROLE regress_letters;
SELECT * FROM millrace.purge_dead_letters('regress_letters', now());
RESET ROLE;

DELETE FROM millrace.dead_letters WHERE source LIKE 'regress%';
SELECT millrace.drop_source('regress_letters');
SELECT millrace.drop_outbox('regress_dead');
DROP SERVER regress_in, regress_dead CASCADE;
DROP FUNCTION try;
DROP TABLE letters;
REVOKE millrace_user FROM regress_letters;
DROP ROLE regress_letters;
