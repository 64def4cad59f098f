-- replay, cancel_replay: arguments, and what they become in the tables; no broker is needed for any of it.
SET TimeZone = 'UTC';
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_other LOGIN IN ROLE millrace_admin;
CREATE TABLE regress_target (a int PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> ''), c int GENERATED ALWAYS AS (a * 2) STORED, d int REFERENCES regress_target);
CREATE FUNCTION regress_f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER regress_t AFTER INSERT ON regress_target EXECUTE FUNCTION regress_f();
ALTER TABLE regress_target OWNER TO regress_mill;
GRANT CREATE ON SCHEMA public TO regress_mill;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_k TO regress_mill;
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_target', '{"workers": 3, "start": 17, "columns": {"x": "a"}, "batch_rows": 10}');

-- Nothing read yet.
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow');
INSERT INTO millrace.source_offsets (source, partition, next_offset) VALUES ('regress_s', 0, 100), ('regress_s', 1, 50), ('regress_s', 2, 0);

-- Wrong arguments.
SELECT millrace.replay(NULL, 0, 5, 'regress_shadow');
SELECT millrace.replay('regress_s', 0, 5);
SELECT millrace.replay('regress_none', 0, 5, 'regress_shadow');
SELECT millrace.replay('regress_s', -1, 5, 'regress_shadow');
SELECT millrace.replay('regress_s', 9, 5, 'regress_shadow');
SELECT millrace.replay('regress_s', 0, 'nonsense', 'regress_shadow');
SELECT millrace.replay('regress_s', '2026-01-02', '2026-01-01', 'regress_shadow');
SELECT millrace.replay('regress_s', '{"x": 1}', 5, 'regress_shadow');
SELECT millrace.replay('regress_s', '{"0": -1}', 5, 'regress_shadow');
SELECT millrace.replay('regress_s', '{"0": 1.5}', 5, 'regress_shadow');
SELECT millrace.replay('regress_s', '{}', 5, 'regress_shadow');
SELECT millrace.replay('regress_s', '{"7": 1}', 5, 'regress_shadow');
SELECT millrace.replay('regress_s', 99999999999999999999, 5, 'regress_shadow');
SELECT millrace.replay('regress_s', 0, 5, 'regress_target');
SELECT millrace.replay('regress_s', 0, 5, 'no_such_schema.t');
SELECT millrace.replay('regress_s', 0, 5, 'pg_catalog.pg_class');
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow', '[]');
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow', '{"owner": "regress_other"}');
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow', '{"start": "latest"}');
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow', '{"name": ""}');
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow', '{"name": "regress_s"}');
SET ROLE regress_other;
SELECT millrace.replay('regress_s', 0, 5, 'regress_shadow');
RESET ROLE;
SELECT count(*) FROM pg_class WHERE relname = 'regress_shadow';

-- Every form of from and to.
SELECT millrace.replay('regress_s', 3, 40, 'regress_shadow');
SELECT millrace.replay('regress_s', NULL, NULL, 'regress_shadow', '{"name": "regress all"}');
SELECT millrace.replay('regress_s', '2026-01-01 00:00+00'::timestamptz, timestamp '2026-01-02', 'public.regress_shadow', '{"workers": 2, "batch_rows": 20}');
SET ROLE regress_mill;
SELECT millrace.replay('regress_s', '{"0": 7, "1": 5}', NULL, 'regress_shadow');
SELECT millrace.replay('regress_s', '{"0": 7}'::jsonb, '{"2": 11}'::jsonb, 'regress_shadow');
SELECT millrace.replay('regress_s', date '2026-01-01', 40::numeric, 'regress_shadow');
SELECT millrace.replay('regress_s_replay_1', 3, 40, 'regress_shadow2');
RESET ROLE;
SELECT s.name, s.target, s.owner, s.options, s.state, o.partition, o.next_offset, o.from_offset, o.to_offset, o.rewind_to, o.to_time
	FROM millrace.sources s JOIN millrace.source_offsets o ON o.source = s.name WHERE s.replay_of = 'regress_s' ORDER BY 1, partition;
SELECT replay, source, topic, "into", state, "from", "to", messages, messages_left, percent, rows, ended_at FROM millrace.replays ORDER BY 1;

-- The shadow table: all that is inside the table, nothing that reaches out of it.
SELECT pg_get_userbyid(relowner), (SELECT string_agg(pg_get_constraintdef(c.oid), '; ' ORDER BY c.contype) FROM pg_constraint c WHERE conrelid = t.oid AND c.contype <> 'n') AS constraints,
	(SELECT count(*) FROM pg_trigger WHERE tgrelid = t.oid) AS triggers FROM pg_class t WHERE relname = 'regress_shadow';
SELECT column_name, column_default, is_generated FROM information_schema.columns WHERE table_name = 'regress_shadow' ORDER BY ordinal_position;

-- Its life.
SELECT millrace.cancel_replay('regress_s');
SELECT millrace.cancel_replay('regress_none');
SET ROLE regress_other;
SELECT millrace.cancel_replay('regress_s_replay_1');
SET ROLE regress_mill;
SELECT millrace.cancel_replay('regress_s_replay_1');
SELECT state, reason, generation FROM millrace.sources WHERE name = 'regress_s_replay_1';
SELECT partition, epoch FROM millrace.source_offsets WHERE source = 'regress_s_replay_1' ORDER BY 1;
SELECT state, ended_at IS NOT NULL AS ended FROM millrace.replays WHERE replay = 'regress_s_replay_1';
SELECT millrace.resume_source('regress_s_replay_1');
SELECT state, ended_at IS NOT NULL AS ended FROM millrace.replays WHERE replay = 'regress_s_replay_1';
SELECT millrace.drop_source('regress_s');
SELECT replay, source FROM millrace.replays ORDER BY 1;
SELECT millrace.drop_source(replay) FROM millrace.replays;
SELECT count(*) FROM millrace.source_offsets;
DROP TABLE regress_shadow;
RESET ROLE;

-- replay_diff: the tables as a worker might have left them.
CREATE TABLE regress_live (k1 int, "K 2" text, v text, j json, f float8, at timestamptz DEFAULT clock_timestamp(), n int GENERATED ALWAYS AS IDENTITY,
	source text, source_partition int, source_offset bigint, only_live text, PRIMARY KEY (k1, "K 2"));
ALTER TABLE regress_live OWNER TO regress_mill;
CREATE TABLE regress_plain (a int, b text);
ALTER TABLE regress_plain OWNER TO regress_mill;
SELECT millrace.create_source('regress_d', 'regress_k', 'topic', 'regress_live');
SELECT millrace.create_source('regress_p', 'regress_k', 'topic', 'regress_plain');
INSERT INTO millrace.source_offsets (source, partition, next_offset) VALUES ('regress_d', 0, 100), ('regress_d', 1, 50), ('regress_p', 0, 10);
SELECT millrace.replay('regress_d', 10, 40, 'regress_shadow', '{"name": "d"}');
SELECT millrace.replay('regress_p', 0, 10, 'regress_plain_shadow', '{"name": "p"}');
ALTER TABLE regress_shadow DROP only_live;
UPDATE millrace.source_offsets SET next_offset = 30 WHERE source = 'd' AND partition = 1;
UPDATE millrace.source_offsets SET next_offset = 40 WHERE source = 'd' AND partition = 0;
INSERT INTO regress_live (k1, "K 2", v, j, f, source, source_partition, source_offset) VALUES
	(1, 'same', 'v', '{"a": 1}', 'NaN', 'regress_d', 0, 10), (2, 'same, with NULLs', NULL, NULL, NULL, 'regress_d', 0, 11),
	(3, 'changed', 'v', '{"a": 1}', 1, 'regress_d', 0, 12), (4, 'changed to NULL', 'v', NULL, 1, 'regress_d', 0, 13),
	(5, 'missing', 'v', '[]', 1, 'regress_d', 0, 39), (6, 'before the range', 'v', '[]', 1, 'regress_d', 0, 9), (7, 'after the range', 'v', '[]', 1, 'regress_d', 0, 40),
	(8, 'not read yet', 'v', '[]', 1, 'regress_d', 1, 30), (9, 'of no message', 'v', '[]', 1, NULL, NULL, NULL), (10, 'superseded', 'new', NULL, 1, 'regress_d', 1, 45);
INSERT INTO regress_shadow (k1, "K 2", v, j, f, source, source_partition, source_offset) VALUES
	(1, 'same', 'v', '{"a": 1}', 'NaN', 'd', 0, 10), (2, 'same, with NULLs', NULL, NULL, NULL, 'd', 0, 11),
	(3, 'changed', 'w', '{"a": 2}', 1, 'd', 0, 12), (4, 'changed to NULL', NULL, NULL, 1, 'd', 0, 13),
	(10, 'superseded', 'old', NULL, 1, 'd', 1, 20), (11, 'extra', 'v', NULL, 1, 'd', 1, 21);
INSERT INTO regress_plain VALUES (1, 'x'), (2, 'x'), (3, NULL);
INSERT INTO regress_plain_shadow VALUES (1, 'x'), (2, 'y'), (4, NULL);
SET ROLE regress_mill;
SELECT difference, key, columns FROM millrace.replay_diff('d') ORDER BY key ->> 'K 2';
SELECT key ->> 'k1' AS k1, live - '{at,n}'::text[] AS live, replayed - '{at,n}'::text[] AS replayed FROM millrace.replay_diff('d', ignore => '{at,n,source,source_partition,source_offset,only_live}') WHERE difference <> 'superseded' ORDER BY key -> 'k1';
SELECT difference, key, columns FROM millrace.replay_diff('d', key => '{source_partition,source_offset}', ignore => '{at,n,source,j}') ORDER BY 2;
SELECT count(*) FROM millrace.replay_diff('d', ignore => '{}') WHERE columns @> '{at,source}';
SELECT * FROM millrace.replay_diff('p', key => '{a}') ORDER BY key;
SELECT * FROM millrace.replay_diff('p');
SELECT * FROM millrace.replay_diff('p', key => '{c}');
SELECT * FROM millrace.replay_diff('regress_p');
SELECT * FROM millrace.replay_diff(NULL);
SET ROLE regress_other;
\set VERBOSITY terse
SELECT * FROM millrace.replay_diff('p', key => '{a}');
\set VERBOSITY default
SET ROLE regress_mill;
SELECT millrace.drop_source('regress_p');
SELECT * FROM millrace.replay_diff('p', key => '{a}');
DROP TABLE regress_shadow;
SELECT * FROM millrace.replay_diff('d');
SELECT millrace.drop_source(name) FROM millrace.sources ORDER BY name;
RESET ROLE;

DROP TABLE regress_target, regress_live, regress_plain, regress_plain_shadow;
DROP FUNCTION regress_f();
DROP SERVER regress_k CASCADE;
REVOKE CREATE ON SCHEMA public FROM regress_mill;
DROP ROLE regress_mill, regress_other;
