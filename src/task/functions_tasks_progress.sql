-- task: what workers and supervisor ask of the tables

CREATE FUNCTION millrace.task_pool_limits(options jsonb, OUT workers_min int, OUT workers_max int, OUT max_tasks int, OUT memory bigint,
		OUT slots int, OUT lease_s int)
	LANGUAGE sql STABLE STRICT PARALLEL SAFE
	SET search_path = pg_catalog, pg_temp
AS $$
	SELECT (o.all->>'workers_min')::int, (o.all->>'workers_max')::int, (o.all->>'max_tasks')::int, pg_size_bytes(o.all->>'memory'),
		   (o.all->>'slots')::int, (o.all->>'lease_s')::int
	  FROM (SELECT jsonb '{"workers_min": 1, "workers_max": 4, "max_tasks": 1000, "memory": "512MB", "slots": 16, "lease_s": 60}' || options AS all) o
$$;
COMMENT ON FUNCTION millrace.task_pool_limits(jsonb) IS 'options of a pool of tasks, with what stands for those that are not given';

CREATE FUNCTION millrace.wake_next_task(owner text, order_key text, ended uuid) RETURNS void
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
	next record;
BEGIN
	LOOP
		SELECT t.leaf, t.id, t.lease INTO next
		  FROM millrace.task_queue t
		 WHERE t.order_key = wake_next_task.order_key
		   AND t.queue IN (SELECT q.id FROM millrace.task_queues q WHERE q.owner = wake_next_task.owner)
		 ORDER BY t.id LIMIT 1;
		-- An older one, and one that runs, wakes the next when it ends.  So of two that end at once only the older waits for the other.
		EXIT WHEN NOT FOUND OR next.id < ended OR next.lease IS NOT NULL;
		UPDATE millrace.task_queue t SET xid = pg_current_xact_id() WHERE t.leaf = next.leaf AND t.id = next.id AND t.lease IS NULL;
		-- Else it was claimed, or ended, meanwhile.
		EXIT WHEN FOUND;
	END LOOP;
END $$;
COMMENT ON FUNCTION millrace.wake_next_task(text, text, uuid) IS 'the oldest task left of an order_key may be begun: workers find it anew; called by whoever takes one, of this id, off the queue';

CREATE FUNCTION millrace.task_lanes(owners text[], upto xid8[]) RETURNS TABLE (owner text, lane text, due boolean, waiting boolean)
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
	SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	at timestamptz := millrace.task_now();
BEGIN
	RETURN QUERY
	SELECT l.owner, l.lane,
		   p.idle IS NULL OR EXISTS (
				SELECT FROM millrace.task_queues q
				 WHERE q.owner = l.owner AND q.lane = l.lane
				   AND (EXISTS (SELECT FROM millrace.task_queue t WHERE t.queue = q.id AND t.priority = ANY ('{0,1,2,3,4,5,6,7,8,9}') AND t.lease IS NULL
								AND t.xid >= pg_snapshot_xmax(p.idle))
						OR EXISTS (SELECT FROM millrace.task_queue t WHERE t.queue = q.id AND t.priority = ANY ('{0,1,2,3,4,5,6,7,8,9}') AND t.lease IS NULL
								   AND t.xid = ANY (ARRAY(SELECT pg_snapshot_xip(p.idle))))
						OR EXISTS (SELECT FROM millrace.task_queue t WHERE t.queue = q.id AND t.due_at > p.idle_at AND t.due_at <= at)
						OR EXISTS (SELECT FROM millrace.provider_states s WHERE s.server = q.name AND NOT s.paused AND s.since > p.idle_at))),
		   u.upto IS NOT NULL AND EXISTS (
				SELECT FROM millrace.task_queues q
				 WHERE q.owner = l.owner AND q.lane = l.lane
				   AND EXISTS (SELECT FROM millrace.task_queue t WHERE t.queue = q.id AND t.priority = ANY ('{0,1,2,3,4,5,6,7,8,9}') AND t.lease IS NULL
							   AND t.xid >= u.upto AND (t.due_at IS NULL OR t.due_at <= at)))
	  FROM (SELECT DISTINCT q.owner, q.lane FROM millrace.task_queues q) l
	  LEFT JOIN millrace.task_progress p ON p.owner = l.owner AND p.lane = l.lane
	  LEFT JOIN unnest(owners, upto) u (owner, upto) ON u.owner = l.owner AND l.lane = 'sql';
END $$;
COMMENT ON FUNCTION millrace.task_lanes(text[], xid8[]) IS 'for the supervisor: which lanes have something to do that idle workers did not know of; in lane sql of these owners, do tasks wait that were put into the queue by these transactions or later ones?';

REVOKE EXECUTE ON FUNCTION millrace.task_pool_limits(jsonb), millrace.wake_next_task(text, text, uuid), millrace.task_lanes(text[], xid8[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.task_pool_limits(jsonb) TO millrace_admin, millrace_monitor, millrace_user;
