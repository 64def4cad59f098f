-- registry: curves and worst rows of evaluations

CREATE TABLE millrace.evaluation_curves (
	evaluation bigint NOT NULL,
	label      text COLLATE "C",
	curve      text NOT NULL,
	threshold  double precision[] NOT NULL,
	x          double precision[] NOT NULL,
	y          double precision[] NOT NULL,
	"rows"     bigint[],
	CONSTRAINT evaluation_curves_curve_check CHECK (curve IN ('roc', 'pr', 'calibration'))
);
CREATE INDEX evaluation_curves_evaluation_idx ON millrace.evaluation_curves (evaluation, curve, label);
COMMENT ON TABLE millrace.evaluation_curves IS 'curves of an evaluation, one row each, of at most 200 labels; as points: millrace.evaluation_points';
COMMENT ON COLUMN millrace.evaluation_curves.evaluation IS 'id in millrace.evaluations';
COMMENT ON COLUMN millrace.evaluation_curves.label IS 'label against the rest; null: calibration of the highest probability';
COMMENT ON COLUMN millrace.evaluation_curves.curve IS 'roc, pr, calibration';
COMMENT ON COLUMN millrace.evaluation_curves.threshold IS 'score from which on a row is taken for the label, Infinity: none is; calibration: upper end of the bin';
COMMENT ON COLUMN millrace.evaluation_curves.x IS 'roc: false positive rate; pr: recall; calibration: mean probability';
COMMENT ON COLUMN millrace.evaluation_curves.y IS 'roc: true positive rate; pr: precision; calibration: frequency';
COMMENT ON COLUMN millrace.evaluation_curves."rows" IS 'calibration: rows in the bin';

CREATE TABLE millrace.evaluation_errors (
	evaluation        bigint NOT NULL,
	rank              integer NOT NULL,
	row_no            bigint NOT NULL,
	id                text,
	truth             text NOT NULL,
	predicted         text NOT NULL,
	confidence        double precision,
	truth_probability double precision,
	error             double precision,
	CONSTRAINT evaluation_errors_pkey PRIMARY KEY (evaluation, rank)
);
COMMENT ON TABLE millrace.evaluation_errors IS 'rows that a model got wrong most confidently, or most';
COMMENT ON COLUMN millrace.evaluation_errors.evaluation IS 'id in millrace.evaluations';
COMMENT ON COLUMN millrace.evaluation_errors.rank IS 'from 1, the worst';
COMMENT ON COLUMN millrace.evaluation_errors.row_no IS 'number of the row in the query''s result, rows without a target not counted';
COMMENT ON COLUMN millrace.evaluation_errors.id IS 'the row''s value in the column named by option id';
COMMENT ON COLUMN millrace.evaluation_errors.truth IS 'true label or value';
COMMENT ON COLUMN millrace.evaluation_errors.predicted IS 'predicted label or value';
COMMENT ON COLUMN millrace.evaluation_errors.confidence IS 'probability of the predicted label';
COMMENT ON COLUMN millrace.evaluation_errors.truth_probability IS 'probability of the true label';
COMMENT ON COLUMN millrace.evaluation_errors.error IS 'predicted minus true value, of a regression';

SELECT pg_catalog.pg_extension_config_dump('millrace.evaluation_curves', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.evaluation_errors', '');
GRANT SELECT ON millrace.evaluation_curves TO millrace_user, millrace_monitor;
GRANT SELECT ON millrace.evaluation_errors TO millrace_user;
