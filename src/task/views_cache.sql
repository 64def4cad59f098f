-- task: what caches are good for

CREATE VIEW millrace.stat_caches AS
	SELECT c.name, c.owner, c.encoder, e.entries, e.oldest,
		   COALESCE(s.exact, 0) AS exact_hits, COALESCE(s.semantic, 0) AS semantic_hits, COALESCE(s.missed, 0) AS misses,
		   pg_catalog.round((s.exact + s.semantic) / NULLIF(s.exact + s.semantic + s.missed, 0)::numeric, 4) AS hit_rate,
		   COALESCE(s.guarded, 0) AS guarded, COALESCE(s.put, 0) AS put, COALESCE(s.evicted, 0) AS evicted, COALESCE(s.cleared, 0) AS cleared,
		   COALESCE(s.sampled, 0) AS sampled, j.judged, j.false_hits,
		   pg_catalog.round(j.false_hits / NULLIF(j.judged, 0)::numeric, 4) AS false_hit_rate,
		   -- Wilson's interval, 95 %: what the rate may be yet, few being judged
		   CASE WHEN j.judged > 0 THEN pg_catalog.round(((j.false_hits + 1.9208 + 1.96 * pg_catalog.sqrt(j.false_hits::numeric * (j.judged - j.false_hits) / j.judged + 0.9604))
				/ (j.judged + 3.8416))::numeric, 4) END AS false_hit_rate_at_most,
		   COALESCE(s.cost_saved, 0) AS cost_saved, COALESCE(s.ms_saved, 0) / 1000 AS seconds_saved,
		   pg_catalog.round((s.lookup_ms / NULLIF(s.exact + s.semantic + s.missed, 0))::numeric, 3) AS mean_lookup_ms, s.since
	FROM millrace.caches c
	LEFT JOIN millrace.cache_statistics() s ON s.cache = c.id
	LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS entries, pg_catalog.min(n.created_at) AS oldest FROM millrace.cache_entries n WHERE n.cache = c.id) e ON true
	LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS judged, pg_catalog.count(*) FILTER (WHERE NOT d.same) AS false_hits
						 FROM millrace.cache_judgements d WHERE d.cache = c.id) j ON true;
COMMENT ON VIEW millrace.stat_caches IS 'one row a cache: what is in it, hits and misses since the server''s start, what the hits saved, and how many of them were wrong, by those that were judged';
COMMENT ON COLUMN millrace.stat_caches.entries IS 'answers in it, those included that have expired or were emptied and not swept yet';
COMMENT ON COLUMN millrace.stat_caches.guarded IS 'lookups in which an entry was near enough, but its question differs in a number, a negation, a name …: meaning_conflict()';
COMMENT ON COLUMN millrace.stat_caches.false_hit_rate IS 'of the sampled hits that cache_judge() was told of, the wrong ones';
COMMENT ON COLUMN millrace.stat_caches.false_hit_rate_at_most IS 'upper end of its 95 % confidence interval';
COMMENT ON COLUMN millrace.stat_caches.cost_saved IS 'what the answers that were returned had cost';
COMMENT ON COLUMN millrace.stat_caches.seconds_saved IS 'how long they had taken';
GRANT SELECT ON millrace.stat_caches TO millrace_admin, millrace_monitor;
