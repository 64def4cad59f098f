-- Workers' functions without any worker: who may, what is refused, what status() says.
-- (t/test_stream_lifecycle.py runs the workers.)
SET client_min_messages = warning;
CREATE ROLE regress_admin LOGIN IN ROLE millrace_admin;
CREATE ROLE regress_watch LOGIN IN ROLE millrace_monitor;
CREATE ROLE regress_guest LOGIN;
CREATE TABLE regress_life (a int);
ALTER TABLE regress_life OWNER TO regress_admin;
CREATE SERVER regress_life FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '127.0.0.1:1');
GRANT USAGE ON FOREIGN SERVER regress_life TO regress_admin;

-- Nothing that does something is PUBLIC's.
SET ROLE regress_guest;
SELECT millrace.start();
SELECT millrace.stop();
SELECT millrace.status();
SELECT millrace.worker_slots();
SELECT millrace.peek('regress_life', 't');
SELECT * FROM millrace.sources;
INSERT INTO millrace.sources DEFAULT VALUES;
CREATE TRIGGER mine AFTER INSERT ON millrace.sources EXECUTE FUNCTION millrace.sources_changed();
-- A monitor sees, and changes nothing.
SET ROLE regress_watch;
SELECT count(*) > 0 AS sees FROM millrace.status();
SELECT millrace.start();
UPDATE millrace.sources SET state = 'running';
-- Not even an administrator writes the tables.
SET ROLE regress_admin;
DELETE FROM millrace.sources;
UPDATE millrace.source_offsets SET next_offset = 0;
RESET ROLE;

-- start() that is rolled back leaves nothing; what it commits, stop() takes back.
BEGIN;
SELECT millrace.start();
SELECT c FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) c WHERE datname = current_database() AND c LIKE 'millrace%';
ROLLBACK;
SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setconfig::text LIKE '%millrace%';
SET ROLE regress_admin;
SELECT millrace.start();
SELECT millrace.stop();
RESET ROLE;
SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setconfig::text LIKE '%millrace%';
-- One that was just starting ends as soon as it looks: within seconds there is none.
DO $$ BEGIN
	FOR i IN 1..200 LOOP
		PERFORM pg_stat_clear_snapshot();
		EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type IN ('millrace supervisor', 'millrace source'));
		PERFORM pg_sleep(0.05);
	END LOOP;
END $$;
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type IN ('millrace supervisor', 'millrace source');

-- Without workers a source is there and says why it does nothing.
SELECT millrace.create_source('regress_life', 'regress_life', 'topic', 'regress_life');
SELECT kind, name, pid, state, reason FROM millrace.status() WHERE kind = 'source';
SELECT kind, name = current_database() AS ours, pid, state, reason FROM millrace.status() WHERE kind = 'supervisor';
SELECT state FROM millrace.source_status WHERE name = 'regress_life';
SELECT millrace.pause_source('regress_life', 'for lunch');
SELECT kind, name, pid, state, reason FROM millrace.status() WHERE kind = 'source';

-- A source that was bound elsewhere (a restore, a copied database) counts as paused, until it is resumed.
SELECT millrace.source_binding() ~ '^[0-9]+/[0-9]+/[0-9]+$' AS binding, bound_to = millrace.source_binding() AS home FROM millrace.sources WHERE name = 'regress_life';
UPDATE millrace.sources SET bound_to = '1/2/3', state = 'running' WHERE name = 'regress_life';
SELECT kind, name, pid, state, reason FROM millrace.status() WHERE kind = 'source';
SELECT state, reason FROM millrace.source_status WHERE name = 'regress_life';
SELECT millrace.resume_source('regress_life');
SELECT bound_to = millrace.source_binding() AS home FROM millrace.sources WHERE name = 'regress_life';
SELECT millrace.drop_source('regress_life');

-- Arguments.
SELECT millrace.peek('regress_life', 't', 0);
SELECT millrace.peek('regress_life', 't', 10, 0);
SELECT millrace.peek('no_server', 't');
SELECT millrace.sources_changed();
SET ROLE regress_admin;
SET millrace.enabled = on;
SET millrace.workers = off;
RESET ROLE;
SET millrace.workers = off;
SET millrace.unknown = on;

DROP SERVER regress_life;
DROP TABLE regress_life;
DROP ROLE regress_admin, regress_watch, regress_guest;
