-- Stars, galaxies and quasars: twelve weeks of a survey, learnt from week by week.
--
--     psql -d survey -v csv=/path/to/star_classification.csv -f docs/stars.sql
--
-- The file is SDSS17: 24,000 rows of 18 columns, target "class".  Its rows come in weekly batches of 2,000.
-- In week 4 a reduction program writes -9999 for what it could not measure; in week 7 the r filter is 0.5
-- magnitudes too bright; in week 9 nobody runs the pipeline.  The same file gives the same predictions,
-- promotions and alarms whenever this is run.
\set ON_ERROR_STOP 1
\set QUIET 1
\pset pager off
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE EXTENSION IF NOT EXISTS millrace;

-- What the telescope delivers, as it would lie in files, in another database or in a topic.
CREATE TABLE delivered ("obj_ID" text, alpha float8, delta float8, u float8, g float8, r float8, i float8, z float8,
	"run_ID" text, "rerun_ID" text, cam_col text, "field_ID" text, "spec_obj_ID" text, class text, redshift float8,
	plate text, "MJD" int, "fiber_ID" text, n bigint GENERATED ALWAYS AS IDENTITY);
\set load '\\copy delivered ("obj_ID", alpha, delta, u, g, r, i, z, "run_ID", "rerun_ID", cam_col, "field_ID", "spec_obj_ID", class, redshift, plate, "MJD", "fiber_ID") from ' :'csv' ' csv header'
:load

-- The file goes along the sky; a week sees all of it, so its rows are dealt out by a hash.
CREATE TABLE delivery AS
SELECT n, week, '2026-08-03'::timestamptz + (week - 1) * interval '7 days' + (k % 2000) * interval '5 minutes' AS seen, class, redshift,
	alpha, delta, CASE WHEN week = 4 AND k % 100 = 0 THEN -9999 ELSE u END AS u, g, CASE WHEN week = 7 THEN r - 0.5 ELSE r END AS r, i, z
FROM (SELECT d.*, (d.k / 2000 + 1)::int AS week FROM (SELECT d.*, row_number() OVER (ORDER BY md5(d.n::text)) - 1 AS k FROM delivered d) d) d;

\o /dev/null
-- The pipeline, declared.  Identifiers rounded by a spreadsheet are no features.
SELECT millrace.create_pipeline('tabular', 'stars', '{
	"columns": "n bigint, seen timestamptz, alpha float8, delta float8, u float8, g float8, r float8, i float8, z float8, redshift float8, class text",
	"key": "n", "time": "seen", "target": "class",
	"start": "2026-08-03 00:00:00+00", "window": "7 days",
	"missing": [-9999],
	"limits": {"u": [5, 40], "g": [5, 40], "r": [5, 40], "i": [5, 40], "z": [5, 40]},
	"reject": {"no redshift": "redshift IS NULL"},
	"features": ["alpha", "delta", "u", "g", "r", "i", "z", "redshift", "u - g AS u_g", "g - r AS g_r", "r - i AS r_i", "i - z AS i_z"],
	"normalise": "standard",
	"test_share": 0.2, "seed": 17,
	"candidates": [{"algorithm": "gradient_boosting"}, {"algorithm": "random_forest"}],
	"promote": {"metric": "accuracy", "alpha": 0.05}}');
\o

-- Week after week: the batch is loaded, and what is due is run as a scheduler would.  Week 9 is loaded on
-- time, but its run is missed; the next one does both, in order.
CREATE FUNCTION one_week(w int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO stars.raw (n, seen, alpha, delta, u, g, r, i, z, redshift, class)
	SELECT d.n, d.seen, d.alpha, d.delta, d.u, d.g, d.r, d.i, d.z, d.redshift, d.class FROM delivery d WHERE d.week = w ORDER BY d.n;
	IF w <> 9 THEN
		PERFORM stars.catch_up('2026-08-03'::timestamptz + w * interval '7 days');
	END IF;
END $$;
\o /dev/null
SELECT format('SELECT one_week(%s)', w) FROM generate_series(1, 12) w \gexec
\o

\echo 'Runs: one per week'
SELECT period::date, rows_raw AS raw, rows_rejected AS rejected, rows_predicted AS predicted, champion_before AS before, champion_after AS after,
	challenge ->> 'promoted' AS promoted, challenge ->> 'reason' AS reason FROM stars.runs ORDER BY period;
\echo 'How the champion of the day did on rows it had not seen'
SELECT period::date, model, rows, accuracy_percent, f1_macro_percent FROM stars.weekly_performance WHERE unseen ORDER BY period;
\echo 'Alarms'
SELECT period::date, drift FROM stars.runs WHERE drift <> '[]' ORDER BY period;
\echo 'Which version was live'
SELECT version, algorithm, live FROM stars.champions ORDER BY live;
