-- task: the semantic cache (docs/cache.md)
--
-- An entry belongs to a scope, which is a hash of cache, tenant, model and prompt_version, and is valid while the generations that
-- it was put under are the present ones: emptying counts a generation up and touches no entry.  No row changes when a
-- question is looked up, and no unique index makes two sessions wait that put the same question: the newest entry counts.

CREATE SEQUENCE millrace.cache_id_seq AS int;
COMMENT ON SEQUENCE millrace.cache_id_seq IS 'numbers of caches; none is used again';
CREATE TABLE millrace.caches (
	id         int PRIMARY KEY DEFAULT pg_catalog.nextval('millrace.cache_id_seq'),
	name       text NOT NULL UNIQUE CHECK (pg_catalog.octet_length(name) BETWEEN 1 AND 128),
	owner      text NOT NULL,
	encoder    text,
	threshold  double precision NOT NULL DEFAULT 0.8,
	ttl_s      double precision DEFAULT 3600,
	capacity   bigint DEFAULT 1000000,
	sample     double precision NOT NULL DEFAULT 0.01,
	guard      boolean NOT NULL DEFAULT true,
	roles      text[] NOT NULL DEFAULT '{}',
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE millrace.caches IS 'caches of answers, made by create_cache()';
COMMENT ON COLUMN millrace.caches.id IS 'number of the cache';
COMMENT ON COLUMN millrace.caches.name IS 'name of the cache';
COMMENT ON COLUMN millrace.caches.owner IS 'role that made it';
COMMENT ON COLUMN millrace.caches.encoder IS 'model that embeds questions, as name:version; NULL: exact hits only';
COMMENT ON COLUMN millrace.caches.threshold IS 'least cosine similarity of a semantic hit';
COMMENT ON COLUMN millrace.caches.ttl_s IS 'seconds after which an entry is returned no more, however often it was; NULL: never';
COMMENT ON COLUMN millrace.caches.capacity IS 'entries, beyond which the oldest make room; NULL: any number';
COMMENT ON COLUMN millrace.caches.sample IS 'part of the semantic hits that are marked "sampled"';
COMMENT ON COLUMN millrace.caches.guard IS 'whether meaning_conflict() must be NULL for a semantic hit';
COMMENT ON COLUMN millrace.caches.roles IS 'roles that may use it beside its owner''s members';
COMMENT ON COLUMN millrace.caches.created_at IS 'when it was made';

CREATE SEQUENCE millrace.cache_entry_id_seq;
COMMENT ON SEQUENCE millrace.cache_entry_id_seq IS 'ids of cached answers, in the order of their coming';
CREATE TABLE millrace.cache_entries (
	id         bigint NOT NULL DEFAULT pg_catalog.nextval('millrace.cache_entry_id_seq'),
	cache      int NOT NULL,
	scope      uuid NOT NULL,
	generation bigint NOT NULL,
	source_generation bigint NOT NULL DEFAULT 0,
	key        uuid NOT NULL,
	created_at timestamptz NOT NULL,
	cost       double precision NOT NULL DEFAULT 0,
	latency_ms double precision NOT NULL DEFAULT 0,
	dimensions smallint,
	embedding  real[],
	question   text NOT NULL,
	answer     jsonb NOT NULL,
	tenant     text NOT NULL DEFAULT '',
	model      text NOT NULL DEFAULT '',
	prompt_version text NOT NULL DEFAULT '',
	source     text NOT NULL DEFAULT ''
);
-- beside the questions, not behind a pointer: a search reads vectors of many rows, the answer of one
ALTER TABLE millrace.cache_entries ALTER COLUMN embedding SET STORAGE MAIN;
COMMENT ON TABLE millrace.cache_entries IS 'questions and their answers';
COMMENT ON COLUMN millrace.cache_entries.id IS 'number of the entry, which cache_get() returns';
COMMENT ON COLUMN millrace.cache_entries.cache IS 'its cache';
COMMENT ON COLUMN millrace.cache_entries.scope IS 'hash of cache, tenant, model and prompt_version';
COMMENT ON COLUMN millrace.cache_entries.generation IS 'generations of its scope when it was put, added up; another sum: it was emptied';
COMMENT ON COLUMN millrace.cache_entries.source_generation IS 'the same of its source';
COMMENT ON COLUMN millrace.cache_entries.key IS 'hash of the question, normalized: millrace.question_key()';
COMMENT ON COLUMN millrace.cache_entries.created_at IS 'when it was put, by task_now()';
COMMENT ON COLUMN millrace.cache_entries.cost IS 'what the answer cost: what a hit saves';
COMMENT ON COLUMN millrace.cache_entries.latency_ms IS 'how long it took';
COMMENT ON COLUMN millrace.cache_entries.dimensions IS 'length of embedding, by which its index is chosen; NULL: exact hits only';
COMMENT ON COLUMN millrace.cache_entries.embedding IS 'embedding of the question, filled up with zeros, with signs that scope and generation choose: vectors of one scope keep their angles, those of different scopes are far from each other';
COMMENT ON COLUMN millrace.cache_entries.question IS 'as it was put';
COMMENT ON COLUMN millrace.cache_entries.answer IS 'as it was put';
COMMENT ON COLUMN millrace.cache_entries.tenant IS 'who alone gets it';
COMMENT ON COLUMN millrace.cache_entries.model IS 'who answered';
COMMENT ON COLUMN millrace.cache_entries.prompt_version IS 'how it was asked';
COMMENT ON COLUMN millrace.cache_entries.source IS 'what the answer was made from';
CREATE INDEX cache_entries_scope_idx ON millrace.cache_entries (scope, key, id);
CREATE INDEX cache_entries_age_idx ON millrace.cache_entries (cache, id);

CREATE TABLE millrace.cache_generations (
	key        uuid PRIMARY KEY,
	cache      int NOT NULL,
	generation bigint NOT NULL DEFAULT 1,
	emptied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE millrace.cache_generations IS 'what was emptied, and how often: a row for each set of conditions that cache_clear() was called with';
COMMENT ON COLUMN millrace.cache_generations.key IS 'hash of cache and the conditions, any of tenant, model, prompt_version and source';
COMMENT ON COLUMN millrace.cache_generations.cache IS 'the cache';
COMMENT ON COLUMN millrace.cache_generations.generation IS 'how often';
COMMENT ON COLUMN millrace.cache_generations.emptied_at IS 'when last';

CREATE TABLE millrace.cache_judgements (
	cache     int NOT NULL,
	entry     bigint NOT NULL,
	same      boolean NOT NULL,
	score     double precision,
	question  text,
	judged_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	judged_by text NOT NULL DEFAULT CURRENT_USER
);
COMMENT ON TABLE millrace.cache_judgements IS 'sampled hits whose question was asked after all, and whether the cached answer held; see cache_judge()';
COMMENT ON COLUMN millrace.cache_judgements.cache IS 'the cache';
COMMENT ON COLUMN millrace.cache_judgements.entry IS 'the entry that was returned';
COMMENT ON COLUMN millrace.cache_judgements.same IS 'whether it was the right answer; false: a false hit';
COMMENT ON COLUMN millrace.cache_judgements.score IS 'on what that is based, if it is a number';
COMMENT ON COLUMN millrace.cache_judgements.question IS 'the question that was asked';
COMMENT ON COLUMN millrace.cache_judgements.judged_at IS 'when that was';
COMMENT ON COLUMN millrace.cache_judgements.judged_by IS 'who said so';
CREATE INDEX cache_judgements_cache_idx ON millrace.cache_judgements (cache, judged_at);

SELECT pg_catalog.pg_extension_config_dump('millrace.cache_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.caches', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.cache_entry_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.cache_entries', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.cache_generations', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.cache_judgements', '');
GRANT SELECT ON millrace.caches TO millrace_admin, millrace_monitor;
