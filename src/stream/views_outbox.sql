-- stream: what outboxes are doing

CREATE VIEW millrace.outbox_status AS
	SELECT o.server, o.owner,
		   CASE WHEN o.state = 'running' AND o.bound_to <> millrace.source_binding() THEN 'paused'
				WHEN o.state <> 'running' THEN o.state
				WHEN p.pid <> 0 AND l.pid IS NULL THEN 'running, no worker'
				ELSE p.state END AS state,
		   CASE WHEN o.state = 'running' AND o.bound_to <> millrace.source_binding()
				THEN 'restored or copied from another database: resume_outbox() starts it here'
				ELSE COALESCE(o.reason, p.reason) END AS reason,
		   l.pid, w.waiting, w.oldest, p.messages, p.bytes, p.dead, p.batch AS batches, p.last_batch_at, p.errors, p.last_error
	FROM millrace.outboxes o
	LEFT JOIN millrace.outbox_progress p ON p.server = o.server
	LEFT JOIN millrace.worker_slots() l ON l.pid = p.pid
	LEFT JOIN LATERAL (
		SELECT pg_catalog.count(*) AS waiting, pg_catalog.min(m.at) AS oldest
		FROM millrace.outbox m
		WHERE m.server = o.server AND (m.xid >= pg_catalog.pg_snapshot_xmax(p.done)
			   OR m.xid = ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip(p.done))))
			  AND (p.upto IS NULL OR m.id > p.after_id
				   OR NOT pg_catalog.pg_visible_in_snapshot(m.xid, p.upto))
			  AND NOT EXISTS (SELECT FROM millrace.outbox_dead_letters d WHERE d.server = m.server AND d.id = m.id AND NOT d.shortened)) w ON true;
COMMENT ON VIEW millrace.outbox_status IS 'one row an outbox: what it does, why it does not, how many messages wait and since when';
GRANT SELECT ON millrace.outbox_status TO millrace_admin, millrace_monitor;
