-- task: the semantic cache

CREATE FUNCTION millrace.create_cache(name text, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_create_cache';
COMMENT ON FUNCTION millrace.create_cache(text, jsonb) IS
	'a cache of answers, of the current user; options: threshold (0.8), ttl_s (3600; null: for ever), capacity (1000000 entries; null: any number), encoder (null: exact hits only; else millrace.text_encoder), sample (0.01), guard (true), roles ([]: who may use it beside members of its owner)';

CREATE FUNCTION millrace.alter_cache(name text, options jsonb) RETURNS void
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_alter_cache';
COMMENT ON FUNCTION millrace.alter_cache(text, jsonb) IS
	'changes those options of a cache that are given; another encoder empties it';

CREATE FUNCTION millrace.drop_cache(name text) RETURNS void
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_drop_cache';
COMMENT ON FUNCTION millrace.drop_cache(text) IS 'drops a cache with all that is in it';

CREATE FUNCTION millrace.cache_get(cache text, question text, tenant text DEFAULT '', model text DEFAULT '', prompt_version text DEFAULT '',
		OUT hit text, OUT id bigint, OUT question text, OUT answer jsonb, OUT similarity double precision, OUT sampled boolean)
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cache_get';
COMMENT ON FUNCTION millrace.cache_get(text, text, text, text, text) IS
	'the cached answer to a question: "exact", or "semantic" to one that means the same; hit is null where there is none; sampled: ask all the same, and tell cache_judge() whether the answer held';

CREATE FUNCTION millrace.cache_put(cache text, question text, answer jsonb, tenant text DEFAULT '', model text DEFAULT '', prompt_version text DEFAULT '',
		source text DEFAULT '', cost double precision DEFAULT NULL, latency_ms double precision DEFAULT NULL, generation bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cache_put';
COMMENT ON FUNCTION millrace.cache_put(text, text, jsonb, text, text, text, text, double precision, double precision, bigint) IS
	'caches an answer for its tenant, model and prompt_version; cost and latency_ms: what a hit saves, by default those of the answer, if it has such keys; generation: cache_generation() of the time when it was asked for, so that nothing is cached (null is returned) that was emptied meanwhile; returns the entry''s id';

CREATE FUNCTION millrace.cache_clear(cache text, tenant text DEFAULT NULL, model text DEFAULT NULL, prompt_version text DEFAULT NULL,
		source text DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cache_clear';
COMMENT ON FUNCTION millrace.cache_clear(text, text, text, text, text) IS
	'empties a cache, or what has all the values that are given; one row is written, however much that is, and undone with the transaction; returns how often these same values were emptied';

CREATE FUNCTION millrace.cache_generation(cache text, tenant text DEFAULT '', model text DEFAULT '', prompt_version text DEFAULT '',
		source text DEFAULT '') RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cache_generation';
COMMENT ON FUNCTION millrace.cache_generation(text, text, text, text, text) IS
	'a number that changes whenever entries of these values are emptied, for the last argument of cache_put()';

CREATE FUNCTION millrace.cache_sweep(cache text, most bigint DEFAULT NULL) RETURNS bigint
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cache_sweep';
COMMENT ON FUNCTION millrace.cache_sweep(text, bigint) IS
	'deletes entries that have expired or were emptied, at most so many, and returns how many; only space is won: they are never returned';

CREATE FUNCTION millrace.clear_cache() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_clear_cache';
COMMENT ON FUNCTION millrace.clear_cache() IS
	'trigger, FOR EACH STATEMENT: empties a cache when the table changes that its answers were made from; arguments: the cache, and the source or nothing; the table''s owner must have the right to use the cache';

CREATE FUNCTION millrace.cache_judge(cache text, id bigint, same boolean, score double precision DEFAULT NULL, question text DEFAULT NULL) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cache_judge';
COMMENT ON FUNCTION millrace.cache_judge(text, bigint, boolean, double precision, text) IS
	'of a sampled hit: whether the entry''s answer was right for the question; the score and the question are only kept';

CREATE FUNCTION millrace.cache_statistics(OUT cache int, OUT exact bigint, OUT semantic bigint, OUT missed bigint, OUT guarded bigint, OUT sampled bigint,
		OUT put bigint, OUT evicted bigint, OUT cleared bigint, OUT cost_saved double precision, OUT ms_saved double precision,
		OUT lookup_ms double precision, OUT since timestamptz) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_cache_statistics';
COMMENT ON FUNCTION millrace.cache_statistics() IS 'counters of this database''s caches since the server''s start; see the view millrace.stat_caches';

REVOKE EXECUTE ON FUNCTION millrace.create_cache(text, jsonb), millrace.alter_cache(text, jsonb), millrace.drop_cache(text),
	millrace.cache_get(text, text, text, text, text), millrace.cache_clear(text, text, text, text, text),
	millrace.cache_put(text, text, jsonb, text, text, text, text, double precision, double precision, bigint),
	millrace.cache_generation(text, text, text, text, text), millrace.cache_sweep(text, bigint), millrace.clear_cache(),
	millrace.cache_judge(text, bigint, boolean, double precision, text), millrace.cache_statistics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_cache(text, jsonb), millrace.alter_cache(text, jsonb), millrace.drop_cache(text),
	millrace.cache_get(text, text, text, text, text), millrace.cache_clear(text, text, text, text, text),
	millrace.cache_put(text, text, jsonb, text, text, text, text, double precision, double precision, bigint),
	millrace.cache_generation(text, text, text, text, text), millrace.cache_sweep(text, bigint), millrace.clear_cache(),
	millrace.cache_judge(text, bigint, boolean, double precision, text) TO millrace_user, millrace_admin;
GRANT EXECUTE ON FUNCTION millrace.cache_statistics() TO millrace_monitor, millrace_admin;

-- here and not in tables_cache.sql, because the access method is made by functions.  An embedding is filled up to the next
-- of these lengths, which are those of common encoders.
CREATE INDEX cache_entries_384_idx ON millrace.cache_entries USING millrace_flat (embedding) WITH (dimensions = 384) WHERE dimensions = 384;
CREATE INDEX cache_entries_768_idx ON millrace.cache_entries USING millrace_flat (embedding) WITH (dimensions = 768) WHERE dimensions = 768;
CREATE INDEX cache_entries_1024_idx ON millrace.cache_entries USING millrace_flat (embedding) WITH (dimensions = 1024) WHERE dimensions = 1024;
CREATE INDEX cache_entries_4096_idx ON millrace.cache_entries USING millrace_flat (embedding) WITH (dimensions = 4096) WHERE dimensions = 4096;
