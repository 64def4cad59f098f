-- stream: what sources are doing

CREATE VIEW millrace.source_status AS
	SELECT s.name, s.topic, s.target, s.owner,
		   CASE WHEN s.state = 'running' AND s.bound_to <> millrace.source_binding() THEN 'paused'
				WHEN s.state = 'running' AND w.state IS NULL THEN 'running, no worker' ELSE COALESCE(NULLIF(s.state, 'running'), w.state) END AS state,
		   COALESCE(CASE WHEN s.state = 'running' AND s.bound_to <> millrace.source_binding()
					 THEN 'restored or copied from another database: resume_source() starts it here' END,
				s.reason, w.reason) AS reason, COALESCE(s.sqlstate, w.sqlstate) AS sqlstate,
		   w.workers, w.pids, o.partitions, o.messages_behind, o.rows, o.dead, o.skipped, o.deleted, o.batches, o.last_batch_at,
		   e.errors, e.last_error, s.workers_reason
	FROM millrace.sources s
	LEFT JOIN (SELECT source, pg_catalog.count(*) AS workers, pg_catalog.array_agg(pid ORDER BY worker) AS pids,
					  CASE WHEN pg_catalog.bool_or(state = 'waiting') THEN 'waiting'
						   WHEN pg_catalog.bool_and(state = 'stopped') THEN 'running, no worker'
						   WHEN pg_catalog.bool_or(state = 'starting') THEN 'starting' ELSE 'running' END AS state,
					  pg_catalog.max(reason) AS reason, pg_catalog.max(sqlstate) AS sqlstate
			   FROM (SELECT w.source, w.worker, NULLIF(w.pid, 0) AS pid, w.reason, w.sqlstate,
							  -- a process that is gone has said its last: a server that crashed, a standby
							  CASE WHEN w.pid = 0 OR w.state = 'waiting'
								OR EXISTS (SELECT FROM millrace.worker_slots() l WHERE l.pid = w.pid) THEN w.state ELSE 'stopped' END AS state
					   FROM millrace.source_workers w JOIN millrace.sources s ON s.name = w.source AND w.worker < COALESCE(s.workers_now, 1)) w
			   GROUP BY source) w ON w.source = s.name
	LEFT JOIN (SELECT source, pg_catalog.sum(errors) AS errors,
					  (pg_catalog.array_agg(last_error ORDER BY last_error_at DESC NULLS LAST))[1] AS last_error
			   FROM millrace.source_workers GROUP BY source) e ON e.source = s.name
	LEFT JOIN (SELECT source, pg_catalog.count(*) AS partitions,
					  pg_catalog.sum(GREATEST(COALESCE(to_offset, high_watermark) - next_offset, 0)) AS messages_behind,
					  pg_catalog.sum(rows) AS rows, pg_catalog.sum(dead) AS dead, pg_catalog.sum(skipped) AS skipped, pg_catalog.sum(deleted) AS deleted,
					  pg_catalog.sum(batches) AS batches, pg_catalog.max(last_batch_at) AS last_batch_at
			   FROM millrace.source_offsets GROUP BY source) o ON o.source = s.name;
COMMENT ON VIEW millrace.source_status IS 'one row a source: what it does, why it does not, how far behind it is';
GRANT SELECT ON millrace.source_status TO millrace_admin, millrace_monitor;

CREATE VIEW millrace.replays AS
	SELECT s.name AS replay, s.replay_of AS source, s.topic, s.target AS "into", s.owner, t.state, t.reason,
		   o."from", o."to", o.messages, o.messages_left,
		   pg_catalog.round(100.0 * (o.messages - o.messages_left) / NULLIF(o.messages, 0), 1) AS percent,
		   t.rows, t.dead, t.skipped, t.deleted, s.created_at AS started_at,
		   CASE WHEN s.state IN ('finished', 'cancelled') THEN s.state_since END AS ended_at
	FROM millrace.sources s
	JOIN millrace.source_status t ON t.name = s.name
	LEFT JOIN (SELECT source, pg_catalog.jsonb_object_agg(partition::text, from_offset) AS "from",
					  pg_catalog.jsonb_object_agg(partition::text, to_offset) AS "to",
					  CASE WHEN pg_catalog.bool_and(owner_pid IS NOT NULL) THEN pg_catalog.sum(to_offset - from_offset)::bigint END AS messages,
					  CASE WHEN pg_catalog.bool_and(owner_pid IS NOT NULL) THEN pg_catalog.sum(GREATEST(to_offset - next_offset, 0))::bigint END AS messages_left
			   FROM millrace.source_offsets GROUP BY source) o ON o.source = s.name
	WHERE s.replay_of IS NOT NULL;
COMMENT ON VIEW millrace.replays IS 'one row a replay: which offsets of which partitions into which table, and how far it is';
COMMENT ON COLUMN millrace.replays."from" IS 'first offset of each partition; null: not known before a worker has claimed it';
COMMENT ON COLUMN millrace.replays."to" IS 'offset before which each partition ends';
COMMENT ON COLUMN millrace.replays.messages IS 'offsets of the range, of which not each need be a message; null before workers have claimed all its partitions';
GRANT SELECT ON millrace.replays TO millrace_admin, millrace_monitor;
