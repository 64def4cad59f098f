-- quality: what people look at

CREATE VIEW millrace.stat_detection_cache AS
SELECT c.entries, c.bytes, c.size, c.hits, c.misses,
	c.hits / NULLIF(c.hits + c.misses, 0)::real AS hit_rate,
	c.evicted, c.since
FROM millrace.detection_cache_statistics() c;
COMMENT ON VIEW millrace.stat_detection_cache IS
	'the shared cache of detect() and detections_json(): images kept, bytes of size in use, calls answered from it (hits) and not (misses), entries that made room (evicted), since when';
GRANT SELECT ON millrace.stat_detection_cache TO millrace_user, millrace_monitor;
