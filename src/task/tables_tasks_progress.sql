-- task: what workers note of their lanes
--
-- Not dumped: it is about the tasks of this cluster.

CREATE TABLE millrace.task_progress (
	owner         text NOT NULL REFERENCES millrace.task_pools (owner) ON DELETE CASCADE,
	lane          text NOT NULL CHECK (lane IN ('call', 'sql')),
	idle          pg_snapshot,
	idle_at       timestamptz,
	late          bigint NOT NULL DEFAULT 0,
	last_error    text,
	last_sqlstate text,
	last_error_at timestamptz,
	PRIMARY KEY (owner, lane)
);
COMMENT ON TABLE millrace.task_progress IS 'what workers note of a role''s tasks: when there was nothing left to do, and what went wrong';
COMMENT ON COLUMN millrace.task_progress.owner IS 'whose tasks';
COMMENT ON COLUMN millrace.task_progress.lane IS 'call or sql, see task_queues';
COMMENT ON COLUMN millrace.task_progress.idle IS 'nothing that this snapshot saw is waiting to be begun; NULL: something may be';
COMMENT ON COLUMN millrace.task_progress.idle_at IS 'nor was anything due by then';
COMMENT ON COLUMN millrace.task_progress.late IS 'results that came when the task was no longer the worker''s, and were dropped';
COMMENT ON COLUMN millrace.task_progress.last_error IS 'the last trouble of a worker; errors of tasks stand with the tasks';
COMMENT ON COLUMN millrace.task_progress.last_sqlstate IS 'its SQLSTATE';
COMMENT ON COLUMN millrace.task_progress.last_error_at IS 'when it happened';
GRANT SELECT ON millrace.task_progress TO millrace_admin, millrace_monitor;
