-- registry: versions, their bytes, aliases with history, lineage
--
-- Names and aliases collate "C": they are keys, looked up by C code through the
-- primary keys, and must not depend on a locale that an upgrade of libc changes.
-- Rows are written by functions only; nobody is granted INSERT, UPDATE or DELETE.
-- The script inserts no row, so a dump (which contains all of them) restores as is.
-- No foreign keys between these tables: pg_restore -j loads them at the same time,
-- as pg_dump writes no order between tables of an extension.  Instead, functions
-- name existing versions only, and a trigger lets nobody delete a version.

CREATE FUNCTION millrace.models_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'millrace_models_changed';
COMMENT ON FUNCTION millrace.models_changed() IS
	'trigger: tells every session that model names may resolve differently';

CREATE FUNCTION millrace.models_guard() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'millrace_models_guard';
COMMENT ON FUNCTION millrace.models_guard() IS
	'trigger: refuses to change what makes a model version (bytes, specification, labels, origin) and to delete it';

CREATE TABLE millrace.models (
	name       text COLLATE "C" NOT NULL,
	version    integer NOT NULL,
	kind       text NOT NULL,
	sha256     bytea NOT NULL,
	size       bigint NOT NULL,
	spec       jsonb NOT NULL DEFAULT '{}',
	labels     text[],
	metrics    jsonb NOT NULL DEFAULT '{}',
	n_inputs   integer NOT NULL,
	n_outputs  integer NOT NULL,
	origin     text NOT NULL DEFAULT 'import',
	training   jsonb,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by text NOT NULL DEFAULT CURRENT_USER,
	retired_at timestamptz,
	CONSTRAINT models_pkey PRIMARY KEY (name, version),
	CONSTRAINT models_name_check CHECK (pg_catalog.octet_length(name) BETWEEN 1 AND 128
		AND pg_catalog.strpos(name, '@') OPERATOR(pg_catalog.=) 0
		AND pg_catalog.strpos(name, ':') OPERATOR(pg_catalog.=) 0),
	CONSTRAINT models_version_check CHECK (version OPERATOR(pg_catalog.>) 0),
	CONSTRAINT models_kind_check CHECK (kind IN ('onnx', 'random_forest', 'extra_trees', 'gradient_boosting',
		'logistic_regression', 'linear_svm', 'rbf_svm', 'knn', 'ridge', 'pca', 'kmeans', 'encoder')),
	CONSTRAINT models_sha256_check CHECK (pg_catalog.octet_length(sha256) OPERATOR(pg_catalog.=) 32),
	CONSTRAINT models_origin_check CHECK (origin IN ('import', 'train', 'quantize', 'shipped'))
);
COMMENT ON TABLE millrace.models IS 'model versions: immutable but for metrics and retired_at';
COMMENT ON COLUMN millrace.models.name IS 'name, shared by all versions; without @ and :';
COMMENT ON COLUMN millrace.models.version IS 'version, counted from 1 within the name, never used twice';
COMMENT ON COLUMN millrace.models.kind IS 'onnx, encoder (a language model that makes vectors of texts), or the algorithm that trained it';
COMMENT ON COLUMN millrace.models.sha256 IS 'SHA-256 of the bytes, which are in millrace.model_files until the version is dropped';
COMMENT ON COLUMN millrace.models.size IS 'size of the bytes';
COMMENT ON COLUMN millrace.models.spec IS 'how input is prepared (input), which tensor is the answer (output), in which arithmetic (precision), the network before a projection (backbone)';
COMMENT ON COLUMN millrace.models.labels IS 'class labels in the order of the outputs; null: not a classifier';
COMMENT ON COLUMN millrace.models.metrics IS 'measured quality, such as hold-out accuracy';
COMMENT ON COLUMN millrace.models.n_inputs IS 'numbers one input row has: 3 x height x width for images; of an encoder the tokens that a text may have';
COMMENT ON COLUMN millrace.models.n_outputs IS 'numbers one answer has: descriptors, or classes';
COMMENT ON COLUMN millrace.models.origin IS 'import, train, quantize, or shipped with Millrace';
COMMENT ON COLUMN millrace.models.training IS 'what it was trained from: query, rows, options, snapshot; null if not trained here';
COMMENT ON COLUMN millrace.models.created_at IS 'when the version was registered';
COMMENT ON COLUMN millrace.models.created_by IS 'role that registered it';
COMMENT ON COLUMN millrace.models.retired_at IS 'when it was dropped: the row stays, for what was predicted with it; null: alive';

CREATE TABLE millrace.model_files (
	sha256   bytea NOT NULL,
	path     text COLLATE "C" NOT NULL DEFAULT '',
	chunk_no integer NOT NULL,
	bytes    bytea NOT NULL,
	CONSTRAINT model_files_pkey PRIMARY KEY (sha256, path, chunk_no),
	CONSTRAINT model_files_chunk_no_check CHECK (chunk_no OPERATOR(pg_catalog.>=) 0),
	CONSTRAINT model_files_bytes_check CHECK (pg_catalog.octet_length(bytes) OPERATOR(pg_catalog.<=) 16777216)
);
ALTER TABLE millrace.model_files ALTER COLUMN bytes SET STORAGE EXTERNAL;
COMMENT ON TABLE millrace.model_files IS 'the bytes of models, once per content however many versions name it';
COMMENT ON COLUMN millrace.model_files.sha256 IS 'SHA-256 of the whole content, as in millrace.models';
COMMENT ON COLUMN millrace.model_files.path IS 'file within a model of several files; empty for a model of one';
COMMENT ON COLUMN millrace.model_files.chunk_no IS 'number of the chunk, from 0';
COMMENT ON COLUMN millrace.model_files.bytes IS 'at most 16 MB of the content; every chunk but the last has exactly that';

CREATE TABLE millrace.model_aliases (
	name    text COLLATE "C" NOT NULL,
	alias   text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	set_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	set_by  text NOT NULL DEFAULT CURRENT_USER,
	CONSTRAINT model_aliases_pkey PRIMARY KEY (name, alias)
);
COMMENT ON TABLE millrace.model_aliases IS 'names for versions: champion is what the bare model name means';
COMMENT ON COLUMN millrace.model_aliases.name IS 'model';
COMMENT ON COLUMN millrace.model_aliases.alias IS 'alias: champion, challenger, or any';
COMMENT ON COLUMN millrace.model_aliases.version IS 'version it stands for now';
COMMENT ON COLUMN millrace.model_aliases.set_at IS 'since when';
COMMENT ON COLUMN millrace.model_aliases.set_by IS 'role that set it';

CREATE TABLE millrace.alias_history (
	id               bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT alias_history_pkey PRIMARY KEY,
	name             text COLLATE "C" NOT NULL,
	alias            text COLLATE "C" NOT NULL,
	version          integer,
	previous_version integer,
	set_at           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	set_by           text NOT NULL DEFAULT CURRENT_USER,
	reason           text
);
CREATE INDEX alias_history_name_alias_idx ON millrace.alias_history (name, alias, id);
COMMENT ON TABLE millrace.alias_history IS 'every change of an alias, in order; see millrace.model_history for "live at T"';
COMMENT ON COLUMN millrace.alias_history.id IS 'order of the changes';
COMMENT ON COLUMN millrace.alias_history.name IS 'model';
COMMENT ON COLUMN millrace.alias_history.alias IS 'alias';
COMMENT ON COLUMN millrace.alias_history.version IS 'version it stood for from then on; null: the alias was removed';
COMMENT ON COLUMN millrace.alias_history.previous_version IS 'version it stood for before; null: the alias was new';
COMMENT ON COLUMN millrace.alias_history.set_at IS 'when; never before the row before it, and the same for all rows of a transaction';
COMMENT ON COLUMN millrace.alias_history.set_by IS 'role that did it';
COMMENT ON COLUMN millrace.alias_history.reason IS 'why, in the words of whoever did it';

CREATE TABLE millrace.model_lineage (
	name           text COLLATE "C" NOT NULL,
	version        integer NOT NULL,
	parent_name    text COLLATE "C" NOT NULL,
	parent_version integer NOT NULL,
	role           text NOT NULL,
	CONSTRAINT model_lineage_pkey PRIMARY KEY (name, version, parent_name, parent_version, role)
);
CREATE INDEX model_lineage_parent_idx ON millrace.model_lineage (parent_name, parent_version);
COMMENT ON TABLE millrace.model_lineage IS 'which version was made from, or runs on, which other';
COMMENT ON COLUMN millrace.model_lineage.name IS 'the child';
COMMENT ON COLUMN millrace.model_lineage.version IS 'version of the child';
COMMENT ON COLUMN millrace.model_lineage.parent_name IS 'the parent';
COMMENT ON COLUMN millrace.model_lineage.parent_version IS 'version of the parent';
COMMENT ON COLUMN millrace.model_lineage.role IS
	'backbone: the child runs it; descriptors_of: the child was trained on its descriptors; quantized_from: the child is it in int8';

CREATE TABLE millrace.evaluations (
	id                bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT evaluations_pkey PRIMARY KEY,
	name              text COLLATE "C" NOT NULL,
	version           integer NOT NULL,
	query             text NOT NULL,
	target            text NOT NULL,
	options           jsonb NOT NULL DEFAULT '{}',
	rows              bigint NOT NULL,
	task              text NOT NULL,
	accuracy          double precision,
	balanced_accuracy double precision,
	precision_macro   double precision,
	recall_macro      double precision,
	f1_macro          double precision,
	f1_weighted       double precision,
	log_loss          double precision,
	brier             double precision,
	metrics           jsonb NOT NULL,
	per_class         jsonb,
	confusion         jsonb,
	snapshot          text NOT NULL,
	predict_us        double precision NOT NULL,
	evaluated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	evaluated_by      text NOT NULL DEFAULT CURRENT_USER,
	CONSTRAINT evaluations_task_check CHECK (task IN ('classification', 'regression'))
);
CREATE INDEX evaluations_name_version_idx ON millrace.evaluations (name, version, id);
COMMENT ON TABLE millrace.evaluations IS 'how well a model did on the rows of a query, written by evaluate_model(); its curves and worst rows are in millrace.evaluation_curves and millrace.evaluation_errors';
COMMENT ON COLUMN millrace.evaluations.id IS 'what evaluate_model() returned';
COMMENT ON COLUMN millrace.evaluations.name IS 'model';
COMMENT ON COLUMN millrace.evaluations.version IS 'version of the model';
COMMENT ON COLUMN millrace.evaluations.query IS 'query that gave the rows';
COMMENT ON COLUMN millrace.evaluations.target IS 'its column with the true labels';
COMMENT ON COLUMN millrace.evaluations.options IS 'options of the call';
COMMENT ON COLUMN millrace.evaluations.rows IS 'rows with a target';
COMMENT ON COLUMN millrace.evaluations.task IS 'classification, or regression, for which the columns of classes are null';
COMMENT ON COLUMN millrace.evaluations.accuracy IS 'share of the rows classified right';
COMMENT ON COLUMN millrace.evaluations.balanced_accuracy IS 'mean recall of the classes that have rows';
COMMENT ON COLUMN millrace.evaluations.precision_macro IS 'mean precision of the classes';
COMMENT ON COLUMN millrace.evaluations.recall_macro IS 'mean recall of the classes';
COMMENT ON COLUMN millrace.evaluations.f1_macro IS 'mean F1 of the classes';
COMMENT ON COLUMN millrace.evaluations.f1_weighted IS 'mean F1 of the classes, weighted by their rows';
COMMENT ON COLUMN millrace.evaluations.log_loss IS 'mean of -ln of the probability given to the true label, at least 2.2e-16';
COMMENT ON COLUMN millrace.evaluations.brier IS 'mean squared distance of the probabilities from the truth, 0 to 2';
COMMENT ON COLUMN millrace.evaluations.metrics IS 'all figures of the task; roc_auc and pr_auc are of one label against the rest, mean of the labels, taken from ranked_rows of the rows where that is given';
COMMENT ON COLUMN millrace.evaluations.per_class IS 'precision, recall, f1, support, predicted rows, roc_auc, pr_auc and calibration_error by label';
COMMENT ON COLUMN millrace.evaluations.confusion IS 'labels, and counts by true label (row) and predicted label (column); null past 200 labels';
COMMENT ON COLUMN millrace.evaluations.snapshot IS 'what the query saw: pg_current_snapshot()';
COMMENT ON COLUMN millrace.evaluations.predict_us IS 'mean microseconds a row, in sets';
COMMENT ON COLUMN millrace.evaluations.evaluated_at IS 'when';
COMMENT ON COLUMN millrace.evaluations.evaluated_by IS 'role that asked';

-- Row triggers, since the apply worker of logical replication fires no others;
-- ALWAYS, since it runs with session_replication_role = replica.
CREATE TRIGGER models_changed AFTER INSERT OR UPDATE OR DELETE ON millrace.models
	FOR EACH ROW EXECUTE FUNCTION millrace.models_changed();
CREATE TRIGGER models_truncated AFTER TRUNCATE ON millrace.models
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.models_changed();
CREATE TRIGGER aliases_changed AFTER INSERT OR UPDATE OR DELETE ON millrace.model_aliases
	FOR EACH ROW EXECUTE FUNCTION millrace.models_changed();
CREATE TRIGGER aliases_truncated AFTER TRUNCATE ON millrace.model_aliases
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.models_changed();
ALTER TABLE millrace.models ENABLE ALWAYS TRIGGER models_changed;
ALTER TABLE millrace.models ENABLE ALWAYS TRIGGER models_truncated;
ALTER TABLE millrace.model_aliases ENABLE ALWAYS TRIGGER aliases_changed;
ALTER TABLE millrace.model_aliases ENABLE ALWAYS TRIGGER aliases_truncated;

CREATE TRIGGER models_guard BEFORE UPDATE OR DELETE ON millrace.models
	FOR EACH ROW EXECUTE FUNCTION millrace.models_guard();
CREATE TRIGGER model_files_guard BEFORE UPDATE ON millrace.model_files
	FOR EACH ROW EXECUTE FUNCTION millrace.models_guard();
COMMENT ON TRIGGER models_changed ON millrace.models IS 'invalidates the sessions'' model caches';
COMMENT ON TRIGGER models_truncated ON millrace.models IS 'invalidates the sessions'' model caches';
COMMENT ON TRIGGER aliases_changed ON millrace.model_aliases IS 'invalidates the sessions'' model caches';
COMMENT ON TRIGGER aliases_truncated ON millrace.model_aliases IS 'invalidates the sessions'' model caches';
COMMENT ON TRIGGER models_guard ON millrace.models IS 'versions are immutable and stay';
COMMENT ON TRIGGER model_files_guard ON millrace.model_files IS 'bytes are immutable';

SELECT pg_catalog.pg_extension_config_dump('millrace.models', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.model_files', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.model_aliases', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.alias_history', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.alias_history_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.model_lineage', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.evaluations', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.evaluations_id_seq', '');

-- Whoever manages models or pipelines may also use them.
GRANT millrace_user TO millrace_modeler, millrace_admin;
GRANT SELECT ON millrace.models, millrace.model_aliases, millrace.alias_history, millrace.model_lineage, millrace.evaluations
	TO millrace_user, millrace_monitor;
GRANT REFERENCES (name, version) ON millrace.models TO millrace_user;
