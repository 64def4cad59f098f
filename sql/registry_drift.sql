-- Monitors: drift of a query's columns, window by window.
CREATE SCHEMA registry_drift;
SET search_path = registry_drift, public;
SET timezone = 'UTC';

-- 15 weeks of 500 rows; in week 10 y rises by half a standard deviation, c gets a new value and loses others.
CREATE TABLE events AS
SELECT i AS id, '2026-01-05 00:00+00'::timestamptz + i * interval '7 days' / 500 AS at,
	(i * 7919 % 1009) / 100.0 AS x,
	((i * 104729 % 997) / 997.0 + CASE WHEN i >= 5000 THEN 0.15 ELSE 0 END)::real AS y,
	CASE WHEN i >= 5000 AND i % 9 = 0 THEN 'purple' WHEN i >= 5000 AND i % 7 = 0 THEN NULL
		ELSE (ARRAY['red', 'green', 'blue'])[1 + i * 31 % 3] END AS c,
	i * 31 % 5 = 0 AS flag,
	ARRAY[(i * 7877 % 1013) / 7.0, (i * 6007 % 991) / 3.0]::real[] AS d,
	'{}'::jsonb AS ignored
FROM generate_series(0, 7499) i;

SELECT millrace.create_monitor('rd', 'SELECT * FROM events', '{"time": "at", "key": "id"}');
SELECT owner, query, options, columns, reference, windows FROM millrace.monitors WHERE name = 'rd';
SELECT millrace.run_monitor('rd', '2026-01-11') AS none_has_ended;
SELECT millrace.run_monitor('rd', '2026-02-03') AS four;
SELECT millrace.run_monitor('rd', '2026-02-03') AS done;
SELECT millrace.run_monitor('rd', '2026-04-21') AS the_rest;
SELECT window_no, window_start, rows, columns, alarms, alarmed FROM millrace.monitor_report WHERE monitor = 'rd' ORDER BY 1;
SELECT window_no, role, column_name, regexp_replace(reason, '\(p [^)]*\)', '(p)', 'g') AS reason
FROM millrace.drift_alarms WHERE monitor = 'rd' ORDER BY 1, 3;
SELECT new_categories, round(new_share::numeric, 3) AS share, round(missing::numeric, 3) AS missing, reference_rows
FROM millrace.drift WHERE monitor = 'rd' AND window_no = 10 AND column_name = 'c';
SELECT column_name, (millrace.describe(sketch)).kind, (millrace.describe(sketch)).rows FROM millrace.monitor_sketches WHERE monitor = 'rd' AND window_no = 10 ORDER BY 1;
-- Once more changes nothing.
CREATE TABLE before AS SELECT * FROM millrace.drift WHERE monitor = 'rd';
SELECT millrace.run_monitor('rd', '2026-04-21');
SELECT count(*) FROM (SELECT * FROM millrace.drift WHERE monitor = 'rd' EXCEPT SELECT * FROM before) q;

-- A fixed reference: each week after the change is an alarm.  A table's name is a query.
SELECT millrace.create_monitor('rd_fixed', 'events',
	'{"time": "at", "columns": ["y", "flag"], "reference": {"from": "2026-01-05", "to": "2026-02-16"}, "correction": "bh"}');
SELECT millrace.run_monitor('rd_fixed', '2026-04-13');
SELECT window_start::date, min(reference_rows) AS reference_rows, array_agg(column_name ORDER BY 1) FILTER (WHERE alarm) AS alarms
FROM millrace.drift WHERE monitor = 'rd_fixed' GROUP BY 1 ORDER BY 1;
-- A query's rows as reference, months in a time zone, a date, and predictions.
SELECT millrace.create_monitor('rd_month', 'SELECT at::date AS day, y, c AS said FROM events', '{"time": "day", "window": "1 month",
	"timezone": "Europe/Rome", "start": "2026-01-01 00:00+01", "prediction": "said", "reference": {"query": "SELECT y, c AS said FROM events WHERE id < 4000"}}');
SELECT millrace.run_monitor('rd_month', '2026-04-30 22:00+00');
SELECT window_start, window_end, role, column_name, rows, alarm FROM millrace.drift WHERE monitor = 'rd_month' ORDER BY 1, 4;

-- The rows a model was trained on as reference; a window waits for late rows.
SELECT millrace.train_model('rd_model', 'logistic_regression', 'SELECT x, y, c FROM events WHERE id < 4000 AND c IS NOT NULL', 'c');
SELECT millrace.create_monitor('rd_model', 'SELECT at, x, y FROM events',
	'{"time": "at", "start": "2026-03-09", "reference": {"model": "rd_model"}, "lateness": "1 day"}');
SELECT reference FROM millrace.monitors WHERE name = 'rd_model';
SELECT millrace.run_monitor('rd_model', '2026-03-16 23:00'), millrace.run_monitor('rd_model', '2026-03-17');
SELECT column_name, rows, reference_rows, alarm FROM millrace.drift WHERE monitor = 'rd_model' ORDER BY 1;

-- Small windows raise no alarm, whatever they hold.
SELECT millrace.create_monitor('rd_small', 'SELECT at, CASE WHEN id < 1000 THEN y ELSE y + 100 END AS y FROM events WHERE id < 1000 OR id % 15 = 0',
	'{"time": "at", "reference": {"from": "2026-01-05", "to": "2026-01-19"}}');
SELECT millrace.run_monitor('rd_small', '2026-02-02');
SELECT rows, ks, alarm, reason FROM millrace.drift WHERE monitor = 'rd_small' ORDER BY window_no;

-- Labels that arrive later.
CREATE TABLE labels (event int, truth text);
SELECT millrace.create_monitor('rd_labels', 'SELECT id, at, coalesce(c, ''red'') AS said FROM events WHERE id < 3000', '{"time": "at", "key": "id",
	"prediction": "said", "label": "truth", "label_query": "SELECT event AS id, truth FROM labels", "label_delay": "2 weeks"}');
INSERT INTO labels SELECT id, CASE WHEN id < 1500 OR id % 3 = 0 THEN coalesce(c, 'red') ELSE 'green' END FROM events WHERE id < 1200;
SELECT millrace.run_monitor('rd_labels', '2026-02-02');
SELECT window_no, rows, labelled, accuracy, alarm, reason, final FROM millrace.monitor_performance WHERE monitor = 'rd_labels' ORDER BY 1;
INSERT INTO labels SELECT id, CASE WHEN id < 1500 OR id % 3 = 0 THEN coalesce(c, 'red') ELSE 'green' END FROM events WHERE id BETWEEN 1200 AND 2400;
SELECT millrace.run_monitor('rd_labels', '2026-02-16');
SELECT window_no, rows, labelled, round(accuracy::numeric, 3) AS accuracy, round(f1_macro::numeric, 3) AS f1, baseline_accuracy, alarm,
	regexp_replace(reason, '\(p [^)]*\)', '(p)') AS reason, final FROM millrace.monitor_performance WHERE monitor = 'rd_labels' ORDER BY 1;
SELECT window_no, role, rows FROM millrace.drift_alarms WHERE monitor = 'rd_labels' ORDER BY 1;

-- run_due() runs what is due; what fails does not stop the rest.
CREATE TABLE ran (n int);
SELECT millrace.create_schedule('rd_good', '1 day', 'INSERT INTO ran VALUES (1)', '2026-05-01');
SELECT millrace.create_schedule('rd_bad', '1 week', 'SELECT 1 / 0', '2026-05-01');
SELECT kind, name, ok, message FROM millrace.run_due('2026-05-10 12:00') ORDER BY 1, 2;
SELECT kind, name, next_run, last_error, failures FROM millrace.schedules WHERE kind = 'sql' ORDER BY 2;
SELECT kind, name, ok, message FROM millrace.run_due('2026-05-10 14:00') ORDER BY 1, 2;
SELECT count(*) FROM ran;
SELECT kind, name, next_run FROM millrace.schedules WHERE name LIKE 'rd%' ORDER BY 1, 2;
SELECT millrace.drop_schedule('rd_bad');
SELECT millrace.drop_schedule('rd_good');
SELECT millrace.drop_schedule('rd_good');

-- Columns that are not what they were: an error, and nothing half-stored.
ALTER TABLE events DROP COLUMN flag;
INSERT INTO events SELECT id + 7500, at + interval '105 days' FROM events WHERE id < 500;
SELECT millrace.run_monitor('rd', '2026-07-01');
ALTER TABLE events ADD COLUMN flag text;
SELECT millrace.run_monitor('rd', '2026-07-01');
SELECT windows FROM millrace.monitors WHERE name = 'rd';

-- Refused.
SELECT millrace.create_monitor('rd', 'events', '{"time": "at"}');
SELECT millrace.create_monitor('rd2', 'events');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "id"}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "columns": ["nope"]}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "columns": ["ignored"]}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "alpha": 2}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "windows": 2}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "window": "0"}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "timezone": "Mars"}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "reference": {"months": 1}}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "thresholds": {"csi": 1}}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "reference": {"from": "2030-01-01", "to": "2030-02-01"}}');
SELECT millrace.create_monitor('rd2', 'events', '{"time": "at", "label_query": "SELECT 1"}');
SELECT millrace.create_monitor('rd2', 'DELETE FROM events RETURNING *', '{"time": "at"}');
SELECT millrace.create_monitor('rd2', 'SELECT * FROM events; DROP TABLE events', '{"time": "at"}');
SELECT millrace.create_monitor('rd2', 'SELECT at FROM events', '{"time": "at"}');
SELECT millrace.run_monitor('nope');
SELECT millrace.run_monitor('rd', 'infinity');
SELECT millrace.drop_monitor('nope');
SELECT count(*) FROM millrace.monitors WHERE name = 'rd2';

-- The owner's rights, not the caller's.
CREATE ROLE regress_drift_a;
CREATE ROLE regress_drift_b;
GRANT millrace_modeler TO regress_drift_a, regress_drift_b;
GRANT USAGE, CREATE ON SCHEMA registry_drift TO regress_drift_a, regress_drift_b;
SET ROLE regress_drift_a;
SELECT millrace.create_monitor('rd_a', 'events', '{"time": "at"}');
RESET ROLE;
GRANT SELECT ON events TO regress_drift_a;
SET ROLE regress_drift_a;
SELECT millrace.create_monitor('rd_a', 'events', '{"time": "at", "columns": "x"}');
SET ROLE regress_drift_b;
SELECT millrace.run_monitor('rd_a');
SELECT millrace.drop_monitor('rd_a');
SELECT millrace.run_due();
RESET ROLE;
REVOKE SELECT ON events FROM regress_drift_a;
SELECT millrace.drop_monitor(name) FROM millrace.monitors WHERE name LIKE 'rd%' AND name <> 'rd_a' ORDER BY name;
SELECT * FROM millrace.run_due();
SELECT millrace.drop_monitor('rd_a');
SELECT (SELECT count(*) FROM millrace.drift), (SELECT count(*) FROM millrace.monitor_sketches), (SELECT count(*) FROM millrace.schedules);
DROP SCHEMA registry_drift CASCADE;
REVOKE millrace_modeler FROM regress_drift_a, regress_drift_b;
DROP ROLE regress_drift_a, regress_drift_b;
