-- registry: what is being trained now

CREATE FUNCTION millrace.training_activity()
	RETURNS TABLE (pid integer, leader_pid integer, username text, command text, model text, algorithm text, phase text,
		rows_read bigint, iteration bigint, total bigint, loss double precision, started_at timestamptz,
		phase_started_at timestamptz, seconds_left double precision)
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_training_activity';
COMMENT ON FUNCTION millrace.training_activity() IS
	'trainings, tunings and evaluations at work in this database: your roles'' own, for millrace_monitor all; see the view millrace.training_progress';
REVOKE EXECUTE ON FUNCTION millrace.training_activity() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.training_activity() TO millrace_user, millrace_monitor;
