-- learn: points of curves

CREATE TYPE millrace.roc_point AS (
	threshold           double precision,
	false_positive_rate double precision,
	true_positive_rate  double precision
);
COMMENT ON TYPE millrace.roc_point IS
	'a point of a ROC curve: what a score of threshold and above gives; threshold Infinity: nothing is positive';

CREATE TYPE millrace.pr_point AS (
	threshold   double precision,
	recall      double precision,
	"precision" double precision
);
COMMENT ON TYPE millrace.pr_point IS
	'a point of a precision-recall curve: what a score of threshold and above gives; threshold Infinity: nothing is positive, precision 1';

CREATE TYPE millrace.calibration_bin AS (
	low              double precision,
	high             double precision,
	"rows"           bigint,
	mean_probability double precision,
	frequency        double precision
);
COMMENT ON TYPE millrace.calibration_bin IS
	'rows whose probability is above low and at most high: its mean, and how often it came true';
