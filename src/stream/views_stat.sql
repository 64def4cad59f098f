-- stream: what sources and outboxes do, in numbers
--
-- Totals are the tables', hence exact, and outlive crashes.  Rates and averages
-- come from meters, which begin with the server, and what workers are like now
-- from their gauges (functions_stat.sql).

CREATE VIEW millrace.stat_sources AS
	SELECT s.name, t.state, s.workers_now AS workers, w.low AS workers_min, w.high AS workers_max, s.workers_since, s.workers_reason,
		   m.messages_per_s, m.bytes_per_s, m.load, m.messages_per_s_1m, m.bytes_per_s_1m, m.load_1m,
		   COALESCE(g.behind, t.messages_behind)::bigint AS messages_behind, g.behind_stable AS messages_behind_stable,
		   m.batch_messages_1m AS batch_messages, m.batch_ms_1m AS batch_ms,
		   COALESCE(o.rows + o.dead + o.skipped + o.deleted, 0) AS messages, COALESCE(o.rows, 0) AS rows, COALESCE(o.dead, 0) AS dead,
		   COALESCE(o.skipped, 0) AS skipped, COALESCE(o.deleted, 0) AS deleted, COALESCE(o.bytes, 0) AS bytes, o.last_batch_at,
		   m.since, COALESCE(m.messages, 0) AS messages_since, COALESCE(m.batches, 0) AS batches_since, COALESCE(m.errors, 0) AS errors_since,
		   e.last_error, e.last_error_at,
		   w.memory AS memory_limit, g.queued_bytes, g.batch_bytes, g.resident_bytes
	FROM millrace.sources s
	JOIN millrace.source_status t ON t.name = s.name
	CROSS JOIN LATERAL millrace.source_budget(s.options) w
	LEFT JOIN millrace.meters() m ON m.kind = 'source' AND m.name = s.name
	LEFT JOIN (SELECT name, pg_catalog.sum(behind)::bigint AS behind, pg_catalog.sum(behind_stable)::bigint AS behind_stable,
					  pg_catalog.sum(queued_bytes)::bigint AS queued_bytes, pg_catalog.sum(batch_bytes)::bigint AS batch_bytes,
					  pg_catalog.sum(resident_bytes)::bigint AS resident_bytes
			   FROM millrace.gauges() WHERE kind = 'source' GROUP BY name) g ON g.name = s.name
	LEFT JOIN (SELECT source, pg_catalog.sum(rows)::bigint AS rows, pg_catalog.sum(dead)::bigint AS dead, pg_catalog.sum(skipped)::bigint AS skipped,
					  pg_catalog.sum(deleted)::bigint AS deleted, pg_catalog.sum(bytes)::bigint AS bytes, pg_catalog.max(last_batch_at) AS last_batch_at
			   FROM millrace.source_offsets GROUP BY source) o ON o.source = s.name
	LEFT JOIN (SELECT DISTINCT ON (source) source, last_error, last_error_at
			   FROM millrace.source_workers WHERE last_error IS NOT NULL ORDER BY source, last_error_at DESC) e ON e.source = s.name;
COMMENT ON VIEW millrace.stat_sources IS
	'one row a source: how fast it is, how far behind, what it has read in all, what went wrong, the memory of its workers';
COMMENT ON COLUMN millrace.stat_sources.workers IS 'workers that share its partitions now; workers_reason says why so many';
COMMENT ON COLUMN millrace.stat_sources.messages_per_s IS 'messages committed, over the last 10 s, by all workers; the columns of name _1m: over the last minute';
COMMENT ON COLUMN millrace.stat_sources.bytes_per_s IS 'their keys and values';
COMMENT ON COLUMN millrace.stat_sources.load IS 'workers that were busy with a batch, on average over the last 10 s';
COMMENT ON COLUMN millrace.stat_sources.messages_behind IS 'messages from its offsets to the ends of its partitions, or of the replay';
COMMENT ON COLUMN millrace.stat_sources.messages_behind_stable IS 'those of them that it may read: the others lie behind the last stable offset, in or after a transaction that its producer left open';
COMMENT ON COLUMN millrace.stat_sources.batch_messages IS 'messages a batch, over the last minute';
COMMENT ON COLUMN millrace.stat_sources.batch_ms IS 'milliseconds a batch took, from decoding to commit, over the last minute';
COMMENT ON COLUMN millrace.stat_sources.messages IS 'messages read in all: rows + dead + skipped + deleted, as source_offsets counts them in the transaction of the rows';
COMMENT ON COLUMN millrace.stat_sources.bytes IS 'their keys and values';
COMMENT ON COLUMN millrace.stat_sources.since IS 'first batch or error since the server started: messages_since, batches_since and errors_since count from then on';
COMMENT ON COLUMN millrace.stat_sources.errors_since IS 'errors that were waited out, of all workers; those of messages are dead letters';
COMMENT ON COLUMN millrace.stat_sources.memory_limit IS 'bytes that its workers may take together: option memory';
COMMENT ON COLUMN millrace.stat_sources.queued_bytes IS 'bytes of messages that the Kafka clients of its workers keep ready';
COMMENT ON COLUMN millrace.stat_sources.batch_bytes IS 'bytes of the last batches: messages and what was decoded of them';
COMMENT ON COLUMN millrace.stat_sources.resident_bytes IS 'memory of its workers'' processes, without what is shared with others';
GRANT SELECT ON millrace.stat_sources TO millrace_admin, millrace_monitor;

CREATE VIEW millrace.stat_outbox AS
	SELECT s.server, s.state, m.messages_per_s, m.bytes_per_s, m.load, m.messages_per_s_1m, m.bytes_per_s_1m, m.load_1m,
		   s.waiting, pg_catalog.now() - s.oldest AS oldest_age, m.batch_messages_1m AS batch_messages, m.batch_ms_1m AS batch_ms,
		   s.messages, s.bytes, s.dead, s.batches, s.last_batch_at,
		   m.since, COALESCE(m.messages, 0) AS messages_since, COALESCE(m.batches, 0) AS batches_since,
		   s.errors, s.last_error, p.last_error_at, g.resident_bytes
	FROM millrace.outbox_status s
	JOIN millrace.outbox_progress p ON p.server = s.server
	LEFT JOIN millrace.meters() m ON m.kind = 'outbox' AND m.name = s.server
	LEFT JOIN millrace.gauges() g ON g.kind = 'outbox' AND g.name = s.server;
COMMENT ON VIEW millrace.stat_outbox IS
	'one row an outbox: how fast it is, what waits and since when, what has left in all, what went wrong';
COMMENT ON COLUMN millrace.stat_outbox.messages_per_s IS 'messages that left, over the last 10 s; the columns of name _1m: over the last minute';
COMMENT ON COLUMN millrace.stat_outbox.bytes_per_s IS 'their keys and values';
COMMENT ON COLUMN millrace.stat_outbox.load IS 'part of the time in which a Kafka transaction was open, over the last 10 s';
COMMENT ON COLUMN millrace.stat_outbox.waiting IS 'messages committed that have not left, or are not known to have';
COMMENT ON COLUMN millrace.stat_outbox.oldest_age IS 'how long the oldest of them has waited';
COMMENT ON COLUMN millrace.stat_outbox.batch_messages IS 'messages a Kafka transaction, over the last minute';
COMMENT ON COLUMN millrace.stat_outbox.batch_ms IS 'milliseconds it took, over the last minute';
COMMENT ON COLUMN millrace.stat_outbox.messages IS 'messages that have left in all, each counted in the transaction that confirms its batch';
COMMENT ON COLUMN millrace.stat_outbox.since IS 'first batch or error since the server started: messages_since and batches_since count from then on';
COMMENT ON COLUMN millrace.stat_outbox.errors IS 'errors met in all';
GRANT SELECT ON millrace.stat_outbox TO millrace_admin, millrace_monitor;
