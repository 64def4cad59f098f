-- Pipeline "answers": questions in; answers of a language model, scored, asked again, and shown once they are good enough.
--
-- Run by millrace.create_pipeline() as the caller, with search_path pg_catalog, pg_temp.
-- @schema@ is the pipeline's schema, quoted; @schema_literal@ the same as a literal; @options@ the caller's options as a
-- jsonb literal; @extschema@ the schema of the extension's functions.  What is created here are ordinary objects that belong
-- to the caller.  Everything below the line "-- upgrade" can be run again: millrace.upgrade_pipeline() does.
--
-- A row of questions is a question; its BEFORE INSERT trigger looks for an answer (answers_lookup.sql) and else submits a task.
-- What comes of the task, scores and second attempts: answers_work.sql.  A transition is an UPDATE of questions.status; triggers
-- note it in processing_metrics and publish it.  Who may be seen is decided by responses.validated, which nobody can write:
-- it is generated from a score that a trigger computes, whoever writes the row.

CREATE SCHEMA @schema@;
COMMENT ON SCHEMA @schema@ IS 'Millrace pipeline of kind answers';

CREATE TABLE @schema@.settings (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	options jsonb NOT NULL,
	epoch bigint NOT NULL DEFAULT 0,
	provider jsonb CHECK (jsonb_typeof(provider) IN ('string', 'array', 'object')),
	model text,
	system text NOT NULL DEFAULT 'Answer the question correctly and completely, in plain sentences. Do not refuse and do not ask back.',
	prompt_version text NOT NULL DEFAULT '1',
	generation jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(generation) = 'object'),
	encoder text,
	judge text NOT NULL DEFAULT 'calibrated',
	gate real NOT NULL DEFAULT 0.75 CHECK (gate >= 0 AND gate < 1),
	regenerations int NOT NULL DEFAULT 3 CHECK (regenerations BETWEEN 0 AND 10),
	"references" text[] NOT NULL DEFAULT '{given,stored}' CHECK ("references" <@ '{given,stored}'),
	cache boolean NOT NULL DEFAULT true,
	stored_similarity real NOT NULL DEFAULT 0.92 CHECK (stored_similarity BETWEEN 0 AND 1),
	reference_similarity real NOT NULL DEFAULT 0.8 CHECK (reference_similarity BETWEEN 0 AND 1),
	tenants text NOT NULL DEFAULT 'argument' CHECK (tenants IN ('argument', 'role')),
	shared_tenant text,
	language text NOT NULL DEFAULT 'english',
	server text,
	topics text NOT NULL DEFAULT '',
	priority int NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
	timeout_ms int CHECK (timeout_ms > 0),
	deadline interval CHECK (deadline > interval '0')
);
COMMENT ON TABLE @schema@.settings IS 'what create_pipeline() was told, a column an option: UPDATE it';
COMMENT ON COLUMN @schema@.settings.options IS 'the options as they were given';
COMMENT ON COLUMN @schema@.settings.epoch IS 'raised when model, prompt, encoder, judge or gate change: older answers are not given out again';
COMMENT ON COLUMN @schema@.settings.provider IS 'foreign server that answers: a name, an array of names (a chain), or an object of weights';
COMMENT ON COLUMN @schema@.settings.model IS 'model that is asked for; NULL: the server''s';
COMMENT ON COLUMN @schema@.settings.system IS 'what the model is told before the question';
COMMENT ON COLUMN @schema@.settings.prompt_version IS 'part of the key of cached answers';
COMMENT ON COLUMN @schema@.settings.generation IS 'temperature, max_tokens, stop, seed';
COMMENT ON COLUMN @schema@.settings.encoder IS 'encoder of questions and scores; NULL: millrace.text_encoder, empty: none, then only equal questions are found';
COMMENT ON COLUMN @schema@.settings.judge IS 'calibrated: millrace.calibrated_score(); rouge_l, token_f1, token_recall; or a function(answer text, reference text) that returns 0 to 1';
COMMENT ON COLUMN @schema@.settings.gate IS 'an answer is validated whose score is greater';
COMMENT ON COLUMN @schema@.settings.regenerations IS 'how often a question is asked again whose answer was not';
COMMENT ON COLUMN @schema@.settings."references" IS 'what answers are scored against: the reference given with the question, the best stored answer; in this order';
COMMENT ON COLUMN @schema@.settings.cache IS 'whether validated answers are kept in the semantic cache of the pipeline''s name';
COMMENT ON COLUMN @schema@.settings.stored_similarity IS 'cosine from which on a stored question is taken for the same as the one asked';
COMMENT ON COLUMN @schema@.settings.reference_similarity IS 'cosine from which on its answer is good enough to score others against';
COMMENT ON COLUMN @schema@.settings.tenants IS 'argument: ask() is told the tenant; role: it is the role that logged in';
COMMENT ON COLUMN @schema@.settings.shared_tenant IS 'tenant whose history serves all others, too; NULL: none does';
COMMENT ON COLUMN @schema@.settings.language IS 'text search configuration by which feedback finds words that matter';
COMMENT ON COLUMN @schema@.settings.server IS 'Kafka server that transitions are published to; NULL: none';
COMMENT ON COLUMN @schema@.settings.topics IS 'prefix of the topics'' names';
COMMENT ON COLUMN @schema@.settings.priority IS 'priority of the tasks';
COMMENT ON COLUMN @schema@.settings.timeout_ms IS 'longest attempt; NULL: as the provider says';
COMMENT ON COLUMN @schema@.settings.deadline IS 'how long a question may wait for its answer; NULL: for ever';
INSERT INTO @schema@.settings (options) VALUES (@options@::jsonb);

CREATE TABLE @schema@.history (
	history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	tenant text NOT NULL DEFAULT '',
	question text NOT NULL CHECK (question ~ '\S' AND length(question) <= 20000),
	question_key uuid NOT NULL GENERATED ALWAYS AS (millrace.question_key(question)) STORED,
	answer text NOT NULL,
	answer_key text NOT NULL GENERATED ALWAYS AS (md5(answer)) STORED,
	reference text,
	score real CHECK (score BETWEEN 0 AND 1),
	embedding real[],
	imported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	UNIQUE (tenant, question_key, answer_key)
);
ALTER TABLE @schema@.history ALTER COLUMN embedding SET STORAGE EXTERNAL;
COMMENT ON TABLE @schema@.history IS 'stored answers: given out, scored against, and what provider local answers with; see import_history()';
COMMENT ON COLUMN @schema@.history.reference IS 'what the answer should have said; NULL: the answer itself is right';
COMMENT ON COLUMN @schema@.history.score IS 'how good the answer is by whoever imported it; NULL: good';
COMMENT ON COLUMN @schema@.history.embedding IS 'of the question; filled by a trigger';

CREATE TABLE @schema@.responses (
	response_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	question_id uuid NOT NULL,
	tenant text NOT NULL,
	question text NOT NULL,
	question_key uuid NOT NULL GENERATED ALWAYS AS (millrace.question_key(question)) STORED,
	round smallint NOT NULL DEFAULT 0,
	regeneration smallint NOT NULL DEFAULT 0,
	origin text NOT NULL DEFAULT 'generated' CHECK (origin IN ('generated', 'history')),
	answer text NOT NULL,
	reference text,
	reference_source text CHECK (reference_source IN ('given', 'stored')),
	history_id bigint,
	judge text,
	score real CHECK (score BETWEEN 0 AND 1),
	gate real CHECK (gate >= 0 AND gate < 1),
	validated boolean NOT NULL GENERATED ALWAYS AS (COALESCE(score > gate, false)) STORED,
	feedback text,
	epoch bigint,
	task_id uuid,
	provider text,
	model text,
	tokens_in int,
	tokens_out int,
	cost numeric,
	latency_ms real,
	finish text,
	created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	scored_at timestamptz,
	UNIQUE (question_id, round, regeneration)
);
CREATE INDEX responses_validated ON @schema@.responses (question_key, tenant) WHERE validated;
COMMENT ON TABLE @schema@.responses IS 'every answer that came, good or not; score, gate and reference are what a trigger found, whatever is written';
COMMENT ON COLUMN @schema@.responses.round IS 'of the question: retry_failed() begins another';
COMMENT ON COLUMN @schema@.responses.regeneration IS '0: first attempt; -1: taken from the history';
COMMENT ON COLUMN @schema@.responses.reference IS 'what it was scored against; NULL: nothing was known';
COMMENT ON COLUMN @schema@.responses.history_id IS 'row of history that reference, or the answer itself, came from';
COMMENT ON COLUMN @schema@.responses.validated IS 'whether its score exceeds the gate: cannot be written';
COMMENT ON COLUMN @schema@.responses.feedback IS 'what the model was told to do better';
COMMENT ON COLUMN @schema@.responses.epoch IS 'of the settings it was made under';
COMMENT ON COLUMN @schema@.responses.scored_at IS 'set it, and the row is scored; NULL: not scored yet';

CREATE TABLE @schema@.questions (
	question_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	tenant text NOT NULL DEFAULT '',
	question text NOT NULL CHECK (question ~ '\S' AND length(question) <= 20000),
	reference text CHECK (reference ~ '\S'),
	options jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(options) = 'object'),
	status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'success', 'error-overload', 'error-quota', 'validated', 'low-quality')),
	answered_by text CHECK (answered_by IN ('exact', 'semantic', 'stored', 'history', 'generated', 'shared')),
	response_id bigint REFERENCES @schema@.responses,
	last_response_id bigint,
	similarity real,
	regeneration smallint NOT NULL DEFAULT 0,
	round smallint NOT NULL DEFAULT 0,
	transition int NOT NULL DEFAULT 1,
	task_id uuid,
	leader uuid,
	question_key uuid,
	epoch bigint,
	reason text,
	lookup_ms real,
	asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	queued_at timestamptz,
	state_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz,
	source_topic text,
	source_partition int,
	source_offset bigint,
	source_time timestamptz,
	CHECK ((status = 'validated') = (response_id IS NOT NULL))
);
CREATE INDEX questions_task ON @schema@.questions (task_id) WHERE task_id IS NOT NULL;
CREATE INDEX questions_response ON @schema@.questions (response_id) WHERE response_id IS NOT NULL;
ALTER TABLE @schema@.responses ADD FOREIGN KEY (question_id) REFERENCES @schema@.questions DEFERRABLE INITIALLY DEFERRED;
COMMENT ON TABLE @schema@.questions IS 'entry of the pipeline: an INSERT (question, tenant, reference, options) asks, as ask() does';
COMMENT ON COLUMN @schema@.questions.tenant IS 'whose question: tenants share nothing';
COMMENT ON COLUMN @schema@.questions.reference IS 'what a right answer says, where that is known';
COMMENT ON COLUMN @schema@.questions.options IS 'refresh: true asks although there is an answer; provider, priority, deadline instead of the settings''';
COMMENT ON COLUMN @schema@.questions.status IS 'one of six; who failed for good is in failed_questions';
COMMENT ON COLUMN @schema@.questions.answered_by IS 'exact or semantic: the cache; stored: an earlier answer; history; generated: the provider; shared: the provider, asked by the question that this one waits for';
COMMENT ON COLUMN @schema@.questions.response_id IS 'the validated answer';
COMMENT ON COLUMN @schema@.questions.last_response_id IS 'the last answer, validated or not';
COMMENT ON COLUMN @schema@.questions.similarity IS 'of the question that was found to the one asked';
COMMENT ON COLUMN @schema@.questions.regeneration IS 'how often it was asked again since its answer was not good enough';
COMMENT ON COLUMN @schema@.questions.round IS 'how often retry_failed() or resubmit() began anew';
COMMENT ON COLUMN @schema@.questions.transition IS 'number of states it has been in';
COMMENT ON COLUMN @schema@.questions.task_id IS 'task at work on it';
COMMENT ON COLUMN @schema@.questions.reason IS 'why it is in its state';
COMMENT ON COLUMN @schema@.questions.lookup_ms IS 'milliseconds that looking for an answer took';
COMMENT ON COLUMN @schema@.questions.queued_at IS 'when the provider was asked last';
COMMENT ON COLUMN @schema@.questions.state_at IS 'when it came into its state';

CREATE TABLE @schema@.failed_questions (
	question_id uuid PRIMARY KEY,
	tenant text NOT NULL,
	question text NOT NULL,
	reference text,
	options jsonb NOT NULL,
	round smallint NOT NULL,
	state text NOT NULL,
	class text,
	sqlstate text,
	error text,
	attempts int,
	history jsonb NOT NULL,
	asked_at timestamptz NOT NULL,
	failed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE @schema@.failed_questions IS 'questions that no answer came for, however often it was tried; retry_failed() asks them again';
COMMENT ON COLUMN @schema@.failed_questions.state IS 'what became of the task: failed, cancelled, expired';
COMMENT ON COLUMN @schema@.failed_questions.class IS 'class of the last error, see millrace.retry_policies';
COMMENT ON COLUMN @schema@.failed_questions.history IS 'rows of processing_metrics: each state and each error, with its time';

CREATE TABLE @schema@.score_history (
	score_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	question_id uuid NOT NULL,
	response_id bigint NOT NULL,
	tenant text NOT NULL,
	round smallint NOT NULL,
	regeneration smallint NOT NULL,
	score real,
	gate real,
	judge text,
	reference_source text,
	validated boolean NOT NULL,
	feedback text,
	scored_at timestamptz NOT NULL
);
CREATE INDEX score_history_question ON @schema@.score_history (question_id);
COMMENT ON TABLE @schema@.score_history IS 'every score that was ever given to an answer, a row each';

CREATE TABLE @schema@.processing_metrics (
	metric_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	question_id uuid NOT NULL,
	stage text NOT NULL,
	state text,
	ms double precision,
	regeneration smallint NOT NULL DEFAULT 0,
	answered_by text,
	class text,
	detail text,
	measured_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX processing_metrics_question ON @schema@.processing_metrics (question_id);
COMMENT ON TABLE @schema@.processing_metrics IS 'what each stage of each question took; append-only';
COMMENT ON COLUMN @schema@.processing_metrics.stage IS 'received (by a topic, and answered at once), lookup, generate (waiting included), call (the provider alone), retry (an attempt that failed), score, shared (waiting for the same question, asked before), total (of those that were queued)';
COMMENT ON COLUMN @schema@.processing_metrics.state IS 'state that the question came into; NULL: no transition';
COMMENT ON COLUMN @schema@.processing_metrics.class IS 'class of error of a failed attempt';

CREATE TABLE @schema@.judged_answers (
	judged_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	question text,
	answer text NOT NULL,
	reference text NOT NULL,
	correct boolean NOT NULL,
	judged_by text NOT NULL DEFAULT session_user,
	judged_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE @schema@.judged_answers IS 'answers that people have judged: what gate_report() measures the gate by';

CREATE TABLE @schema@.comparisons (
	run_id bigint NOT NULL,
	metric text NOT NULL,
	unit text,
	synchronous double precision,
	asynchronous double precision,
	compared_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	PRIMARY KEY (run_id, metric)
);
COMMENT ON TABLE @schema@.comparisons IS 'runs of compare_sync_async(), a row a metric';

-- upgrade

-- What tables of an older template lack.
DO $do$ BEGIN
	IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = '@schema@.questions'::regclass AND a.attname = 'leader' AND NOT a.attisdropped) THEN
		ALTER TABLE @schema@.questions ADD leader uuid, ADD question_key uuid, ADD epoch bigint, DROP CONSTRAINT IF EXISTS questions_answered_by_check,
			ADD CONSTRAINT questions_answered_by_check CHECK (answered_by IN ('exact', 'semantic', 'stored', 'history', 'generated', 'shared'));
	END IF;
END $do$;
CREATE INDEX IF NOT EXISTS questions_open ON @schema@.questions (tenant, question_key) WHERE finished_at IS NULL AND task_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS questions_leader ON @schema@.questions (leader) WHERE leader IS NOT NULL AND finished_at IS NULL;
COMMENT ON COLUMN @schema@.questions.leader IS 'the same question, asked before, whose answer it shares; one of those that share has the task: that one itself, or who took its place';
COMMENT ON COLUMN @schema@.questions.question_key IS 'millrace.question_key(): what is the same question; not generated, as that needs a right that who may only INSERT has not';
COMMENT ON COLUMN @schema@.questions.epoch IS 'of the settings when it was asked';

CREATE OR REPLACE FUNCTION @schema@.define(given jsonb) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	known CONSTANT text[] := '{provider,model,system,prompt_version,generation,encoder,judge,gate,regenerations,references,cache,stored_similarity,reference_similarity,tenants,shared_tenant,language,server,topics,create_topics,source,priority,timeout_ms,deadline,http_prefix}';
	unknown text := (SELECT string_agg(k, ', ') FROM jsonb_object_keys(given) k WHERE k <> ALL (known));
	s @schema@.settings;
BEGIN
	IF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown option for a pipeline of kind "answers": %s', unknown),
			HINT = 'Options are ' || array_to_string(known, ', ') || '.';
	END IF;
	-- "cache", "create_topics" and "source" may be objects: options of the cache, of the topics, of the source that reads questions.
	UPDATE @schema@.settings t
	SET (provider, model, system, prompt_version, generation, encoder, judge, gate, regenerations, "references", cache, stored_similarity,
		 reference_similarity, tenants, shared_tenant, language, server, topics, priority, timeout_ms, deadline) =
		(SELECT n.provider, n.model, n.system, n.prompt_version, n.generation, n.encoder, n.judge, n.gate, n.regenerations, n."references", n.cache, n.stored_similarity,
		 n.reference_similarity, n.tenants, n.shared_tenant, n.language, n.server, n.topics, n.priority, n.timeout_ms, n.deadline
		 FROM jsonb_populate_record(t, given || CASE WHEN jsonb_typeof(given -> 'cache') = 'object' THEN '{"cache": true}'::jsonb ELSE '{}' END) n);
	SELECT * INTO s FROM @schema@.settings;
	PERFORM @schema@.judge('one answer', 'one answer');
	PERFORM to_tsvector(s.language::regconfig, 'one answer');
	-- The index has the dimensions of the first row.
	EXECUTE 'CREATE INDEX IF NOT EXISTS history_embedding ON @schema@.history USING millrace_flat (embedding)';
	IF s.cache THEN
		PERFORM millrace.create_cache(@schema_literal@,
			CASE s.encoder WHEN '' THEN '{"encoder": null}'::jsonb ELSE jsonb_strip_nulls(jsonb_build_object('encoder', s.encoder)) END || '{"sample": 0}' || CASE WHEN jsonb_typeof(given -> 'cache') = 'object' THEN given -> 'cache' ELSE '{}' END);
	END IF;
	IF s.server IS NOT NULL THEN
		IF COALESCE(given -> 'create_topics', 'true') <> 'false' THEN
			PERFORM millrace.create_topic(s.server, t.topic, t.partitions, CASE WHEN jsonb_typeof(given -> 'create_topics') = 'object' THEN given -> 'create_topics' ELSE '{}' END)
			FROM unnest(@schema@.states()) status, @schema@.topic_of(status) t;
		END IF;
		PERFORM millrace.create_source(@schema_literal@ || '_questions', s.server, t.topic, '@schema@.questions'::regclass,
				jsonb_build_object('message_type', 'jsonb', 'transform',
					'SELECT m.value ->> ''question'' AS question, COALESCE(m.value ->> ''tenant'', '''') AS tenant, m.value ->> ''reference'' AS reference, '
					'COALESCE(m.value -> ''options'', ''{}'') AS options, m.source_topic, m.source_partition, m.source_offset, m.source_time '
					'FROM message m WHERE NOT COALESCE(m.value ? ''origin'', false)')
				|| COALESCE(given -> 'source', '{}'))
		FROM @schema@.topic_of('pending') t;
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.define(jsonb) IS 'carries out the options of create_pipeline()';
REVOKE EXECUTE ON FUNCTION @schema@.define(jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.states() RETURNS text[]
	LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT '{pending,success,error-overload,error-quota,validated,low-quality}'::text[] $$;
COMMENT ON FUNCTION @schema@.states() IS 'the six states of a question, in the order of its way';
REVOKE EXECUTE ON FUNCTION @schema@.states() FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.topic_of(status text, OUT topic text, OUT partitions int)
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT s.topics || v.topic, v.partitions
		  FROM @schema@.settings s, (VALUES ('pending', 'questions-pending', 3), ('success', 'llm-responses-success', 3),
			('error-overload', 'llm-responses-error-overload', 2), ('error-quota', 'llm-responses-error-quota', 2),
			('validated', 'validated-responses', 2), ('low-quality', 'low-quality-responses', 1)) v(status, topic, partitions)
		  WHERE v.status = topic_of.status $$;
COMMENT ON FUNCTION @schema@.topic_of(text) IS 'topic that questions coming into a state are published to, and how many partitions it should have';
REVOKE EXECUTE ON FUNCTION @schema@.topic_of(text) FROM PUBLIC;

-- What was answered under other settings is not given out again: the epoch is part of every key.
CREATE OR REPLACE FUNCTION @schema@.settings_changed() RETURNS trigger
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		IF TG_OP = 'DELETE' THEN
			RAISE object_in_use USING MESSAGE = 'the settings of a pipeline cannot be deleted', HINT = 'UPDATE them, or millrace.drop_pipeline().';
		END IF;
		IF (NEW.provider, NEW.model, NEW.system, NEW.prompt_version, NEW.generation, NEW.encoder, NEW.judge, NEW.gate) IS DISTINCT FROM
		   (OLD.provider, OLD.model, OLD.system, OLD.prompt_version, OLD.generation, OLD.encoder, OLD.judge, OLD.gate) THEN
			NEW.epoch := OLD.epoch + 1;
			IF OLD.epoch > 0 AND OLD.cache THEN
				PERFORM millrace.cache_clear(@schema_literal@);
			END IF;
			IF OLD.epoch > 0 AND NEW.encoder IS DISTINCT FROM OLD.encoder THEN
				RAISE feature_not_supported USING MESSAGE = 'the encoder of a pipeline cannot be changed',
					DETAIL = 'The embeddings of its history and of its cache are those of the old one.',
					HINT = 'Create another pipeline and import the history there: other.import_history(''SELECT question, answer, reference, score FROM '
						|| @schema_literal@ || '.history'').';
			END IF;
		ELSE
			NEW.epoch := OLD.epoch + (OLD.epoch = 0)::int;
		END IF;
		RETURN NEW;
	END $$;
COMMENT ON FUNCTION @schema@.settings_changed() IS 'trigger: a change of model, prompt, judge or gate begins a new epoch and empties the cache';
REVOKE EXECUTE ON FUNCTION @schema@.settings_changed() FROM PUBLIC;
CREATE OR REPLACE TRIGGER settings_changed BEFORE UPDATE OR DELETE ON @schema@.settings FOR EACH ROW EXECUTE FUNCTION @schema@.settings_changed();

CREATE OR REPLACE FUNCTION @schema@.before_drop() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		-- else they take the place of what is cancelled
		UPDATE @schema@.questions q SET leader = NULL WHERE q.finished_at IS NULL AND q.task_id IS NULL;
		PERFORM millrace.cancel_task(q.task_id) FROM @schema@.questions q WHERE q.task_id IS NOT NULL;
		PERFORM millrace.forget_topic(s.server, t.topic)
		FROM @schema@.settings s JOIN pg_foreign_server f ON f.srvname = s.server AND has_server_privilege(f.oid, 'USAGE') JOIN millrace.outboxes o ON o.server = s.server,
			 unnest(@schema@.states()) status, @schema@.topic_of(status) t;
		IF (SELECT s.cache FROM @schema@.settings s) THEN
			PERFORM millrace.drop_cache(@schema_literal@);
		END IF;
	END $$;
COMMENT ON FUNCTION @schema@.before_drop() IS 'called by millrace.drop_pipeline(): takes tasks, wishes for topics and the cache away';
REVOKE EXECUTE ON FUNCTION @schema@.before_drop() FROM PUBLIC;
