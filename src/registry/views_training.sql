-- registry: what is being trained now

CREATE VIEW millrace.training_progress AS
SELECT a.pid, a.leader_pid, a.username, a.command, a.model, a.algorithm, a.phase, a.rows_read, a.iteration, a.total, a.loss,
	pg_catalog.clock_timestamp() - a.started_at AS elapsed,
	pg_catalog.make_interval(secs => a.seconds_left) AS time_left,
	a.started_at, a.phase_started_at
FROM millrace.training_activity() a;
COMMENT ON VIEW millrace.training_progress IS
	'trainings, tunings and evaluations at work: phase, rows read, iteration of total (trees, passes, trials), loss, and the time this phase may still take; yours, or all for millrace_monitor';
GRANT SELECT ON millrace.training_progress TO millrace_user, millrace_monitor;
