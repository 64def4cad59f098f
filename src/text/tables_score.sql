-- text: what scores of texts are weighted, rescaled and judged by; refusal phrases
--
-- Rows are written by functions only, but for refusal_phrases, which is the user's.
-- No foreign keys to models: see registry/tables.sql.

CREATE TABLE millrace.score_idf (
	name       text COLLATE "C" NOT NULL,
	model      text COLLATE "C" NOT NULL,
	vocabulary integer NOT NULL,
	documents  bigint NOT NULL,
	token_ids  integer[] NOT NULL,
	counts     integer[] NOT NULL,
	query      text NOT NULL,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by text NOT NULL DEFAULT CURRENT_USER,
	CONSTRAINT score_idf_pkey PRIMARY KEY (name),
	CONSTRAINT score_idf_name_check CHECK (pg_catalog.octet_length(name) BETWEEN 1 AND 128)
);
COMMENT ON TABLE millrace.score_idf IS 'how many documents contain each token: IDF weights of BERTScore, made by millrace.build_idf()';
COMMENT ON COLUMN millrace.score_idf.name IS 'what option idf and a specification''s score.idf name';
COMMENT ON COLUMN millrace.score_idf.model IS 'the encoder that cut the documents, as name:version';
COMMENT ON COLUMN millrace.score_idf.vocabulary IS 'tokens of its vocabulary; other encoders must have as many';
COMMENT ON COLUMN millrace.score_idf.documents IS 'documents counted';
COMMENT ON COLUMN millrace.score_idf.token_ids IS 'tokens that occur, ascending';
COMMENT ON COLUMN millrace.score_idf.counts IS 'documents that contain each; its weight is ln((documents + 1) / (count + 1))';
COMMENT ON COLUMN millrace.score_idf.query IS 'the query that gave the documents';
COMMENT ON COLUMN millrace.score_idf.created_at IS 'when it was made';
COMMENT ON COLUMN millrace.score_idf.created_by IS 'role that made it';

CREATE TABLE millrace.score_baselines (
	name        text COLLATE "C" NOT NULL,
	version     integer NOT NULL,
	layer       integer NOT NULL,
	"precision" double precision NOT NULL,
	recall      double precision NOT NULL,
	f1          double precision NOT NULL,
	pairs       bigint NOT NULL,
	query       text NOT NULL,
	created_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by  text NOT NULL DEFAULT CURRENT_USER,
	CONSTRAINT score_baselines_pkey PRIMARY KEY (name, version, layer),
	CONSTRAINT score_baselines_figures_check CHECK ("precision" OPERATOR(pg_catalog.<) 1 AND recall OPERATOR(pg_catalog.<) 1
		AND f1 OPERATOR(pg_catalog.<) 1)
);
COMMENT ON TABLE millrace.score_baselines IS 'mean BERTScore of pairs of texts that have nothing to do with each other, made by millrace.build_score_baseline(): what rescaling makes 0';
COMMENT ON COLUMN millrace.score_baselines.name IS 'the encoder';
COMMENT ON COLUMN millrace.score_baselines.version IS 'its version';
COMMENT ON COLUMN millrace.score_baselines.layer IS 'layer whose vectors were matched';
COMMENT ON COLUMN millrace.score_baselines."precision" IS 'mean precision';
COMMENT ON COLUMN millrace.score_baselines.recall IS 'mean recall';
COMMENT ON COLUMN millrace.score_baselines.f1 IS 'mean F1';
COMMENT ON COLUMN millrace.score_baselines.pairs IS 'pairs measured';
COMMENT ON COLUMN millrace.score_baselines.query IS 'the query that gave the texts';
COMMENT ON COLUMN millrace.score_baselines.created_at IS 'when it was made';
COMMENT ON COLUMN millrace.score_baselines.created_by IS 'role that made it';

CREATE TABLE millrace.score_calibrations (
	name               text COLLATE "C" NOT NULL,
	version            integer NOT NULL,
	layer              integer NOT NULL,
	idf                text COLLATE "C" NOT NULL DEFAULT '',
	criterion          text NOT NULL,
	threshold          double precision NOT NULL,
	rescaled_threshold double precision,
	raw                double precision[] NOT NULL,
	calibrated         double precision[] NOT NULL,
	examples           bigint NOT NULL,
	correct            bigint NOT NULL,
	false_accepts      bigint NOT NULL,
	false_rejects      bigint NOT NULL,
	auc                double precision NOT NULL,
	query              text NOT NULL,
	created_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	created_by         text NOT NULL DEFAULT CURRENT_USER,
	CONSTRAINT score_calibrations_pkey PRIMARY KEY (name, version, layer, idf),
	CONSTRAINT score_calibrations_criterion_check CHECK (criterion IN ('youden', 'equal_rates'))
);
COMMENT ON TABLE millrace.score_calibrations IS 'scales on which 0.75 is the threshold of a quality gate, found from judged examples by millrace.calibrate_score()';
COMMENT ON COLUMN millrace.score_calibrations.name IS 'the encoder';
COMMENT ON COLUMN millrace.score_calibrations.version IS 'its version';
COMMENT ON COLUMN millrace.score_calibrations.layer IS 'layer whose vectors were matched';
COMMENT ON COLUMN millrace.score_calibrations.idf IS 'IDF weights, of millrace.score_idf; empty: none';
COMMENT ON COLUMN millrace.score_calibrations.criterion IS 'youden: most correct accepted less wrong accepted, as shares; equal_rates: the same share of each wrongly';
COMMENT ON COLUMN millrace.score_calibrations.threshold IS 'F1, not rescaled, that an accepted answer exceeds';
COMMENT ON COLUMN millrace.score_calibrations.rescaled_threshold IS 'the same rescaled by millrace.score_baselines; null: no baseline of this layer';
COMMENT ON COLUMN millrace.score_calibrations.raw IS 'knots of the scale: F1, not rescaled';
COMMENT ON COLUMN millrace.score_calibrations.calibrated IS 'what each becomes; between them straight lines';
COMMENT ON COLUMN millrace.score_calibrations.examples IS 'judged examples';
COMMENT ON COLUMN millrace.score_calibrations.correct IS 'of them, those judged correct';
COMMENT ON COLUMN millrace.score_calibrations.false_accepts IS 'wrong ones above the threshold';
COMMENT ON COLUMN millrace.score_calibrations.false_rejects IS 'correct ones not above it';
COMMENT ON COLUMN millrace.score_calibrations.auc IS 'probability that a correct one scores above a wrong one';
COMMENT ON COLUMN millrace.score_calibrations.query IS 'the query that gave the examples';
COMMENT ON COLUMN millrace.score_calibrations.created_at IS 'when it was made';
COMMENT ON COLUMN millrace.score_calibrations.created_by IS 'role that made it';

CREATE TABLE millrace.refusal_phrases (
	phrase  text COLLATE "C" NOT NULL,
	refuses boolean NOT NULL DEFAULT true,
	CONSTRAINT refusal_phrases_pkey PRIMARY KEY (phrase),
	CONSTRAINT refusal_phrases_phrase_check CHECK (pg_catalog.octet_length(phrase) BETWEEN 1 AND 500)
);
COMMENT ON TABLE millrace.refusal_phrases IS 'the user''s own phrases that millrace.text_stats() takes for a refusal, beside those of millrace.shipped_refusal_phrases()';
COMMENT ON COLUMN millrace.refusal_phrases.phrase IS 'words in a row; case and punctuation do not matter';
COMMENT ON COLUMN millrace.refusal_phrases.refuses IS 'false: not a refusal here, though shipped as one';

SELECT pg_catalog.pg_extension_config_dump('millrace.score_idf', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.score_baselines', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.score_calibrations', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.refusal_phrases', '');

GRANT SELECT ON millrace.score_idf, millrace.score_baselines, millrace.score_calibrations TO millrace_user, millrace_monitor;
GRANT SELECT ON millrace.refusal_phrases TO millrace_user;
GRANT INSERT, UPDATE, DELETE ON millrace.refusal_phrases TO millrace_modeler, millrace_admin;
