-- millrace.training_progress: a query that looks at its own training while it is read.
CREATE SCHEMA progress;
SET search_path = progress, public;
CREATE FUNCTION look(i integer) RETURNS real LANGUAGE plpgsql AS $$
DECLARE
	p record;
BEGIN
	IF i = 300 THEN
		SELECT * INTO p FROM millrace.training_progress WHERE pid = pg_backend_pid();
		RAISE NOTICE '% of % (%): %, % rows read, iteration % of %, by me %, no worker %, in time %', p.command, p.model, p.algorithm, p.phase,
			p.rows_read, p.iteration, p.total, p.username = current_user, p.leader_pid IS NULL, p.elapsed BETWEEN '0' AND '1 min' AND p.time_left IS NULL;
	END IF;
	IF i = 400 THEN
		PERFORM 1 / (i - 400);
	END IF;
	RETURN i;
END
$$;
SELECT millrace.train_model('pr', 'random_forest', 'SELECT look(i) AS x, i % 2 AS c FROM generate_series(1, 310) i', 'c', '{"n_estimators": 2}');
SELECT millrace.tune_model('pr', 'logistic_regression', 'SELECT look(i) AS x, i % 2 AS c FROM generate_series(1, 310) i', 'c', '{"C": 1, "max_iter": 1000}');
SELECT r->>'challenger' AS challenger FROM millrace.challenge_model('pr', 1, 'SELECT look(i) AS x, i % 2 AS c FROM generate_series(1, 310) i', 'c') r;
SELECT count(*) AS left_behind FROM millrace.training_progress;

-- Forgotten after an error, also one that is caught, and after a transaction.
SELECT millrace.train_model('pr', 'random_forest', 'SELECT look(i) AS x, i % 2 AS c FROM generate_series(1, 410) i', 'c');
SELECT count(*) AS left_behind FROM millrace.training_progress;
DO $$
BEGIN
	BEGIN
		PERFORM millrace.train_model('pr', 'random_forest', 'SELECT progress.look(i) AS x, i % 2 AS c FROM generate_series(1, 410) i', 'c');
	EXCEPTION WHEN division_by_zero THEN
		RAISE NOTICE 'caught, % left behind', (SELECT count(*) FROM millrace.training_progress);
	END;
END
$$;

CREATE ROLE progress_nobody;
SET ROLE progress_nobody;
SELECT count(*) FROM millrace.training_progress;
RESET ROLE;
DROP ROLE progress_nobody;
SELECT millrace.drop_model('pr');
SET client_min_messages = warning;
DROP SCHEMA progress CASCADE;
