-- Option transform as a SELECT from message: what is accepted, and what is refused and why; no broker is needed for any of it.
\set SHOW_CONTEXT never
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin;
CREATE SCHEMA regress_shop AUTHORIZATION regress_mill;
CREATE SERVER regress_k FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_k TO regress_mill;
SET ROLE regress_mill;
CREATE TABLE regress_shop.t (id bigint PRIMARY KEY, name varchar(5), price numeric(10, 2), g int GENERATED ALWAYS AS (1) STORED, source_offset bigint);
CREATE TABLE regress_shop.countries (code int, country text);
CREATE TYPE regress_shop.basket AS (id bigint, items jsonb);
RESET ROLE;
CREATE TABLE regress_shop.secret (id bigint);
CREATE FUNCTION regress_shop.tell(i bigint) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM set_config('role', 'none', false); RETURN i; END $$;
CREATE FUNCTION pg_temp.try(transform text, options jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
	PERFORM millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_shop.t', jsonb_build_object('transform', transform) || options);
	RETURN (SELECT s.options FROM millrace.sources s WHERE name = 'regress_s');
END $$;
CREATE FUNCTION pg_temp.good(transform text, options jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE stored jsonb;
BEGIN
	stored := pg_temp.try(transform, options);
	PERFORM millrace.drop_source('regress_s');
	RETURN stored;
END $$;

-- By default message has the target's columns; message_type names others, or the type that takes the whole value.
SELECT pg_temp.good('SELECT id, upper(name) AS name, price * 1.21 AS price FROM message WHERE price > 0');
SELECT pg_temp.good('SELECT * FROM Message m;', '{"columns": {"$offset": "id"}}');
SELECT pg_temp.good('SELECT i::text::bigint AS id, country AS name FROM "message" m CROSS JOIN jsonb_array_elements(m.items) i LEFT JOIN regress_shop.countries ON code = m.id', '{"message_type": "regress_shop.basket"}');
SET search_path = regress_shop;
SELECT pg_temp.good('SELECT (value->>''id'')::bigint AS id, left(source_key, 5) AS name, source_offset FROM message -- the rest is noise', '{"message_type": "jsonb", "on_conflict": "update"}');
SELECT pg_temp.good('/* both */ (SELECT id FROM message UNION ALL SELECT -id FROM message) ORDER BY 1 LIMIT 1', '{"message_type": "basket"}');
RESET search_path;
SELECT pg_temp.good('WITH w AS (SELECT max(id) AS id FROM message m WHERE EXISTS (SELECT FROM message x WHERE x.id = m.id)) SELECT id, 7 AS price FROM w');

-- One SELECT, which cannot leave its place, and writes nothing.
SELECT pg_temp.try('SELECT 1 AS id; DROP TABLE regress_shop.t');
SELECT pg_temp.try('SELECT 1 AS id) r; DROP TABLE regress_shop.t; SELECT (1');
SELECT pg_temp.try('SELECT 1 AS id FROM message) r, (SELECT 2');
SELECT pg_temp.try('SELECT 1 AS id INTO regress_shop.new FROM message');
SELECT pg_temp.try('WITH d AS (DELETE FROM regress_shop.countries RETURNING code) SELECT code AS id FROM d');
SELECT pg_temp.try('SELECT id FROM (WITH d AS (DELETE FROM regress_shop.countries RETURNING code) SELECT code AS id FROM d) x');
SELECT pg_temp.try('SELECT /* never closed');
SELECT pg_temp.try('SELECT id, frm message');
SELECT pg_temp.try('SELECT $1 AS id');
SELECT pg_temp.try('DELETE FROM regress_shop.t');
SELECT pg_temp.try('');

-- Names: columns of message, and whatever else under its schema.
SELECT pg_temp.try('SELECT nme AS name FROM message');
SELECT pg_temp.try('SELECT g AS id FROM message');
SELECT pg_temp.try('SELECT "$0" AS id, "$place" AS price FROM message');
SELECT pg_temp.try('SELECT code AS id FROM countries');
SELECT pg_temp.try('SELECT id FROM public.message');
SELECT pg_temp.try('SELECT tell(id) AS name FROM message');
SELECT pg_temp.try('SELECT id FROM m', '{"message_type": "regress_shop.basket"}');
SELECT pg_temp.try('WITH message AS (SELECT 1 AS id) SELECT id FROM message');
SELECT pg_temp.try('SELECT id FROM message', '{"message_type": "nothing"}');
SELECT pg_temp.try('SELECT id FROM message', '{"message_type": "record"}');
SELECT pg_temp.try('SELECT id FROM message', '{"message_type": 7}');
SELECT pg_temp.try('SELECT id FROM message', '{"message_type": "regress_shop.basket", "columns": {"x": "name"}}');
SELECT millrace.create_source('regress_s', 'regress_k', 'topic', 'regress_shop.t', '{"message_type": "jsonb"}');

-- What it gives are columns of the target, as an INSERT would take them.
SELECT pg_temp.try('SELECT id, 7 AS h FROM message');
SELECT pg_temp.try('SELECT id, 7 FROM message');
SELECT pg_temp.try('SELECT id, 7 AS g FROM message');
SELECT pg_temp.try('SELECT id, id FROM message');
SELECT pg_temp.try('SELECT name AS id FROM message');
SELECT pg_temp.try('SELECT message FROM message');
SELECT pg_temp.try('SELECT name FROM message', '{"on_conflict": "update"}');

-- Rights are the owner's, whoever creates the source; planning it may do no more than a maintenance command.
SELECT pg_temp.try('SELECT id FROM regress_shop.secret');
SELECT pg_temp.try('SELECT regress_shop.tell(7) AS name FROM message');
REVOKE EXECUTE ON FUNCTION regress_shop.tell(bigint) FROM PUBLIC;
SELECT pg_temp.try('SELECT regress_shop.tell(id) AS name FROM message');
SELECT pg_temp.try('SELECT 1 / 0 AS id FROM message');
SELECT current_user = session_user AS nobody_else, current_setting('search_path');

-- alter_source and replay ask the same.
SELECT pg_temp.try('SELECT id FROM message');
SELECT millrace.alter_source('regress_s', '{"transform": "SELECT nme AS name FROM message"}');
SELECT millrace.alter_source('regress_s', '{"transform": "SELECT id, country AS name FROM message JOIN regress_shop.countries ON code = id"}');
INSERT INTO millrace.source_offsets (source, partition, next_offset) VALUES ('regress_s', 0, 100);
SELECT millrace.replay('regress_s', 0, 5, 'regress_shop.again', '{"transform": "SELECT id + nothing AS id FROM message"}');
SELECT millrace.replay('regress_s', 0, 5, 'regress_shop.again');
SELECT name, options FROM millrace.sources ORDER BY 1;
SELECT millrace.drop_source(name) FROM millrace.sources ORDER BY name;

DROP SERVER regress_k CASCADE;
DROP SCHEMA regress_shop CASCADE;
DROP ROLE regress_mill;
